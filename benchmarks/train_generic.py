"""Trains the model in the package: facedyn/models/generic.safetensors, with generic.json beside it.

    python benchmarks/train_generic.py

One command: it renders synthetic people, puts them and the GRID clips of ../shared/data into one manifest, runs prepare,
pretrain and fit by configs/generic.py in a temporary folder, and exports the result. --workdir=DIR keeps the folder.
--evaluate measures the file that is there beside models trained on the very people that are measured, and writes that into
generic.json: on the people of ../shared/data/people.csv who are not of GRID (identification), and on the demo's (traits).

The GRID clips: M. Cooke, J. Barker, S. Cunningham, X. Shao, "An audio-visual corpus for speech perception and automatic speech
recognition", JASA 120, 2006, CC BY 4.0.
"""

import argparse
import csv
import dataclasses
import json
import pathlib
import tempfile
import time

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipelines.synthetic.bench import SyntheticSettings, write_bench
from facedyn import FacialDynamics
from facedyn.command_line import parse
from facedyn.config import config_hash
from facedyn.core.identification import match_ranks
from facedyn.main import main as facedyn
from facedyn.store import portable

ROOT = pathlib.Path(__file__).parent.parent
COLUMNS = ("clip_id", "person_id", "path", "task", "session", "split", "aligned")
# (list of the clips, list that names their licences)
LISTS = (("clips.csv", "SOURCES.csv"), ("people.csv", "people_SOURCES.csv"))
# The speakers with a single clip of three seconds: they decide when training stops and teach nothing.
VALIDATION = ("p009", "p012", "p113")
TRAITS = ("extraversion", "emotional_stability", "agreeableness", "conscientiousness", "openness")
REPEATS = 5  # of the cross-validation
SYNTHETIC = SyntheticSettings(people=0, pretrain_people=60, clips_per_task=2, frames=(90, 130), size=64, seed=20)
ATTRIBUTION = (
    "Trained on clips of the GRID corpus (M. Cooke, J. Barker, S. Cunningham, X. Shao, An audio-visual corpus for speech "
    "perception and automatic speech recognition, JASA 120, 2006; CC BY 4.0), cropped to the face, and on synthetic faces."
)


def rows_of(path) -> list[dict]:
    """The rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def grid_clips(folder: pathlib.Path) -> list[dict]:
    """Manifest rows of the GRID clips under `folder`, by the licences that its lists of sources name."""
    found = []
    for clips, sources in LISTS:
        ours = {row["file"] for row in rows_of(folder / sources) if "GRID corpus" in row["repository_licence"]}
        for row in rows_of(folder / clips):
            path = folder / row["path"]
            if path.name in ours:
                split = "validation" if row["person_id"] in VALIDATION else "train"
                found.append(
                    dict(clip_id=row["clip_id"], person_id=f"grid-{row['person_id']}", path=path.absolute(), task="sentence")
                    | dict(session=row.get("session", ""), split=split, aligned="false")
                )
    return found


def synthetic_clips(folder: pathlib.Path) -> list[dict]:
    """Manifest rows of the synthetic people, rendered into `folder`; they are face crops already."""
    manifest = write_bench(folder, SYNTHETIC)
    rows = [row | {"path": (folder / row["path"]).absolute()} for row in rows_of(manifest)]
    named = [row | {name: f"synthetic-{row[name]}" for name in ("clip_id", "person_id")} for row in rows]
    return [{name: row[name] for name in COLUMNS} for row in named]


def write_manifest(data: pathlib.Path, workdir: pathlib.Path) -> tuple[pathlib.Path, list[dict]]:
    """(path of the manifest of all clips, its rows)."""
    rows, path = grid_clips(data) + synthetic_clips(workdir / "synthetic"), workdir / "clips.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path, rows


def train(data: pathlib.Path, workdir: pathlib.Path, out: pathlib.Path, settings: list[str]) -> None:
    """Everything, from the clips to the two files."""
    start = time.monotonic()
    manifest, rows = write_manifest(data, workdir)
    options = ["--config=generic", f"--workdir={workdir}", f"--config.data.manifest={manifest}", *settings]
    for stage in ("prepare", "pretrain", "fit"):
        if facedyn([stage, *options]):
            raise SystemExit(f"The stage {stage} failed.")
    if facedyn(["export", f"--workdir={workdir}", f"--out={out}", f"--note={ATTRIBUTION}"]):
        raise SystemExit("The stage export failed.")
    seconds = round(time.monotonic() - start)
    described = description(out, rows, options, seconds)
    out.with_suffix(".json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {out.stat().st_size:,} bytes, {seconds} s")


def description(out: pathlib.Path, rows: list[dict], options: list[str], seconds: int) -> dict:
    """What generic.json says."""
    people = {(row["person_id"], row["split"]) for row in rows}
    return {
        "made_by": "python benchmarks/train_generic.py",
        "attribution": ATTRIBUTION,
        "licence": "CC BY 4.0 (the corpus); Apache-2.0 (the code and the synthetic faces)",
        "config_hash": config_hash(parse(["fit", *options])[1]),
        "people": {
            f"{kind}, {split}": sum(who.startswith(kind) and of == split for who, of in people)
            for kind in ("grid", "synthetic")
            for split in ("train", "validation")
        },
        "clips": len(rows),
        "synthetic": dataclasses.asdict(SYNTHETIC),
        "training_seconds": seconds,
        "file": portable.describe(out),
    }


def other_people(data: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Manifest of the people who are not of GRID, written into `folder`."""
    ours = {row["clip_id"] for row in grid_clips(data)}
    rows = [row | {"path": (data / row["path"]).absolute()} for row in rows_of(data / "people.csv")]
    rows = [row for row in rows if row["clip_id"] not in ours]
    with open(folder / "others.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder / "others.csv"


def identified(model: pathlib.Path, manifest: pathlib.Path) -> dict:
    """How many people are found from one session in the other, by block."""
    features = transformed(model, manifest, "session")
    first, second = (features.xs(session, level="session") for session in ("s1", "s2"))
    both = first.index.intersection(second.index)
    found = {"people": len(both), "chance": 1 / len(both)}
    for name in sorted({column.split(".")[2] for column in features}) + [""]:
        own = [column for column in features if name in ("", column.split(".")[2])]
        one, other = first.loc[both, own].to_numpy(), second.loc[both, own].to_numpy()
        top1 = [float((match_ranks(*pair) == 1).mean()) for pair in ((one, other), (other, one))]
        found[f"top1 of {name or 'all blocks'}"] = sum(top1) / 2
    return found


def transformed(model: pathlib.Path, manifest: pathlib.Path, level: str):
    """Features of the videos by the model."""
    return FacialDynamics(model, level=level, settings={"data.workers": 0}, progress=True).transform(manifest)


def predicted(model: pathlib.Path, manifest: pathlib.Path) -> dict:
    """How well scikit-learn's ridge predicts the traits of the manifest from the features: mean PCC, with a 95 % interval."""
    features, labels = transformed(model, manifest, "person"), pd.read_csv(manifest).groupby("person_id").first()
    labels = labels.loc[features.index, [name for name in labels if name in TRAITS]].to_numpy()
    told = np.zeros((REPEATS, *labels.shape))
    for repeat in range(REPEATS):
        for train, test in KFold(5, shuffle=True, random_state=repeat).split(labels):
            head = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 13), alpha_per_target=True))
            told[repeat, test] = head.fit(features.iloc[train], labels[train]).predict(features.iloc[test])

    def mean_pcc(rows):
        return np.mean([np.corrcoef(labels[rows, k], told.mean(0)[rows, k])[0, 1] for k in range(labels.shape[1])])

    random, n = np.random.default_rng(0), len(labels)
    interval = np.percentile([mean_pcc(random.integers(0, n, n)) for _ in range(1000)], [2.5, 97.5])
    return {"people": n, "mean PCC": float(mean_pcc(np.arange(n))), "95 % interval": interval.tolist()}


def evaluate(data: pathlib.Path, out: pathlib.Path, folder: pathlib.Path) -> dict:
    """The file `out` beside models that are trained here on the very people that are measured, in `folder`."""
    others, own, demo = other_people(data, folder), folder / "own", folder / "demo"
    for stage in ("prepare", "pretrain", "fit"):
        facedyn([stage, "--config=generic", f"--workdir={own}", f"--config.data.manifest={others}"])
    facedyn(["run", "--config=demo", f"--workdir={demo}"])
    synthetic = folder / "synthetic.csv"  # without those whom the demo's own model has learnt from
    people = pd.read_csv(demo / "synthetic" / "manifest.csv")
    people["path"] = [(demo / "synthetic" / path).absolute() for path in people["path"]]
    people[people["split"] == "test"].to_csv(synthetic, index=False)
    return {
        "people of other sources": {"shipped": identified(out, others), "own": identified(own, others)},
        "people of the demo": {"shipped": predicted(out, synthetic), "own": predicted(demo, synthetic)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "facedyn" / "models" / "generic.safetensors")
    parser.add_argument("--workdir", type=pathlib.Path, help="keeps what is made on the way")
    parser.add_argument("--evaluate", action="store_true", help="trains no new file, measures the one that is there")
    given, settings = parser.parse_known_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="facedyn-generic-") as temporary:
        workdir = (given.workdir or pathlib.Path(temporary) / "run").absolute()
        workdir.mkdir(parents=True, exist_ok=True)
        if not given.evaluate:
            train(given.data.absolute(), workdir, given.out.absolute(), settings)
            return
        about, found = given.out.with_suffix(".json"), evaluate(given.data.absolute(), given.out.absolute(), workdir)
        described = json.loads(about.read_text(encoding="utf-8")) | found
        about.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

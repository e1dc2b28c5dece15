"""A workdir as the earlier stages leave it, with random but plausible content, for the tests of `traits` and `report`."""

import json
import pathlib

import numpy as np
import pandas as pd

from data_pipelines.dataset.face_clips import ClipInfo
from facedyn.config import config_hash, default_config, flatten
from facedyn.store.representations import write_part
from facedyn.store.scores import replace_scores
from facedyn.store.stamps import FORMAT

TASKS = ("talk", "watch")
TRAITS = ("extraversion", "openness")


def small_config(**changes):
    """Settings for a fast stage; keys are written with '__' for the dot."""
    config = default_config()
    config.data.image_size = 8
    config.fit.solver, config.fit.filter_kind, config.fit.filter_sites = "adam", "pointwise", "connections"
    config.fit.blocks = ("filters",)
    config.traits.folds, config.traits.inner_folds = 5, 3
    config.traits.mlp_steps, config.traits.bootstrap = 60, 400
    config.traits.ridge_solver = "closed_form"  # compiles faster
    config.traits.mlp_weight_decay, config.traits.mlp_seeds = (1e-1, 1.0), 2
    for name, value in changes.items():
        section, _, leaf = name.rpartition("__")
        (config[section] if section else config)[leaf] = value
    return config


def people_ids(n):
    return [f"p{i:03d}" for i in range(n)]


class FakeFaceClips:
    """What `traits` uses of FaceClipsReader: two clips a person and task, noise for frames."""

    def __init__(self, labels, trait_names=TRAITS, tasks=TASKS, size=8, splits=()):
        self.trait_names, self.image_size, self.channels, self.appearance = tuple(trait_names), size, 3, "own"
        self.clips = tuple(
            ClipInfo(
                f"{person}-{task}-{take}",
                person,
                task,
                "",
                self.split(splits[i] if splits else "test", task),
                25.0,
                np.arange(6, dtype=np.int32),
                labels[i].astype(np.float32),
            )
            for i, person in enumerate(people_ids(len(labels)))
            for task in tasks
            for take in range(2)
        )

    @staticmethod
    def split(splits, task):
        """The split itself, or, of two, one for each task."""
        return splits if isinstance(splits, str) else splits[TASKS.index(task)]

    def frames(self, i, positions=None):
        n = len(self.clips[i].frame_indices) if positions is None else len(positions)
        return np.random.default_rng(i).integers(0, 255, (n, self.image_size, self.image_size, 3), dtype=np.uint8)


def planted(n=48, d=24, scales=(1, 2), tasks=TASKS, noise=0.5, seed=0):
    """Labels [n, 2] and table rows whose representations hold them: (labels, rows, vectors)."""
    rng = np.random.default_rng(seed)
    labels = 0.5 + 0.15 * rng.normal(size=(n, len(TRAITS)))
    rows, vectors = [], []
    for scale in scales:
        for task in tasks:
            mixing = rng.normal(size=(len(TRAITS), d))
            block = (labels - 0.5) / 0.15 @ mixing + noise * d**0.5 * rng.normal(size=(n, d))
            for person, vector in zip(people_ids(n), block):
                rows.append(table_row(person, task, scale, rng))
                vectors.append(vector)
    return labels, rows, np.asarray(vectors, np.float32)


def table_row(person, task, scale, rng):
    generic = 0.8 + 0.03 * rng.normal()
    return dict(
        unit_id=f"{person}/{task}" if task else person,
        person_id=person,
        task=task,
        session="",
        scale=scale,
        n_frames=200,
        ranking_accuracy_generic=generic,
        ranking_accuracy_fitted=generic + 0.02,
        loss=0.5,
        finite=True,
        config_hash="0" * 12,
    )


def write_table(workdir, rows, vectors):
    """The rows as two parts of the table of representations."""
    half = len(rows) // 2
    for chosen in (slice(0, half), slice(half, None)):
        write_part(pathlib.Path(workdir) / "representations", rows[chosen], vectors[chosen])


def write_halves(workdir, rows, vectors):
    """Filters of both halves of each unit: those of the table with noise of their own."""
    rng = np.random.default_rng(3)
    for half in "12":
        own = [row | dict(unit_id=f"{row['unit_id']}#{half}") for row in rows]
        noisy = (vectors + 0.3 * rng.normal(size=vectors.shape)).astype(np.float32)
        write_part(pathlib.Path(workdir) / "representations" / "halves", own, noisy)


def write_weights(workdir, traits=TRAITS, scales=(1, 2), tasks=TASKS, sites=("skip0", "bottleneck")):
    """traits/weights_by_site.csv, the shares of a trait adding up to 1."""
    rng, rows = np.random.default_rng(4), []
    for trait in traits:
        places = [(scale, task, site) for scale in scales for task in tasks for site in sites]
        shares = rng.dirichlet(np.ones(len(places)), 2)
        rows += [(trait, *place, 16, *share) for place, share in zip(places, shares.T)]
    columns = ["trait", "scale", "task", "site", "weights", "share_of_squared_weights", "share_of_prediction"]
    path = pathlib.Path(workdir) / "traits" / "weights_by_site.csv"
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


def write_doctor(workdir, item):
    """doctor.csv with a defect of six clips, one of them `item`, and a warning."""
    what, fix = "6 of 48 (12.5 %) clips were prepared from another file.", "Run prepare again."
    rows = [("error", "stale_frames", name, "", what, fix) for name in (item, *people_ids(5))]
    rows.append(("warning", "label_gaps", "p001", "", "Labels lack: openness in 1 clip.", "Fill the cells that are known."))
    columns = ["severity", "kind", "item", "detail", "what", "fix"]
    pd.DataFrame(rows, columns=columns).to_csv(pathlib.Path(workdir) / "doctor.csv", index=False)


def write_stamp(workdir, stage, config, **summary):
    """WORKDIR/stages/<stage>.json."""
    flat = json.loads(json.dumps(flatten(config), default=list))
    versions = {"facedyn": "0.2.0", "python": "3.11.9", "jax": "0.10.2"}
    stamp = dict(
        stage=stage,
        format=FORMAT,
        config_hash=config_hash(config),
        config=flat,
        versions=versions,
        command=f"facedyn {stage} --workdir=w",
        relevant={},
    )
    stamp |= dict(started="2026-01-01T10:00:00+00:00", finished="2026-01-01T10:03:20+00:00", summary=summary)
    path = pathlib.Path(workdir) / "stages" / f"{stage}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(stamp), encoding="utf-8")


def write_pretraining(workdir, scales=(1, 2), steps=600):
    """metrics.jsonl and the scores of the stages pretrain and fit."""
    rng = np.random.default_rng(1)
    lines = []
    for scale in scales:
        for step in range(0, steps + 1, 50):
            accuracy = 0.5 + (0.33 - 0.02 * scale) * (1 - np.exp(-step / 120)) + 0.004 * rng.normal()
            line = {"stage": "pretrain", "scale": scale, "step": step, "loss": 1.6 - accuracy, "time": 1.7e9 + step}
            lines.append(line | ({"ranking_accuracy": accuracy} if step % 100 == 0 else {}))
    path = pathlib.Path(workdir) / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def row(method, metric, value, n=14, **columns):
        return dict(method=method, metric=metric, value=value, low=value - 0.02, high=value + 0.02, n=n) | columns

    controls = {"generic": 0.81, "zero_map": 0.0, "copy_input": 0.65, "untrained": 0.53, "oracle_dynamic_image": 0.97}
    # Copied input does better on the validation people, whom the learning curves are of.
    validation = controls | {"copy_input": 0.74}
    pretrain = [
        row(m, "ranking_accuracy", v - 0.01 * s, scales=str(s), split=split)
        for s in scales
        for split, of_split in (("validation", validation), ("test", controls))
        for m, v in of_split.items()
    ]
    replace_scores(workdir, "pretrain", pretrain)
    fitted = {"generic": 0.805, "representation": 0.833, "representation_minus_generic": 0.028}
    fit = [row(m, "ranking_accuracy", v, 48, scales=str(s)) for s in scales for m, v in fitted.items()]
    fit += [row("split_half", m, v, 48, scales="1+2", unit="person_task") for m, v in (("top1", 0.73), ("mrr", 0.81))]
    replace_scores(workdir, "fit", fit)


def write_quality(workdir, n=48, person="p007"):
    """quality.parquet with a few clips left out, one of them of `person`."""
    rng = np.random.default_rng(2)
    rows = []
    for i, name in enumerate(people_ids(n)):
        found = float(np.clip(rng.normal(0.985, 0.02), 0, 1))
        rows.append(
            dict(clip_id=f"{name}-talk-0", person_id=name, path=f"videos/{name}.mp4", verdict="ok", reason="", n_decoded=200)
            | dict(
                n_found=int(200 * found), n_kept=int(200 * found), share_found=found, n_two_faces=int(i % 9 == 0), n_gaps=i % 3
            )
            | dict(
                jitter=float(rng.gamma(2, 0.1)),
                mean_confidence=0.9,
                face_size=120.0,
                brightness=110.0,
                sharpness=60.0,
                fps=25.0,
            )
        )
    reasons = ("no face was found in any of 200 frames", "the video file is truncated after 3 frames")
    rows[3] |= dict(verdict="left_out", reason=reasons[0], n_kept=0, n_found=0, share_found=0.0)
    rows[7] |= dict(verdict="left_out", reason=reasons[1], n_kept=0, person_id=person, share_found=0.01)
    pd.DataFrame(rows).to_parquet(pathlib.Path(workdir) / "quality.parquet", index=False)


def write_examples(workdir, people=("p000", "p013"), scales=(1, 2), size=32, half_length=4, maps=2):
    """representations/examples.npz: a face of discs whose mouth opens, and maps where it moves."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1

    def face(opening, tone):
        grey = np.where(x**2 + (y * 0.85) ** 2 < 0.8, tone, 0.25)
        for side in (-0.35, 0.35):
            grey = np.where((x - side) ** 2 + (y + 0.25) ** 2 < 0.02, 0.1, grey)
        grey = np.where((x / 0.4) ** 2 + ((y - 0.45) / (0.05 + opening)) ** 2 < 1, 0.2, grey)
        return np.stack([grey, grey * 0.85, grey * 0.75], -1)

    mouth = np.exp(-((x / 0.4) ** 2) - ((y - 0.45) / 0.2) ** 2)[..., None] * np.ones(3)
    columns = {name: [] for name in ("frame", "windows", "generic", "fitted", "person_id", "scale")}
    for scale in scales:
        for i, person in enumerate(people):
            window = [face(0.05 + 0.03 * abs(k) * scale, 0.6 + 0.15 * i) for k in range(-half_length, half_length + 1)]
            window = (255 * np.stack(window)).astype(np.uint8)
            noise = np.random.default_rng(i).normal(size=(2, size, size, 3)) * 0.1
            both = np.stack([mouth, -mouth * (1 - 2 * (y > 0.45))[..., None]])[:maps]
            columns["windows"].append(window)
            columns["frame"].append(window[half_length])
            columns["generic"].append(both * 0.5 + noise[:maps])
            columns["fitted"].append(both + noise[:maps])
            columns["person_id"].append(person)
            columns["scale"].append(scale)
    arrays = {name: np.stack(values) for name, values in columns.items()}
    arrays["generic"], arrays["fitted"] = arrays["generic"].astype(np.float32), arrays["fitted"].astype(np.float32)
    folder = pathlib.Path(workdir) / "representations"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "examples.npz", **arrays)

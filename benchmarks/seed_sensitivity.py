"""How far representations, and what is predicted from them, move with the seed alone.

    facedyn prepare --config=configs/demo.py --workdir=W ...; facedyn pretrain --config=configs/demo.py --workdir=W ...
    python benchmarks/seed_sensitivity.py --workdir=W --config=configs/demo.py [--seeds 0 1 2] [--pretrain]
                                          [--config.NAME=VALUE ...] [--out seeds.json]

People, clips and folds are those of the config's own seed throughout. Table 'fit': W's generic model, the fit's draws at
each seed; solvers other than 'adam' draw nothing, so one fit is all there is. Table 'generic', with --pretrain: a generic
model trained at each seed, the fit's draws as they were. Every run goes through the stages as they are, in a folder of its own
under W/seeds; a second call computes nothing again.

A person's representation is all scales and tasks, every run z-scored by itself over its people. Figures are means over the
pairs of seeds. Median cosine of a person at two seeds, and of two people at one; `moved`: how far a person moves between
seeds, as a share of how far people are apart; ICC of the leading components; top-1: a person of one seed looked up among all
people of the other; `geometry`: correlation of the cosines between people at one seed with those at the other, which no change
of basis alters.
"""

import argparse
import itertools
import json
import pathlib

import numpy as np
import pandas as pd
import scipy.spatial
from machine import machine
from variants import figures, link, run_stages

from facedyn.config_files import load_config, override
from facedyn.core import identification
from facedyn.stages.fit import fit_scores
from facedyn.stages.traits import trait_features
from facedyn.store.representations import load_representations

# Solvers whose fits depend on the seed; the others look at every frame once.
DRAWING = ("adam",)


def by_person(folder: pathlib.Path) -> pd.DataFrame:
    """One row per person with all scales and tasks, z-scored."""
    rows, vectors = load_representations(folder)
    people = sorted(set(rows["person_id"].astype(str)))
    blocks = trait_features.blocks_by_person(rows, vectors, people)
    table = pd.DataFrame(trait_features.matrix(blocks, trait_features.feature_sets(blocks)[0]), people).dropna()
    return pd.DataFrame(np.asarray(identification.standardised(table.to_numpy(), table.to_numpy())[0]), table.index)


def compare(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """Figures of two runs, of the people who are in both."""
    people = first.index.intersection(second.index)
    a, b = first.loc[people].to_numpy(), second.loc[people].to_numpy()
    between_seeds, within = np.asarray(identification.similarities(a, b)), np.asarray(identification.similarities(a, a))
    other = ~np.eye(len(people), dtype=bool)
    apart = np.median(scipy.spatial.distance.pdist(a))
    components = identification.leading_components(a, b, fit_scores.COMPONENTS)
    return {
        "cosine, same person": np.median(np.diagonal(between_seeds)),
        "cosine, two people": np.median(within[other]),
        "moved": np.median(np.linalg.norm(a - b, axis=1)) / apart,
        "ICC": float(identification.mean_icc(*components, np.ones(components[0].shape))),
        "top1": float(np.mean(np.asarray(identification.match_ranks(a, b)) == 1)),
        "geometry": np.corrcoef(within[other], np.asarray(identification.similarities(b, b))[other])[0, 1],
    }


def fitted(a, name: str, generic: pathlib.Path, flags, seed: int) -> pathlib.Path:
    """The folder of a run with representations and scores; `seed` is that of the fit alone."""
    folder = a.workdir / "seeds" / name
    link(folder, generic=generic, synthetic=a.workdir / "synthetic", pretrain_data=a.workdir / "pretrain_data")
    run_stages(["fit"], folder, [*flags, f"--config.seed={seed}"])
    run_stages(["traits"], folder, flags)
    return folder


def summary(folders: dict) -> tuple[dict, list[dict]]:
    """(figures over the pairs of runs, what each run scores). folders: {seed: folder}."""
    tables = {seed: by_person(folder) for seed, folder in folders.items()}
    pairs = [compare(tables[i], tables[j]) for i, j in itertools.combinations(tables, 2)]
    runs = [{"seed": seed} | figures(folder) for seed, folder in folders.items()]
    pcc = [float(run["PCC"].split()[0]) for run in runs if run["PCC"]]
    found = {"seeds": len(folders), "people": len(next(iter(tables.values())))}
    found |= {name: float(np.mean([pair[name] for pair in pairs])) for name in pairs[0]}
    return found | ({"PCC": float(np.mean(pcc)), "PCC sd": float(np.std(pcc, ddof=1))} if pcc else {}), runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain", action="store_true", help="also a generic model at each seed")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    a, others = parser.parse_known_args()
    seeds = sorted(set(a.seeds))
    if len(seeds) < 2:
        parser.error("--seeds needs two that differ")
    for flag in others:
        if not flag.startswith("--config.") or "=" not in flag:
            parser.error(f"{flag} is not understood; settings are given as --config.NAME=VALUE")
    config = load_config(a.config)
    for flag in others:
        override(config, *flag.removeprefix("--config.").split("=", 1))
    flags = [f"--config={a.config}", f"--config.data.data_dir={(a.workdir / 'data').absolute()}"]
    flags += ["--config.report.examples=0", "--config.traits.heads=ridge", "--config.traits.baselines=mean_predictor"]
    flags += ["--config.traits.fused_baselines=", "--config.fit.controls=", *others]

    found, runs = {}, {}
    if config.fit.solver not in DRAWING:
        print(f"fit: {config.fit.solver} draws nothing at random; fits of one generic model are the same at every seed")
    else:
        folders = {s: fitted(a, f"fit_{s}", a.workdir / "generic", flags, s) for s in seeds}
        found["fit"], runs["fit"] = summary(folders)
    if a.pretrain:
        folders = {}
        for seed in seeds:
            place = a.workdir
            if seed != config.seed:
                place = a.workdir / "seeds" / f"generic_{seed}"
                link(place, pretrain_data=a.workdir / "pretrain_data")
                run_stages(["pretrain"], place, [*flags, f"--config.seed={seed}"])
            folders[seed] = fitted(a, f"generic_{seed}_fitted", place / "generic", flags, config.seed)
        found["generic"], runs["generic"] = summary(folders)
    for name, of_runs in runs.items():
        print(f"\n{name}: what each seed scores\n{pd.DataFrame(of_runs).to_string(index=False)}")
    if found:
        table = pd.DataFrame(found).T.rename_axis("other seeds of")
        print(f"\n{table.to_string(float_format='{:.3f}'.format)}\n{machine()}")
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps({"machine": machine(), "found": found, "runs": runs}, indent=1))


if __name__ == "__main__":
    main()

"""Mean trait PCC over several draws of a bench: of the representation, of `linear_dynamics`, and the difference.

    facedyn run --config=bench_two --config.seed=1 --workdir=W1   # and so on: other people, movement and starting weights
    python benchmarks/draws.py W1 W2 ... [--one representation] [--other linear_dynamics]

One draw has 96 or 120 people, and its interval is as wide as the differences that matter. PCC is taken within each draw and
trait, and then the mean; the 95 % interval resamples the people within each draw, both methods by the same ones. The last
column, over draws: how much the difference varies from draw to draw, starting weights included.
"""

import argparse
import pathlib

import numpy as np
import pyarrow.parquet as pq

RESAMPLES = 2000
HEAD = {"head": ("banded_ridge", "ridge"), "block": ("",), "scales": ("1+2", "1+2+4", "1", ""), "fusion": ("features", "")}


def predictions(workdir, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels [P, T] of a method by its first head, all scales and blocks together."""
    table = pq.read_table(pathlib.Path(workdir) / "traits" / "predictions.parquet").to_pandas()
    table = table[table["method"] == method]
    for column, order in HEAD.items():
        there = table[column].fillna("")
        table = table[there == next((value for value in order if (there == value).any()), there.iloc[0])]
    people = table.pivot(index="person_id", columns="trait", values=["prediction", "label"])
    return people["prediction"].to_numpy(float), people["label"].to_numpy(float)


def pcc(predicted, labels):
    """Mean over traits of Pearson's correlation over people, [...] of [..., P, T]."""
    a, b = (x - x.mean(-2, keepdims=True) for x in (predicted, labels))
    return ((a * b).sum(-2) / np.sqrt((a * a).sum(-2) * (b * b).sum(-2))).mean(-1)


def drawn(workdir, methods, random) -> tuple[np.ndarray, np.ndarray]:
    """(PCC of the methods [M], the same of resampled people [RESAMPLES, M])."""
    of_all = [predictions(workdir, method) for method in methods]
    picks = random.integers(0, len(of_all[0][0]), (RESAMPLES, len(of_all[0][0])))
    found = np.array([pcc(*own) for own in of_all])
    return found, np.stack([pcc(predicted[picks], labels[picks]) for predicted, labels in of_all], 1)


def cell(value, resampled) -> str:
    """A figure with its interval."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdirs", nargs="+")
    parser.add_argument("--one", default="representation")
    parser.add_argument("--other", default="linear_dynamics")
    args = parser.parse_args()
    methods, random = (args.one, args.other), np.random.default_rng(0)
    found, resampled = map(np.stack, zip(*(drawn(workdir, methods, random) for workdir in args.workdirs)))
    print(f"| | {args.one} | {args.other} | difference | over draws |\n|---|---|---|---|---|")
    rows = [(workdir, found[i], resampled[i], "") for i, workdir in enumerate(args.workdirs)]
    spread = np.diff(found[:, ::-1]).std(ddof=1) if len(found) > 1 else np.nan
    rows.append((f"mean of {len(found)}", found.mean(0), resampled.mean(0), f"{spread:.3f}"))
    for name, own, again, note in rows:
        one, other = (cell(own[i], again[:, i]) for i in (0, 1))
        print(f"| {name} | {one} | {other} | {cell(own[0] - own[1], again[:, 0] - again[:, 1])} | {note} |")


if __name__ == "__main__":
    main()

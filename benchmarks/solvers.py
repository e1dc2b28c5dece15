"""Quality against work of the solvers for person filters, on a workdir whose generic model is trained.

    facedyn prepare --config=configs/demo.py --workdir=W ...; facedyn pretrain --config=configs/demo.py --workdir=W ...
    python benchmarks/solvers.py --workdir=W --config=configs/demo.py [--config.NAME=VALUE ...] [--out solvers.json]

Every variant goes through the stages `fit` and `traits` as they are, in a folder of its own under W/solvers; a second call
fits nothing again. Work is the number of centre frames a unit's fit looks at (decoder forward and backward for each).
Columns: held-back ranking accuracy gained over the generic model; split-half identification; mean trait PCC of the ridge.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import pandas as pd
from machine import machine

BATCH = 16
# (solver, steps of Adam or frames a unit, further settings)
VARIANTS = (
    ("adam", 100, {"fit.split_half": False}),  # three times the time otherwise
    *(("gradient", rows, {"fit.learning_rate": 3.0}) for rows in (24, 96)),
    *(("gauss_newton", rows, {}) for rows in (24, 48, 96, 192)),
)


def settings_of(solver: str, amount: int, more: dict) -> dict:
    """Overrides of one variant, by their names in the config."""
    own = {"fit.steps": amount} if solver == "adam" else {"fit.max_frames": amount}
    return {"fit.solver": solver, "fit.max_frames": 192, "fit.batch_size": BATCH, "fit.learning_rate": 1e-2} | own | more


def run_variant(a, name: str, settings: dict) -> float:
    """Fits and scores one variant, unless it has been; seconds of the stage `fit`."""
    folder = a.workdir / "solvers" / name
    folder.mkdir(parents=True, exist_ok=True)
    for shared in ("generic", "synthetic"):
        if (a.workdir / shared).is_dir() and not (folder / shared).exists():
            (folder / shared).symlink_to((a.workdir / shared).absolute())
    flags = [f"--config={a.config}", f"--workdir={folder}", f"--config.data.data_dir={(a.workdir / 'data').absolute()}"]
    always = {"fit.split_half": True, "traits.heads": "ridge", "report.examples": 0}
    flags += [*a.others, *(f"--config.{key}={value}" for key, value in (always | settings).items())]
    seconds = folder / "seconds"
    if not seconds.is_file():
        for stage in ("fit", "traits"):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-m", "facedyn.main", stage, *flags], check=True, stdout=sys.stderr)
            if stage == "fit":
                taken = time.perf_counter() - started
        seconds.write_text(f"{taken}")
    return float(seconds.read_text())


def figures(folder: pathlib.Path) -> dict:
    """What the variant's scores.csv says, each with its 95 % interval."""
    scores = pd.read_csv(folder / "scores.csv", keep_default_na=False)

    def of(method, metric, **equal):
        rows = scores[(scores["method"] == method) & (scores["metric"] == metric)]
        for column, value in equal.items():
            rows = rows[rows[column] == value]
        if rows.empty:
            return ""
        row = rows.iloc[-1]  # the last setting is the one with everything: all scales, all tasks
        return f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"

    return {
        "accuracy gained": of("representation_minus_generic", "ranking_accuracy"),
        "top1": of("split_half", "top1"),
        "PCC": of("representation", "pcc", trait="mean"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--only", default="", help="solvers separated by commas; all")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    a, a.others = parser.parse_known_args()
    rows = []
    for solver, amount, more in VARIANTS:
        if a.only and solver not in a.only.split(","):
            continue
        name = "_".join([solver, str(amount), *(str(v) for v in more.values())])
        seconds = run_variant(a, name, settings_of(solver, amount, more))
        work = amount * BATCH if solver == "adam" else amount
        of_more = ", ".join(f"{key.removeprefix('fit.')} {value}" for key, value in more.items())
        rows.append(
            {"solver": solver, "settings": of_more, "frames": work, "of Adam 100": work / (100 * BATCH), "fit s": seconds}
        )
        rows[-1] |= figures(a.workdir / "solvers" / name)
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    print(f"\n{pd.DataFrame(rows).to_string(index=False)}\n{machine()}")
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps({"machine": machine(), "variants": rows}, indent=1))


if __name__ == "__main__":
    main()

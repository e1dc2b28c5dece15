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

import pandas as pd
from machine import machine
from variants import figures, link, run_stages

BATCH = 16
# Filters through the decoder, whatever the config has.
ITERATIVE = {"fit.filter_kind": "pointwise", "fit.filter_sites": "connections", "fit.blocks": ("filters",), "fit.ridge": 20.0}
# (solver, steps of Adam or frames a unit, further settings)
VARIANTS = (
    ("adam", 100, {"fit.split_half": False}),  # three times the time otherwise
    *(("gradient", rows, {"fit.learning_rate": 3.0}) for rows in (24, 96)),
    *(("gauss_newton", rows, {}) for rows in (24, 48, 96, 192)),
)


def settings_of(solver: str, amount: int, more: dict) -> dict:
    """Overrides of one variant, by their names in the config."""
    own = {"fit.steps": amount} if solver == "adam" else {"fit.max_frames": amount}
    fixed = {"fit.solver": solver, "fit.max_frames": 192, "fit.batch_size": BATCH, "fit.learning_rate": 1e-2}
    return ITERATIVE | fixed | own | more


def run_variant(a, name: str, settings: dict) -> float:
    """Fits and scores one variant, unless it has been; seconds of the stage `fit`."""
    folder = a.workdir / "solvers" / name
    link(folder, generic=a.workdir / "generic", synthetic=a.workdir / "synthetic")
    flags = [f"--config={a.config}", f"--config.data.data_dir={(a.workdir / 'data').absolute()}"]
    always = {"fit.split_half": True, "traits.heads": "ridge", "report.examples": 0}
    flags += [*a.others, *(f"--config.{key}={value}" for key, value in (always | settings).items())]
    return run_stages(["fit", "traits"], folder, flags)


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

"""A sweep: `get_sweep()` yields the settings of each run, as {name: value} of what differs from the config that is swept.

  python configs/sweep.py --config=configs/default.py --workdir=runs/sweep --config.data.manifest=clips.csv

prints a command for each run, with a workdir of its own; it starts nothing. Put `| bash` after it to run them one after the
other, or make each line a job of your scheduler (docs/launching.md). Runs with the same `data` settings may share a prepared
dataset: prepare it once and add --config.data.data_dir=DIR. benchmarks/ablation.py runs a grid on the bench and prints one
table at the end.
"""

import itertools
import shlex
import sys

# Every combination of these.
GRID = {
    "rank_loss.kind": ("hinge", "logistic"),
    "fit.filter_sites": ("connections", "all"),
    "fit.rank": (16, 32),
    "seed": (0, 1),
}


def get_sweep(grid=None):
    """Yields a dict of settings per run, every combination of `grid` ({name: values}; GRID where it is not given)."""
    grid = GRID if grid is None else grid
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values))


def commands(arguments):
    """Yields the command of each run; `arguments` are those of `facedyn run`, --workdir=DIR among them."""
    workdir = next((a.partition("=")[2] for a in arguments if a.startswith("--workdir=")), "")
    if not workdir:
        raise SystemExit("sweep: --workdir=DIR is missing; every run gets a folder of its own in it.")
    rest = [a for a in arguments if not a.startswith("--workdir=")]
    for number, settings in enumerate(get_sweep()):
        flags = [f"--config.{name}={value}" for name, value in settings.items()]
        yield shlex.join(["facedyn", "run", *rest, *flags, f"--workdir={workdir}/{number:03d}"])


if __name__ == "__main__":
    print("\n".join(commands(sys.argv[1:])))

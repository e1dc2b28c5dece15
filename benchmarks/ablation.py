"""One change at a time on the synthetic bench: runs the grid of configs/ablation.py and prints one table.

    python benchmarks/ablation.py --workdir=W [--only base,logistic] [--config.NAME=VALUE ...] [--out ablation.json]

The dataset is made once; a generic model once for each group of variants that share it. A second call does nothing
again. Columns: held-back ranking accuracy gained over the generic model, at the largest scale; split-half identification, all
scales; mean trait PCC of the ridge, all scales and tasks.
"""

import argparse
import importlib.util
import json
import pathlib

import pandas as pd
from machine import machine
from variants import figures, link, run_stages

from facedyn.config import config_hash
from facedyn.config_files import load_config, override

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "ablation.py"
GENERIC = ("seed", "data", "model", "rank_loss", "pretrain")  # the sections that the generic models depend on


def changes() -> dict:
    """{name: {setting: value}} of the grid."""
    spec = importlib.util.spec_from_file_location("ablation_config", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CHANGES


def as_flags(change: dict) -> list[str]:
    """Of the command line; they come last, so that the change holds whatever else is set for all."""
    return [f"--config.{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in change.items()]


def config_of(flags):
    """The config that the flags make."""
    config = load_config(f"{CONFIG}:base")
    for flag in flags:
        key, _, value = flag.removeprefix("--config.").partition("=")
        override(config, key, value)
    return config


def group_of(config) -> str:
    """Names the variants whose generic models are equal, whatever scales they take of them."""
    reduced = config.copy_and_resolve_references()
    with reduced.unlocked():
        reduced.rank_loss.scales = ()
    return config_hash(reduced, GENERIC)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="", help="names separated by commas; all")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    a, others = parser.parse_known_args()
    for flag in others:
        if not flag.startswith("--config.") or "=" not in flag:
            parser.error(f"{flag} is not understood; settings are given as --config.NAME=VALUE")
    grid = changes()
    names = a.only.split(",") if a.only else list(grid)
    for name in names:
        if name not in grid:
            parser.error(f"there is no change {name!r}; they are {', '.join(grid)}")
    configs = {name: config_of([*others, *as_flags(grid[name])]) for name in names}
    data = a.workdir / "dataset"
    base = [f"--config={CONFIG}:base", *others]
    run_stages(["prepare"], data, base)
    shared = f"--config.data.data_dir={(data / 'data').absolute()}"
    scales = {}
    for config in configs.values():
        scales.setdefault(group_of(config), set()).update(config.rank_loss.scales)
    rows = []
    for name, config in configs.items():
        group, flags = group_of(config), [*base, *as_flags(grid[name]), shared]
        generic = a.workdir / f"generic_{group}"
        wanted = ",".join(map(str, sorted(scales[group])))
        run_stages(["pretrain"], generic, [*flags, f"--config.rank_loss.scales={wanted}"])
        folder = a.workdir / name
        link(folder, generic=generic / "generic", synthetic=data / "synthetic")
        seconds = run_stages(["fit", "traits"], folder, flags)
        rows.append({"change": name, "fit s": round(seconds)} | figures(folder))
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    print(f"\n{pd.DataFrame(rows).to_string(index=False)}\n{machine()}")
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps({"machine": machine(), "variants": rows}, indent=1))


if __name__ == "__main__":
    main()

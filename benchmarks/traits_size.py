"""Seconds and peak memory of the heads of the stage `traits` by the number of people, each in a process of its own.

    python benchmarks/traits_size.py [--people 250 1000 3000] [--features 16352] [--heads banded_ridge ridge] [--out FILE.json]

One feature set through the whole cross-validation (ten folds, the choices inside them), as the stage calls it. Features and
labels are made up: a few directions that tell of the labels, and noise. The load of the machine stands beside each row.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
from machine import machine

from facedyn.config import default_config
from facedyn.core import banded_ridge, mlp_validation
from facedyn.core import cross_validation as cv
from facedyn.stages.traits import trait_predictions

LATENT = 20
HEADS = ("banded_ridge", "ridge", "mlp")


def made_up(people: int, features: int, traits: int):
    """Features float32 [N, D] and labels [N, T] that share a few directions."""
    random = np.random.default_rng(0)
    latent = random.standard_normal((people, LATENT), np.float32)
    x = random.standard_normal((people, features), np.float32)
    for start in range(0, features, 4096):  # some at a time, for the memory that is measured
        some = slice(start, start + 4096)
        x[:, some] += latent @ random.standard_normal((LATENT, x[:, some].shape[1]), np.float32) / 4
    return x, latent[:, :traits] + random.standard_normal((people, traits)).astype(np.float32)


def predict(head: str, x, y, bands: int):
    """Out-of-fold predictions [N, T] by the default settings."""
    config, people = default_config(), np.arange(len(x))
    settings = trait_predictions.ridge_settings(config)
    fold = cv.person_folds(people, settings.folds, 0, y)
    if head == "banded_ridge":
        of_features = np.arange(x.shape[1]) * bands // x.shape[1]
        return banded_ridge.cross_validate(x, y, people, fold, of_features)
    if head == "ridge":
        return cv.cross_validate_ridge(x, y, people, settings, fold).predictions
    return mlp_validation.cross_validate_mlp(x, y, people, trait_predictions.mlp_settings(config), fold).predictions


def measure(a, head: str, people: int) -> dict:
    """Figures of one head in this process; memory in MiB, of which `before_mib` is taken before the head."""
    x, y = made_up(people, a.features, a.traits)
    before, started, cpu = peak_mib(), time.perf_counter(), time.process_time()
    found = predict(head, x, y, a.bands)
    seconds = dict(seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu)
    pcc = np.mean([np.corrcoef(one, label)[0, 1] for one, label in zip(found.T, y.T)])
    sizes = dict(head=head, people=people, features=a.features, traits=a.traits)
    return sizes | seconds | dict(peak_mib=peak_mib(), before_mib=before, pcc=float(pcc), load=os.getloadavg()[0])


def peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[250, 1000, 3000])
    parser.add_argument("--features", type=int, default=16352)
    parser.add_argument("--traits", type=int, default=5)
    parser.add_argument("--bands", type=int, default=18, help="of the banded ridge: six blocks at three scales")
    parser.add_argument("--heads", nargs="+", default=["banded_ridge", "ridge"], choices=HEADS)
    parser.add_argument("--out", default="", help="JSON file for the figures")
    parser.add_argument("--here", action="store_true", help="the first of --people and --heads in this process, print JSON")
    a = parser.parse_args()
    if a.here:
        print(json.dumps(measure(a, a.heads[0], a.people[0])))
        return
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    same, rows = [f"--{name}={getattr(a, name)}" for name in ("features", "traits", "bands")], []
    for head in a.heads:
        for people in a.people:
            command = [sys.executable, __file__, "--here", "--heads", head, "--people", f"{people}", *same]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows.append(json.loads(output.splitlines()[-1]))
            figures = "{head}, {people} x {features}: {seconds:.1f} s ({cpu_seconds:.1f} of cores), peak {peak_mib:.0f} MiB"
            print(f"{figures}, PCC {{pcc:.3f}}, load {{load:.1f}}".format(**rows[-1]), flush=True)
    if a.out:
        with open(a.out, "w") as file:
            json.dump({"machine": machine(), "settings": vars(a), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()

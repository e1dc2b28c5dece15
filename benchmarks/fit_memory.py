"""Peak memory of the stage `fit` for few and for many people, each in a process of its own.

    python benchmarks/fit_memory.py [--people 200 2000] [--out fit_memory.json]

The stage runs as it is, chunk by chunk, and writes its table into a temporary folder; only the dataset is made up (every
frame when it is asked for) and so are the generic model's weights. `python benchmarks/fit_memory.py --help` for the sizes.
Resident memory of the process, as the operating system counts it (Linux, macOS).
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from unittest import mock

import jax
import numpy as np

from data_pipelines.dataset.face_clips import ClipInfo
from facedyn.config import default_config
from facedyn.core import unet
from facedyn.stages.fit import fit_stage as stage
from facedyn.stages.fit import shared
from facedyn.stages.runtime import common

PROMISE = 1.15  # most memory of the largest run, in that of the smallest


class MadeUpClips:
    """What the stage uses of a FaceClipsReader: one clip a person, frames of noise that depend on the clip alone."""

    def __init__(self, people: int, frames: int, size: int, channels: int):
        self.image_size, self.channels, self.frames_a_clip = size, channels, frames
        numbers, no_traits = np.arange(frames, dtype=np.int32), np.zeros(0, np.float32)
        self.clips = tuple(
            ClipInfo(f"clip{i:05d}", f"person{i:05d}", "talk", "", "test", 25.0, numbers, no_traits) for i in range(people)
        )

    def frames(self, record: int, positions=None):
        shape = (self.frames_a_clip, self.image_size, self.image_size, self.channels)
        clip = np.random.default_rng(record).integers(0, 256, shape, np.uint8)
        return clip if positions is None else clip[positions]


def settings(a):
    """A small model and a short fit: memory does not depend on the number of steps."""
    config = default_config()
    config.data.image_size, config.model.channels, config.rank_loss.scales = a.size, (8, 16), (1,)
    config.fit.solver, config.fit.filter_kind, config.fit.filter_sites = "adam", "pointwise", "connections"
    config.fit.blocks = ("filters",)
    config.fit.steps, config.fit.batch_size, config.fit.chunk_size = a.steps, 4, a.chunk
    config.fit.split_half, config.report.examples = False, 0
    return config


def fit_people(a, people: int) -> dict:
    """Runs the stage in this process: people in the table, peak memory (MiB), the part of it before the fit, seconds."""
    config = settings(a)
    clips = MadeUpClips(people, a.frames, a.size, config.data.channels)
    params = jax.tree.map(np.asarray, unet.init(common.unet(config), jax.random.key(0), a.size))
    before, started = peak_mib(), time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as workdir,
        mock.patch.object(common, "open_data", return_value=clips),
        mock.patch.object(shared, "load_generic", return_value=params),
    ):
        found = stage.run(config, pathlib.Path(workdir))
    return dict(people=found["units"], peak_mib=peak_mib(), before_mib=before, seconds=time.perf_counter() - started)


def peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", type=int, default=32, help="face size, pixels")
    parser.add_argument("--frames", type=int, default=60, help="a clip")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=0, help="people fitted at once; 0: as the stage chooses")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    parser.add_argument("--here", action="store_true", help="fit the first of --people in this process, print JSON")
    a = parser.parse_args()
    if a.here:
        print(json.dumps(fit_people(a, a.people[0])))
        return
    same = [f"--{name}={getattr(a, name)}" for name in ("size", "frames", "steps", "chunk")]
    rows = []
    for people in a.people:
        command = [sys.executable, __file__, "--here", "--people", f"{people}", *same]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(output.splitlines()[-1]))
        print("{people} people: peak {peak_mib:.0f} MiB, before the fit {before_mib:.0f}; {seconds:.0f} s".format(**rows[-1]))
    ratio = rows[-1]["peak_mib"] / rows[0]["peak_mib"]
    print(f"{rows[-1]['people']} people take {ratio:.3f} times the memory of {rows[0]['people']} (promise: {PROMISE})")
    if a.out:
        with open(a.out, "w") as file:
            json.dump({"settings": vars(a), "rows": rows, "ratio": ratio, "jax": jax.__version__}, file, indent=1)
    if ratio > PROMISE:
        raise SystemExit(f"The peak memory grows with the number of people: {ratio:.3f} times, more than {PROMISE}.")


if __name__ == "__main__":
    main()

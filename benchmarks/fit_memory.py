"""Peak memory of the stage `fit` for few and for many people, each in a process of its own.

    python benchmarks/fit_memory.py [--people 200 2000] [--out fit_memory.json]
    python benchmarks/fit_memory.py --people 1000 10000 --closed-form --size 16 --frames 40

The stage runs as it is, chunk by chunk, and writes its table into a temporary folder; only the dataset is made up (every
frame when it is asked for) and so are the generic model's weights. With `--closed-form` the default settings fit, and the
stage `traits` follows on one feature set; the time of all cores for every thousand people is printed as the fit goes.
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
from facedyn.stages.fit import learning, shared
from facedyn.stages.runtime import common
from facedyn.stages.traits import traits_stage
from facedyn.store import representations

PROMISE = 1.15  # most memory of the largest run, in that of the smallest
POOL = 64  # people of the generic model, beside those who are fitted


class MadeUpClips:
    """What the stages use of a FaceClipsReader: one clip a person, frames of noise that depend on the clip alone."""

    trait_names, metadata = ("openness",), {"fingerprint": "made up"}

    def __init__(self, people: int, frames: int, size: int, channels: int):
        self.image_size, self.channels, self.frames_a_clip = size, channels, frames
        numbers, traits = np.arange(frames, dtype=np.int32), np.random.default_rng(0).standard_normal((people + POOL, 1))
        self.clips = tuple(
            ClipInfo(f"clip{i:06d}", f"person{i:06d}", "talk", "", "train" if i < POOL else "test", 25.0, numbers, own)
            for i, own in enumerate(traits.astype(np.float32))
        )

    def frames(self, record: int, positions=None):
        shape = (self.frames_a_clip, self.image_size, self.image_size, self.channels)
        clip = np.random.default_rng(record).integers(0, 256, shape, np.uint8)
        return clip if positions is None else clip[positions]


def settings(a):
    """A small model and a short fit: memory does not depend on the number of steps."""
    config = default_config()
    config.data.image_size, config.model.channels, config.rank_loss.scales = a.size, (8, 16), (1,)
    config.fit.splits = config.traits.splits = ("test",)
    config.fit.chunk_size, config.fit.split_half, config.fit.video_seconds, config.report.examples = a.chunk, False, (), 0
    config.fit.rank = a.rank
    config.traits.heads, config.traits.ridge_solver = ("ridge",), "closed_form"
    config.traits.baselines, config.traits.fused_baselines = ("mean_predictor",), ()
    if not a.closed_form:
        config.fit.solver, config.fit.filter_kind, config.fit.filter_sites = "adam", "pointwise", "connections"
        config.fit.blocks, config.fit.steps, config.fit.batch_size = ("filters",), a.steps, 4
    return config


class Timed:
    """`representations.write_part`, which counts the parts, and the seconds of all cores from a thousand people to the next."""

    def __init__(self):
        self._write, self._before, self._people = representations.write_part, 0.0, 0
        self.parts, self.seconds = 0, []

    def __call__(self, folder, rows, *more):
        path, now = self._write(folder, rows, *more), time.process_time()
        if not self.parts:  # compilation, and what is learnt once
            self._before = now
        elif (self._people + len(rows)) // 1000 > self._people // 1000:
            self.seconds.append(now - self._before)
            self._before = now
            print(self._people + len(rows), "people:", round(self.seconds[-1], 1), "s of cores", file=sys.stderr)
        self.parts, self._people = self.parts + 1, self._people + len(rows)
        return path


def fit_people(a, people: int) -> dict:
    """Runs the stages in this process: people and parts of the table, peak memory (MiB) before and after the fit, times."""
    config, timed = settings(a), Timed()
    clips = MadeUpClips(people, a.frames, a.size, config.data.channels)
    params = jax.tree.map(np.asarray, unet.init(common.unet(config), jax.random.key(0), a.size))
    pool = {clip.person_id for clip in clips.clips[:POOL]}
    found, started = dict(before_mib=peak_mib()), time.process_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(common, "open_data", return_value=clips),
        mock.patch.object(shared, "load_generic", return_value=params),
        mock.patch.object(learning, "people_of", return_value=pool),
        mock.patch.object(representations, "write_part", timed),
    ):
        workdir = pathlib.Path(folder)
        found |= dict(people=stage.run(config, workdir)["units"], fit_seconds=time.process_time() - started, fit_mib=peak_mib())
        found |= dict(parts=timed.parts, seconds_a_thousand=timed.seconds)
        if a.closed_form:
            started = time.process_time()
            found |= dict(scored=traits_stage.run(config, workdir)["people"], traits_seconds=time.process_time() - started)
    return found | dict(peak_mib=peak_mib())


def peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", type=int, default=32, help="face size, pixels")
    parser.add_argument("--frames", type=int, default=60, help="a clip")
    parser.add_argument("--steps", type=int, default=2, help="of Adam")
    parser.add_argument("--closed-form", action="store_true", help="the default fit, and the stage traits after it")
    parser.add_argument("--rank", type=int, default=8, help="of the closed form's states")
    parser.add_argument("--chunk", type=int, default=0, help="people fitted at once; 0: as the stage chooses")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    parser.add_argument("--here", action="store_true", help="fit the first of --people in this process, print JSON")
    a = parser.parse_args()
    if a.here:
        print(json.dumps(fit_people(a, a.people[0])))
        return
    same = [f"--{name}={getattr(a, name)}" for name in ("size", "frames", "steps", "chunk", "rank")]
    same += ["--closed-form"] * a.closed_form
    rows = []
    for people in a.people:
        command = [sys.executable, __file__, "--here", "--people", f"{people}", *same]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(output.splitlines()[-1]))
        told = "{people} people: before {before_mib:.0f} MiB, fit {fit_mib:.0f}, peak {peak_mib:.0f}; {parts} parts; fit"
        told += " {fit_seconds:.0f} s of cores" + ", traits of {scored} {traits_seconds:.0f}" * a.closed_form
        print(told.format(**rows[-1]), flush=True)
        if thousands := rows[-1]["seconds_a_thousand"]:
            worst = max(abs(s / np.median(thousands) - 1) for s in thousands)
            print("  a thousand people:", np.round(thousands, 1).tolist(), f"s of cores, at most {worst:.0%} off the median")
    ratio = rows[-1]["fit_mib"] / rows[0]["fit_mib"]
    print(f"{rows[-1]['people']} people take {ratio:.3f} times the memory of {rows[0]['people']} in fit (promise: {PROMISE})")
    if a.out:
        with open(a.out, "w") as file:
            json.dump({"settings": vars(a), "rows": rows, "ratio": ratio, "jax": jax.__version__}, file, indent=1)
    if ratio > PROMISE:
        raise SystemExit(f"The peak memory grows with the number of people: {ratio:.3f} times, more than {PROMISE}.")


if __name__ == "__main__":
    main()

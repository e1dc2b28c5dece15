"""Whether decoding, copying and computing overlap while frames become states: a trace of every block of frames.

    python benchmarks/overlap.py --workdir W [--frames 1500] [--trace DIR]

W: a working directory whose stages prepare and pretrain are done; its first scale is used, with a random basis. The way of the
stage fit (`closed_form.make_load`) runs once to compile, then twice in turns: as it is, and in single file, where each block is
decoded, copied and computed before the next is begun. Printed: seconds of the clock, and during how many of them frames were
being decoded, a block was on its way to its states (copied to the device and computed), both at once, or neither; then when
that was for the first blocks. --trace DIR: jax.profiler writes the run as it is there, to be opened in Perfetto.
"""

import argparse
import contextlib
import pathlib
import sys
import time
import unittest.mock

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from machine import machine

from facedyn.core import cost
from facedyn.stages.fit import batching, closed_form
from facedyn.stages.pretrain import load_generic
from facedyn.stages.runtime import common
from facedyn.store import stamps

SHOWN = 6  # blocks whose times are printed
GRID = 1e-3  # seconds


class Timed:
    """A reader that notes when it decodes, and `one_ahead` that notes when a block is copied and computed: [(start, end)]."""

    def __init__(self, reader, overlapping: bool):
        self._reader, self._overlapping, self.clips = reader, overlapping, reader.clips
        self.decoding, self.computing = [], []

    def frames(self, record, positions):
        """As the reader has it."""
        started = time.perf_counter()
        found = self._reader.frames(record, positions)
        self.decoding.append((started, time.perf_counter()))
        return found

    def one_ahead(self, begin, items, ahead=batching.one_ahead):
        """`batching.one_ahead`, or in single file."""
        starts = []

        def begun(item):
            starts.append(time.perf_counter())
            result = begin(item)
            return result if self._overlapping else jax.block_until_ready(result)

        for number, result in enumerate(ahead(begun, items) if self._overlapping else map(begun, items)):
            jax.block_until_ready(result)
            self.computing.append((starts[number], time.perf_counter()))
            yield result


def decode_when_asked(f, items, threads):
    """`batching.ahead` without its threads."""
    return map(f, items)


def run(load, reader, overlapping: bool, trace: str = "") -> tuple[float, float, Timed]:
    """(when it started, when it ended, what was noted); load: called with the reader."""
    timed, patch = Timed(reader, overlapping), unittest.mock.patch.object
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch(batching, "one_ahead", timed.one_ahead))
        if not overlapping:
            stack.enter_context(patch(batching, "ahead", decode_when_asked))
        if trace:
            stack.enter_context(jax.profiler.trace(trace))
        started = time.perf_counter()
        load(timed)
        return started, time.perf_counter(), timed


def busy(intervals, started: float, ended: float) -> np.ndarray:
    """Whether any of the intervals holds each moment of the run, moments GRID seconds apart."""
    found = np.zeros(int((ended - started) / GRID) + 1, bool)
    for first, last in intervals:
        found[int((first - started) / GRID) : int((last - started) / GRID) + 1] = True
    return found


def row(name: str, started: float, ended: float, timed: Timed) -> str:
    """A line of the table, seconds."""
    decoding, computing = busy(timed.decoding, started, ended), busy(timed.computing, started, ended)
    parts = decoding, computing, decoding & computing, ~(decoding | computing)
    return f"| {name} | {ended - started:.2f} | " + " | ".join(f"{GRID * part.sum():.2f}" for part in parts) + " |"


def make_load(config, params, face_clips, frames: int):
    """(reader) -> states of so many frames, by the way of the stage fit."""
    mesh, sites, random = batching.people_mesh(), closed_form.sites_of(config), np.random.default_rng(0)
    maps = common.rank_loss_settings(config).maps
    net = cost.Network(config.data.image_size, tuple(config.model.channels), config.data.channels, maps)
    shapes = [cost.site_shape(net, site.name) for site in sites]
    basis = tuple(random.standard_normal((side**2 * c, config.fit.rank), np.float32) / side for side, c in shapes)
    nothing, sources, left = np.zeros(0, np.float32), {}, frames
    for record, clip in enumerate(face_clips.clips):
        sources[record] = np.arange(min(left, len(clip.frame_indices)))
        left -= len(sources[record])
    sources = {record: positions for record, positions in sources.items() if len(positions)}
    length = sum(map(len, sources.values()))
    params, basis = batching.to_devices(mesh, (params, basis))
    of_all = closed_form.Shared(params, basis, nothing, nothing, nothing)
    load = closed_form.make_load(config, closed_form.compile_encode(config, sites, mesh), mesh)
    return lambda reader: load(of_all, reader, [sources], 1, length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--trace", default="")
    args = parser.parse_args()
    config = stamps.stamped_config(args.workdir, "pretrain")
    config.data.data_dir = str(common.data_dir(config, args.workdir).absolute())
    face_clips = common.open_data(config.data.data_dir, config)
    load = make_load(config, load_generic(config, args.workdir, common.scales(config)[0]), face_clips, args.frames)
    load(face_clips)
    # Opened again each time: a reader keeps what it has read.
    runs = {
        name: run(load, common.open_data(config.data.data_dir, config), name == "as it is", args.trace * (name == "as it is"))
        for name in ("in single file", "as it is")
    }
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print("| | seconds | decoding | copied and computed | both | neither |\n" + "|---" * 6 + "|")
    print("\n".join(row(name, *of_run) for name, of_run in runs.items()))
    for name, (started, _, timed) in runs.items():
        for what, intervals in (("decoded", timed.decoding), ("copied and computed", timed.computing)):
            times = ", ".join(f"{1e3 * (a - started):.0f} to {1e3 * (b - started):.0f}" for a, b in intervals[:SHOWN])
            print(f"{name}, first blocks {what}, ms: {times}")


if __name__ == "__main__":
    main()

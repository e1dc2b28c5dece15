"""What the blocks cost: seconds of all that the closed form computes of states, beside the U-net pass that gives the states.

    python benchmarks/block_cost.py [--size 32 64] [--people 16] [--frames 440] [--rank 16] [--rounds 5]

Random frames, the demo's U-net with random weights, all five sites, one scale; units of 440 frames in four clips, as the demo's
people have. `blocks` is whatever the stage fit computes once the states are there: whitening, the quality of the rows held
back, filters and the other blocks; with halves three times (all of a unit, and each half). Seconds of a core, medians of the
rounds, without compilation and without the decoding of frames. Then each part alone, compiled by itself: parts need not add
up to the whole.
"""

import argparse
import pathlib
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from facedyn.config_files import load_config
from facedyn.core import blocks, low_rank, unet
from facedyn.stages.fit import batching, closed_form
from facedyn.stages.fit.batching import WHOLE
from facedyn.stages.fit.closed_form import Shared
from facedyn.stages.fit.fit_stage import plan_all
from facedyn.stages.runtime import common

CLIPS = 4


class Reader:
    """Clips of random frames in memory."""

    def __init__(self, people: int, frames: int, size: int):
        random, length = np.random.default_rng(0), frames // CLIPS
        self.clips, self._frames = [], random.integers(0, 256, (length, size, size, 3), np.uint8)
        for number in range(people * CLIPS):
            clip = dict(clip_id=f"{number:04d}", person_id=f"p{number // CLIPS:03d}", task="talk", session="", fps=25.0)
            self.clips.append(SimpleNamespace(**clip, frame_indices=np.arange(length), split="test"))

    def frames(self, record, positions):
        return np.roll(self._frames, record, 0)[positions]


def seconds(f, rounds: int) -> float:
    """Of a core, median over the rounds, after one that compiles. What other programs take of the machine does not count."""
    jax.block_until_ready(f())
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        jax.block_until_ready(f())
        taken.append(time.process_time() - started)
    return float(np.median(taken))


def settings(size: int, rank: int):
    """The demo's, at scale 1 and of another size."""
    config = load_config("demo")
    config.data.image_size, config.fit.rank, config.rank_loss.scales = size, rank, (1,)
    config.fit.update(dict(unit="person", split_half=True, splits=(), controls=(), video_seconds=()))
    return config


def measure(size: int, people: int, frames: int, rank: int, rounds: int) -> None:
    """Prints a line of the table, and the parts."""
    config = settings(size, rank)
    reader, fitting = Reader(people, frames, size), closed_form.make_fitting(config)
    units = plan_all(config, fitting, reader)[0][1]
    (shape, count, of_chunk), *_ = batching.chunks_of(units, dict.fromkeys(fitting.shapes([(1, units)], 4), people))
    sites, random = closed_form.sites_of(config), np.random.default_rng(1)
    params = unet.init(common.unet(config), jax.random.key(0), size)
    maps = jax.eval_shape(lambda p, x: unet.feature_maps(common.unet(config), p, x), params, np.zeros((1, size, size, 3)))
    sides = [int(np.prod(maps[site.name].shape)) for site in sites]
    basis = tuple((random.normal(size=(n, rank)) / n**0.5).astype(np.float32) for n in sides)
    population = np.zeros((len(sites), 2, rank, rank), np.float32)
    model = Shared(params, basis, population, np.full(len(sites), 100, np.float32), np.zeros(0, np.float32))
    sources = [batching.sources_of(parts, 1, 4) for parts in of_chunk]
    states = fitting.load(model, reader, sources, count, shape.frames)
    batches = {
        part: batching.batch_of(states, [parts.get(part) for parts in of_chunk], sources, shape, 1, 4)
        for part in (WHOLE, (1, 0.0), (2, 0.0))
    }
    # Not the fitting's own, which keeps what it has computed.
    load = closed_form.make_load(config, closed_form.compile_encode(config, sites, fitting.mesh), fitting.mesh)
    net = seconds(lambda: load(model, reader, sources, count, shape.frames), rounds)
    whole = seconds(lambda: fitting.fit(model, batches[WHOLE]), rounds)
    halves = seconds(lambda: [fitting.fit(model, batch) for batch in batches.values()], rounds)
    print(f"| {size} | {rank} | {net:.2f} | {whole:.3f} | {whole / net:.1%} | {halves:.3f} | {halves / net:.1%} |", flush=True)
    for name, f in parts_of(population, batches[WHOLE], fitting).items():
        taken = seconds(f, rounds)
        print(f"|   {name} | | | {taken:.3f} | {taken / net:.1%} | | |", flush=True)


def parts_of(population, batch, fitting) -> dict:
    """{name: what computes this part alone of all units, group by group as the fit does it}."""
    group = fitting.group(batch.shape)

    def over_units(f):
        compiled = jax.jit(jax.vmap(f, (0, 0, 0)))
        return lambda: [compiled(*some) for some in batching.groups_of(fitting.mesh, batch, group)]

    def quality(states, fitted, held):
        return low_rank.held_back_quality(population, population, (states, *fitted), (states, *held))

    def filters(states, fitted, held):
        return low_rank.solve(*low_rank.normal_equations(states, *fitted), population, np.full(len(population), 100.0))

    found = {
        "whitening": over_units(lambda states, fitted, held: low_rank.whiten(states, *fitted)),
        "normal equations and filters": over_units(filters),
        "quality of rows held back": over_units(quality),
    }
    for name, block in blocks.BLOCKS.items():
        if name != "filters":
            found[name] = over_units(
                lambda states, fitted, held, block=block: block.compute(population, population, states, *fitted)
            )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=(32, 64))
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--frames", type=int, default=440)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print("| pixels | rank | U-net, s | blocks, s | share | with both halves, s | share |\n|---|---|---|---|---|---|---|")
    for size in args.size:
        measure(size, args.people, args.frames, args.rank, args.rounds)


if __name__ == "__main__":
    main()

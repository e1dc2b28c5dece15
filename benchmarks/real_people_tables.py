"""The tables of `real_people.py`, from a file of states: whom each block identifies across clips, and by what.

A unit is half of a person's clips (every other one, which are the two sessions of PEOPLE.csv); each person's one half is looked
up among everybody's other halves, and the reverse. Figures are the share that is found at once, mean over both directions, with
a 95 % interval by person (bootstrap). Controls, for every block:

- time_shuffled: the frames of each clip in random order, population filters included;
- swapped: this person's covariance, the course in time of another (`facedyn.core.surrogates`), several draws;
- first/last clips: the first half of a person's clips against the last, for every other one against the rest;
- reversed: looked up are halves that are played backwards, among those played forwards;
- seconds: only the first so many of each half, from several clips in turn; beside it, the same of swapped states.

Blocks are computed of states as they are, and of states whitened by the unit's own covariance.
"""

import functools
import json
import pathlib
import sys
from typing import NamedTuple

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from data_pipelines.dataset.windows import centre_positions, window_positions
from facedyn.core import identification, low_rank, surrogates
from facedyn.core.blocks import BLOCKS
from facedyn.stages.fit.learning import POPULATION_RIDGE, RIDGES
from facedyn.stages.fit.units import evenly

SCALE, HALF_LENGTH, FPS = 1, 4, 25
RANKS, RANK = (8, 16, 32), 16
SECONDS = (1, 2, 4, 8)
DRAWS, RESAMPLES = 3, 2000
MAX_ROWS = 512  # of a unit, evenly spaced, as config.fit.max_frames has it
SITES = {"U-net": None, "pixels": ("pixels",)}  # None: all sites of the U-net
HELD_BACK = 0.2
ALL = "all blocks"


class Unit(NamedTuple):
    """States [T, S, K], windows [N, 2n+1] of positions in them, clip of each frame [T]."""

    states: np.ndarray
    windows: np.ndarray
    clip: np.ndarray


class Clip(NamedTuple):
    """States [T, S, K] and numbers [T] of a clip's frames."""

    states: np.ndarray
    frame_indices: np.ndarray
    person: str


def load(path, sites) -> tuple[dict, dict]:
    """({person: their clips}, the same of the pool) with the states of some sites; None = of all but the pixels."""
    with np.load(path) as file:
        found = {name: file[name] for name in file.files}
    chosen = [i for i, site in enumerate(found["sites"]) if (site in sites if sites else site != "pixels")]
    people, pool = {}, {}
    for i, (person, of_pool) in enumerate(zip(found["person_ids"], found["pool"])):
        frames = np.flatnonzero(found["clip"] == i)
        clip = Clip(found["states"][frames][:, chosen], found["frame_indices"][frames], str(person))
        (pool if of_pool else people).setdefault(str(person), []).append(clip)
    return people, pool


def unit_of(clips, rank: int, frames: int | None = None) -> Unit:
    """All of some clips, or the first so many frames of them, taken one after the other."""
    states, windows, clip, first = [], [], [], 0
    for number, one in enumerate(clips):
        length = len(one.states) if frames is None else min(len(one.states), frames - first)
        if length <= 0:
            break
        centres = centre_positions(one.frame_indices[:length], SCALE, HALF_LENGTH)
        states.append(one.states[:length, :, :rank])
        windows.append(window_positions(centres, SCALE, HALF_LENGTH) + first)
        clip.append(np.full(length, number))
        first += length
    return Unit(np.concatenate(states), evenly(np.concatenate(windows), MAX_ROWS), np.concatenate(clip))


def whitened(unit: Unit) -> Unit:
    return unit._replace(states=surrogates.whiten(unit.states, unit.clip))


def shuffled(unit: Unit, rng) -> Unit:
    """The frames of each clip in random order."""
    order = np.concatenate([rng.permutation(np.flatnonzero(unit.clip == number)) for number in np.unique(unit.clip)])
    return unit._replace(states=unit.states[order])


def swapped(own: Unit, other: Unit) -> Unit:
    return other._replace(states=surrogates.swap_dynamics(own.states, other.states, own.clip, other.clip))


def reverse(unit: Unit) -> Unit:
    return unit._replace(windows=surrogates.reverse(unit.windows))


def padded(units, held_back: float = 0.0):
    """(states [U, T, S, K], rows in the fit, rows held back), each (windows [U, N, 2n+1], clip [U, N], count [U])."""
    frames = 2 ** int(np.ceil(np.log2(max(len(unit.states) for unit in units))))
    most = min(frames, MAX_ROWS)
    states = np.zeros((len(units), frames, *units[0].states.shape[1:]), np.float32)
    parts = [
        (np.zeros((len(units), most, 2 * HALF_LENGTH + 1), np.int32), np.zeros((len(units), most), np.int32)) for _ in "12"
    ]
    counts = np.zeros((2, len(units)), np.int32)
    for u, unit in enumerate(units):
        states[u, : len(unit.states)] = unit.states
        clip = unit.clip[unit.windows[:, HALF_LENGTH]]
        cut = len(unit.windows) - round(held_back * len(unit.windows))
        for part, some in enumerate((slice(None, cut), slice(cut, None))):
            counts[part, u] = n = len(unit.windows[some])
            parts[part][0][u, :n], parts[part][1][u, :n] = unit.windows[some], clip[some]
    return states, (*parts[0], counts[0]), (*parts[1], counts[1])


@jax.jit
def _normal_equations(states, rows):
    return jax.vmap(lambda s, r: low_rank.normal_equations(s, *r))(states, rows)


@jax.jit
def _errors(population, states, fitted, held):
    one = lambda s, f, h: low_rank.held_back_errors(population, (s, *f), (s, *h), RIDGES)  # noqa: E731
    return jax.vmap(one)(states, fitted, held)


@jax.jit
def _blocks(population, ridge, states, rows):
    def of_unit(states, rows):
        own = low_rank.solve(*low_rank.normal_equations(states, *rows), population, ridge)
        return {name: block.compute(own, population, states, *rows) for name, block in BLOCKS.items()}

    return jax.vmap(of_unit)(states, rows)


def learn(units) -> tuple[np.ndarray, np.ndarray]:
    """(population filters [S, 2, K, K], ridge [S]) of the pool's people, as the stage fit learns them."""
    states, fitted, held = padded(units, HELD_BACK)
    xtx, xty = (np.asarray(x, np.float64).sum(0).astype(np.float32) for x in _normal_equations(states, fitted))
    population = np.asarray(low_rank.solve(xtx, xty, np.zeros_like(xty), np.full(len(xtx), POPULATION_RIDGE, np.float32)))
    errors = np.asarray(_errors(population, states, fitted, held)).sum(0)
    return population, RIDGES[errors.argmin(0)]


def features(learnt, units) -> dict[str, np.ndarray]:
    """{block: [U, D]}, and of all blocks side by side, each block with equal weight."""
    states, rows, _ = padded(units)
    found = {name: np.asarray(x).reshape(len(units), -1) for name, x in _blocks(*learnt, states, rows).items()}
    return {name: x for name, x in found.items() if x.shape[1]}


def hits(queries, gallery) -> dict[str, np.ndarray]:
    """{block: who is found at once [P], mean over both directions} of two measurements of everybody."""
    names = [*queries, ALL]
    weights = {name: np.ones(x.shape[1], np.float32) for name, x in queries.items()}
    weights[ALL] = np.concatenate([np.full(x.shape[1], x.shape[1] ** -0.5, np.float32) for x in queries.values()])
    queries, gallery = (of | {ALL: np.concatenate(list(of.values()), 1)} for of in (queries, gallery))
    return {
        name: np.mean(
            [
                np.asarray(identification.match_ranks(a[name], b[name], weights[name])) == 1
                for a, b in ((queries, gallery), (gallery, queries))
            ],
            0,
        )
        for name in names
    }


def mean_hits(draws) -> dict[str, np.ndarray]:
    """Mean over several draws of `hits`."""
    return {name: np.mean([draw[name] for draw in draws], 0) for name in draws[0]}


def interval(values) -> tuple[float, float, float]:
    """(mean, low, high) of one value a person, 95 % by resampling people."""
    chosen = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    return float(np.mean(values)), *map(float, np.quantile(np.asarray(values)[chosen].mean(1), (0.025, 0.975)))


class Bench:
    """One file of states, some sites, one rank, states as they are or whitened."""

    def __init__(self, path, sites, rank: int, white: bool, seed: int = 0):
        self.people, self.pool = load(path, sites)
        self.rank, self.space = rank, whitened if white else lambda unit: unit
        self.rng = np.random.default_rng(seed)
        pool = [unit_of(clips, rank) for clips in self.pool.values()]
        self.pool_units = [unit for unit in pool if len(unit.windows)]

    @functools.cached_property
    def learnt(self):
        return learn([self.space(unit) for unit in self.pool_units])

    @functools.cached_property
    def learnt_of_shuffled(self):
        return learn([self.space(shuffled(unit, self.rng)) for unit in self.pool_units])

    def halves(self, seconds: float | None = None, turn: int = 0, in_order: bool = False) -> list[list[Unit]]:
        """Both halves of everybody: every other clip, or the first and the last; `turn`: with which of them to begin."""
        frames = None if seconds is None else round(seconds * FPS)
        found = []
        for half in (0, 1):
            if in_order:
                cut = [(len(clips) + 1) // 2 for clips in self.people.values()]
                own = [clips[n:] if half else clips[:n] for n, clips in zip(cut, self.people.values())]
            else:
                own = [clips[half::2] for clips in self.people.values()]
            own = [clips[turn % len(clips) :] + clips[: turn % len(clips)] for clips in own]
            found.append([unit_of(clips, self.rank, frames) for clips in own])
        return found

    def identified(self, halves, learnt=None) -> dict[str, np.ndarray]:
        return hits(*(features(learnt or self.learnt, [self.space(unit) for unit in half]) for half in halves))

    def swap(self, halves):
        """Each half with the course in time of somebody else's, another one in each half."""
        found, people = [], len(halves[0])
        shifts = self.rng.permutation(np.arange(1, people))[:2]
        order = self.rng.permutation(people)
        for half, shift in zip(halves, shifts):
            others = np.empty(people, int)
            others[order] = np.roll(order, shift)
            found.append([swapped(own, half[other]) for own, other in zip(half, others)])
        return found

    def controls(self) -> dict[str, dict[str, np.ndarray]]:
        """{control: `hits`}."""
        whole = self.halves()
        found = {"ordered": self.identified(whole)}
        shuffles = [[[shuffled(unit, self.rng) for unit in half] for half in whole] for _ in range(DRAWS)]
        found["time_shuffled"] = mean_hits([self.identified(x, self.learnt_of_shuffled) for x in shuffles])
        found["swapped"] = mean_hits([self.identified(self.swap(whole)) for _ in range(DRAWS)])
        found["first/last clips"] = self.identified(self.halves(in_order=True))
        found["reversed"] = self.identified([[reverse(unit) for unit in whole[0]], whole[1]])
        for seconds in SECONDS:
            turns = [self.halves(seconds, turn) for turn in range(DRAWS)]
            found[f"{seconds} s"] = mean_hits([self.identified(x) for x in turns])
            found[f"{seconds} s swapped"] = mean_hits([self.identified(self.swap(x)) for x in turns])
        return found


def written(values) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*interval(values))


def table(found: dict) -> str:
    """Markdown: one row per block, one column per control."""
    lines = ["| block | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for name in next(iter(found.values())):
        cells = [
            written(of[name]) if control in ("ordered", "time_shuffled", "swapped") else f"{of[name].mean():.2f}"
            for control, of in found.items()
        ]
        lines.append("| " + " | ".join((name, *cells)) + " |")
    return "\n".join(lines)


def print_tables(appearance: str, model: str, path, ranks=RANKS) -> None:
    """All tables of a file of states; untrained models only get the headline figure. The values also go to PATH's .json."""
    values = {}
    for sites_name, sites in SITES.items():
        if sites_name == "pixels" and model != "trained":
            continue  # which are the same
        for white in (False, True):
            by_rank = {}
            for rank in ranks:
                bench = Bench(path, sites, rank, white)
                if rank == RANK and model == "trained":
                    found = bench.controls()
                    by_rank[f"rank {rank}"] = found["ordered"]
                    full = table(found)
                else:
                    by_rank[f"rank {rank}"] = bench.identified(bench.halves())
                    found = {"ordered": by_rank[f"rank {rank}"]}
                for control, of in found.items():
                    values |= {f"{sites_name}/{white}/{rank}/{control}/{b}": v.tolist() for b, v in of.items()}
            states = "whitened states" if white else "states as they are"
            title = (
                f"{appearance}, {model}, {sites_name}, {states}: {len(bench.people)} people, chance {1 / len(bench.people):.2f}"
            )
            print(f"\n### {title}\n\n{table(by_rank)}\n", flush=True)
            if model == "trained":
                print(f"Rank {RANK}, with the controls:\n\n{full}\n", flush=True)
            pathlib.Path(path).with_suffix(".json").write_text(json.dumps(values))

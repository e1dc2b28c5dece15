"""The tables of `real_people.py`, from a file of states: whom each block identifies across clips, and by what.

A unit is half of a person's clips (every other one, which are the two sessions of PEOPLE.csv); each person's one half is looked
up among everybody's other halves, and the reverse. Figures are the share that is found at once, mean over both directions, with
a 95 % interval by person (bootstrap). Controls, of all blocks alike:

- time_shuffled: the frames of each clip in random order, population filters included;
- swapped: this person's covariance, the course in time of another (`facedyn.core.surrogates`), several draws;
- first/last clips: the first half of a person's clips against the last, for every other one against the rest;
- reversed: looked up are halves that are played backwards, among those played forwards;
- seconds: only the first so many of each half, from several clips in turn; beside it, the same of swapped states.

Blocks are computed of states as they are, and of states whitened as the fit does it (`low_rank.whiten`, config.fit.whiten):
by the covariance of the unit's centre frames; `amplitude` is of the states as they are in both. `all blocks` are the default
config.fit.blocks. Features count by `blocks.weights`, those of a block alone, too, which gives the figures that the fit itself
reports; in further tables all features have the same weight.
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
from facedyn.config import default_config
from facedyn.core import blocks, identification, low_rank, surrogates
from facedyn.stages.fit.learning import POPULATION_RIDGE, RIDGES
from facedyn.stages.fit.units import evenly

SCALE, HALF_LENGTH, FPS = 1, 4, 25
RANK = 16  # the default
SECONDS, SECONDS_SWAPPED = (1, 2, 4, 8), (1, 8)
DRAWS, RESAMPLES = 3, 2000
MAX_ROWS = 512  # of a unit, evenly spaced, as config.fit.max_frames has it
SITES = {"U-net": None, "pixels": ("pixels",)}  # None: all sites of the U-net
HELD_BACK = 0.2
MIN_FRAMES = 1024  # that units are padded to, so that what is compiled serves all controls
NAMES, ALL = tuple(blocks.BLOCKS), "all blocks"
WEIGHTINGS = ("weighted as in the fit", "uniform weights")
WITH_INTERVAL = ("ordered", "time_shuffled", "swapped")


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
    frames, most = max(MIN_FRAMES, *(len(unit.states) for unit in units)), MAX_ROWS
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


def _space(white: bool, states, rows):
    """The unit's states as the fit sees them, by the rows that it is fitted to."""
    return low_rank.whiten(states, *rows) if white else states


@functools.partial(jax.jit, static_argnames="white")
def _normal_equations(white, states, rows):
    return jax.vmap(lambda s, r: low_rank.normal_equations(_space(white, s, r), *r))(states, rows)


@functools.partial(jax.jit, static_argnames="white")
def _errors(white, population, states, fitted, held):
    def of_unit(states, fitted, held):
        own = _space(white, states, fitted)
        return low_rank.held_back_errors(population, (own, *fitted), (own, *held), RIDGES)

    return jax.vmap(of_unit)(states, fitted, held)


@functools.partial(jax.jit, static_argnames="white")
def _representations(white, population, ridge, states, rows):
    def of_unit(states, rows):
        own = _space(white, states, rows)
        filters = low_rank.solve(*low_rank.normal_equations(own, *rows), population, ridge)
        return blocks.represent(NAMES, filters, population, own, *rows, unwhitened=states)

    return jax.vmap(of_unit)(states, rows)


def learn(units, white: bool) -> tuple[np.ndarray, np.ndarray]:
    """(population filters [S, 2, K, K], ridge [S]) of the pool's people, as the stage fit learns them."""
    states, fitted, held = padded(units, HELD_BACK)
    xtx, xty = (np.asarray(x, np.float64).sum(0).astype(np.float32) for x in _normal_equations(white, states, fitted))
    population = np.asarray(low_rank.solve(xtx, xty, np.zeros_like(xty), np.full(len(xtx), POPULATION_RIDGE, np.float32)))
    errors = np.asarray(_errors(white, population, states, fitted, held)).sum(0)
    return population, RIDGES[errors.argmin(0)]


def hits(queries, gallery, sites: int, rank: int) -> dict[tuple[str, str], np.ndarray]:
    """{(weighting, block): who is found at once [P], mean over both directions} of two measurements [P, D] of everybody."""
    band, found = blocks.bands(NAMES, range(sites), rank), {}
    for name, names in [*((name, (name,)) for name in NAMES), (ALL, tuple(default_config().fit.blocks))]:
        columns = np.concatenate([np.flatnonzero(band == NAMES.index(one)) for one in names])
        a, b = queries[:, columns], gallery[:, columns]
        for weighting, weights in zip(WEIGHTINGS, (blocks.weights(names, range(sites), rank), np.ones(len(columns)))):
            ranks = [np.asarray(identification.match_ranks(*pair, np.float32(weights))) for pair in ((a, b), (b, a))]
            found[weighting, name] = np.mean(np.array(ranks) == 1, 0)
    return found


def mean_hits(draws) -> dict[tuple[str, str], np.ndarray]:
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
        self.rank, self.white = rank, white
        self.rng = np.random.default_rng(seed)
        pool = [unit_of(clips, rank) for clips in self.pool.values()]
        self.pool_units = [unit for unit in pool if len(unit.windows)]

    @functools.cached_property
    def learnt(self):
        return learn(self.pool_units, self.white)

    @functools.cached_property
    def learnt_of_shuffled(self):
        return learn([shuffled(unit, self.rng) for unit in self.pool_units], self.white)

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

    def identified(self, halves, learnt=None) -> dict[tuple[str, str], np.ndarray]:
        found = []
        for half in halves:
            states, rows, _ = padded(half)
            found.append(np.asarray(_representations(self.white, *(learnt or self.learnt), states, rows)))
        return hits(*found, sites=states.shape[2], rank=self.rank)

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

    def controls(self) -> dict[str, dict]:
        """{control: `hits`}; of states as they are the three first alone."""
        whole = self.halves()
        found = {"ordered": self.identified(whole)}
        shuffles = [[[shuffled(unit, self.rng) for unit in half] for half in whole] for _ in range(DRAWS)]
        found["time_shuffled"] = mean_hits([self.identified(x, self.learnt_of_shuffled) for x in shuffles])
        found["swapped"] = mean_hits([self.identified(self.swap(whole)) for _ in range(DRAWS)])
        if not self.white:
            return found
        found["first/last clips"] = self.identified(self.halves(in_order=True))
        found["reversed"] = self.identified([[reverse(unit) for unit in whole[0]], whole[1]])
        for seconds in SECONDS:
            turns = [self.halves(seconds, turn) for turn in range(DRAWS)]
            found[f"{seconds} s"] = mean_hits([self.identified(x) for x in turns])
            if seconds in SECONDS_SWAPPED:
                found[f"{seconds} s swapped"] = mean_hits([self.identified(self.swap(x)) for x in turns])
        return found


def written(values) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*interval(values))


def table(found: dict, weighting: str) -> str:
    """Markdown: a row a block, a column a control."""
    lines = ["| block | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for name in (*NAMES, ALL):
        cells = [
            written(of[weighting, name]) if control in WITH_INTERVAL else f"{of[weighting, name].mean():.2f}"
            for control, of in found.items()
        ]
        lines.append("| " + " | ".join((name, *cells)) + " |")
    return "\n".join(lines)


def print_tables(appearance: str, model: str, path, sites=tuple(SITES), whitened=(True, False)) -> None:
    """The tables of a file of states; untrained models only get the headline figure. The values also go to PATH's .json."""
    file = pathlib.Path(path).with_suffix(".json")
    values = json.loads(file.read_text()) if file.exists() else {}
    for chosen in sites:
        if chosen == "pixels" and model != "trained":
            continue  # which are the same
        for white in whitened:
            bench = Bench(path, SITES[chosen], RANK, white)
            found = bench.controls() if model == "trained" else {"ordered": bench.identified(bench.halves())}
            space, people = "whitened states" if white else "states as they are", len(bench.people)
            title = f"{appearance}, {model}, {chosen}, {space}, rank {RANK}"
            for weighting in WEIGHTINGS:
                print(f"\n### {title}, {weighting}: {people} people, chance {1 / people:.2f}\n", flush=True)
                print(table(found, weighting), flush=True)
            for control, of in found.items():
                values |= {"/".join((chosen, space, control, *which)): hit.tolist() for which, hit in of.items()}
            file.write_text(json.dumps(values))

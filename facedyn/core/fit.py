"""Person filters fitted to many fit units at once: one vmapped computation in which nobody sees anybody else.

The encoder is a frozen prefix: its features are computed once a centre frame (`encode_units`) and every step works on
them. A unit shorter than the padded length has a count of real rows; rows beyond it are never drawn.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from facedyn.core import person_filters
from facedyn.core.rank_loss import RankLoss, rank_loss, ranking_accuracy
from facedyn.core.solvers import Solver

# features, tap -> dynamic representation; the frozen decoder with its parameters bound.
Decode = Callable[..., jax.Array]


class Units(NamedTuple):
    """Fit units, padded to a common number of rows; a row is a centre frame with its window.

    Attributes:
      windows: [P, N, 2n+1, H, W, C] uint8.
      features: tuple of [P, N, h, w, c]: the frozen encoder's features of the centre frames.
      count: [P] int32: rows from `count` on are padding.
    """

    windows: jax.Array
    features: tuple[jax.Array, ...]
    count: jax.Array


class Carry(NamedTuple):
    """What goes from step to step, with a leading people axis: filters and the solver's state."""

    filters: Any
    state: Any


def encode_units(encode, windows, count, block: int = 256, dtype=jnp.float32) -> Units:
    """Computes the frozen features of every centre frame, `block` frames at a time.

    Args:
      encode: frames [B, H, W, C] -> features, compiled, parameters bound.
      windows: [P, N, 2n+1, H, W, C] uint8.
      count: [P] real rows of each unit.
      block: frames in one call. A compiled loop in its place would slow convolutions down several times on CPU.
      dtype: of the stored features.
    """
    people, rows, length = windows.shape[:3]
    centres = windows[:, :, length // 2].reshape(people * rows, *windows.shape[3:])
    blocks = []
    for start in range(0, people * rows, block):
        frames = centres[start : start + block]
        missing = (block - len(frames)) if people * rows > block else 0  # one shape, one compilation
        frames = jnp.pad(frames, ((0, missing), (0, 0), (0, 0), (0, 0)))
        features = [f.astype(dtype) for f in encode(frames)]
        blocks.append([f[: block - missing] for f in features] if missing else features)
    features = tuple(jnp.concatenate(level).reshape(people, rows, *level[0].shape[1:]) for level in zip(*blocks))
    return Units(jnp.asarray(windows), features, jnp.asarray(count, jnp.int32))


def _losses(decode: Decode, settings: RankLoss, filters, unit: Units, rows):
    """Rank loss and ranking accuracy of some rows of ONE unit: [B] each."""
    maps = decode(tuple(f[rows] for f in unit.features), person_filters.tap(filters))
    windows = unit.windows[rows]
    return rank_loss(maps, windows, settings), ranking_accuracy(maps, windows, settings)


def start(solver: Solver, sites, kind: str, people: int) -> Carry:
    """The common start: zero filters for everyone."""
    filters = person_filters.init(sites, kind)
    everyone = jax.tree.map(lambda f: jnp.zeros((people, *f.shape)), filters)
    return Carry(everyone, jax.vmap(solver.init)(everyone))


def advance(decode: Decode, settings: RankLoss, solver: Solver, carry: Carry, units: Units, draws, step, steps: int) -> Carry:
    """`steps` steps of everybody's fit from step number `step` on.

    Args:
      decode: (features, tap) -> maps, the frozen decoder; its kernels are shared, so `vmap` folds the people into
        the batch of ordinary convolutions.
      draws: of the solver, the same for everyone.
    """

    def one_step(filters, state, unit, number):
        rows, where = solver.rows(draws, number, unit.count)
        in_use = where.sum().astype(jnp.float32)

        def objective(filters):
            losses, _ = _losses(decode, settings, filters, unit, rows)
            return jnp.where(where, losses, 0).sum() / jnp.maximum(in_use, 1)

        state, filters = solver.update(jax.grad(objective)(filters), in_use, state, filters)
        return Carry(filters, state)

    def everyone(carry, number):
        return jax.vmap(one_step, in_axes=(0, 0, 0, None))(carry.filters, carry.state, units, number)

    if steps == 1:
        return everyone(carry, step)
    return jax.lax.scan(lambda c, k: (everyone(c, k), None), carry, step + jnp.arange(steps))[0]


def finish(solver: Solver, carry: Carry):
    """The fitted filters, with a leading people axis."""
    return jax.vmap(solver.finish)(carry.state, carry.filters)


def evaluate(decode: Decode, settings: RankLoss, filters, units: Units, step, batch_size: int):
    """Sums over one block of rows, for quality columns: (loss, ranking accuracy, rows), [P] each.

    Call it for step = 0, 1, ... until step * batch_size covers the padded rows, add up, divide.
    """

    def one(filters, unit):
        row = step * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
        where = row < unit.count
        loss, accuracy = _losses(decode, settings, filters, unit, jnp.minimum(row, unit.windows.shape[0] - 1))
        return tuple(jnp.where(where, x, 0).sum() for x in (loss, accuracy, jnp.ones_like(loss)))

    return jax.vmap(one)(filters, units)

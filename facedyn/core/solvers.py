"""How person filters are found: solvers behind one interface, for one fit unit; `core.fit` vmaps them over units.

A solver says which rows (centre frames) of a unit a step looks at, and what a step's gradient does to the filters.
Rows come from the shared draws and the unit's own row count alone, so that a person's result cannot depend on who else
is in the batch, nor on the padding: everybody gets the same uniform numbers, scaled to their own length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Solver(NamedTuple):
    """Pure functions of one unit.

    Attributes:
      init: filters -> state.
      draws: key -> array with a row a step, drawn once for all units (common random numbers).
      rows: (draws, step, count) -> (rows [B] int32, where [B] bool): centre frames of this step.
      update: (gradient, rows in use, state, filters) -> (state, filters).
      finish: (state, filters) -> filters.
      steps: capacity (padded row count) -> number of steps.
    """

    init: Callable[[Any], Any]
    draws: Callable[[jax.Array], jax.Array]
    rows: Callable[[jax.Array, Any, Any], tuple[jax.Array, jax.Array]]
    update: Callable[..., tuple[Any, Any]]
    finish: Callable[[Any, Any], Any]
    steps: Callable[[int], int]


def adam(learning_rate: float, steps: int, batch_size: int) -> Solver:
    """Adam (Kingma & Ba 2015) with cosine decay, on `batch_size` centre frames drawn with replacement at every step."""
    transform = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def draws(key):
        return jax.random.uniform(key, (steps, batch_size))

    def rows(draws, step, count):
        # draw * count may round up to count in float32, and an empty unit of a padded chunk has no row at all.
        row = jnp.minimum((draws[step] * count).astype(jnp.int32), count - 1)
        return jnp.maximum(row, 0), jnp.full((batch_size,), count > 0)

    def update(gradient, in_use, state, filters):
        updates, state = transform.update(gradient, state, filters)
        return state, optax.apply_updates(filters, updates)

    return Solver(transform.init, draws, rows, update, lambda state, filters: filters, lambda capacity: steps)


def full_gradient(learning_rate: float, batch_size: int) -> Solver:
    """ONE gradient of all the unit's rows at zero filters, times -learning_rate: additive over a person's frames.

    Every row is visited once, `batch_size` at a time.
    """

    def init(filters):
        return jax.tree.map(jnp.zeros_like, filters), jnp.zeros((), jnp.float32)

    def rows(draws, step, count):
        row = step * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
        return jnp.minimum(row, jnp.maximum(count - 1, 0)), row < count

    def update(gradient, in_use, state, filters):
        total, seen = state
        return (jax.tree.map(lambda t, g: t + in_use * g, total, gradient), seen + in_use), filters

    def finish(state, filters):
        total, seen = state
        return jax.tree.map(lambda t: -learning_rate * t / jnp.maximum(seen, 1), total)

    def steps(capacity):
        return -(-capacity // batch_size)

    return Solver(init, lambda key: jnp.zeros(()), rows, update, finish, steps)


def make(name: str, *, learning_rate: float, steps: int, batch_size: int) -> Solver:
    """The solver of that name. Raises ValueError for an unknown one."""
    if name == "adam":
        return adam(learning_rate, steps, batch_size)
    if name == "gradient":
        return full_gradient(learning_rate, batch_size)
    raise ValueError(f"{name!r} is no solver for person filters; solvers are adam, gradient.")

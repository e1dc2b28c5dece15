"""How person filters are found: solvers behind one interface, for one fit unit; `core.fit` vmaps them over units.

A solver says which rows (centre frames) of a unit a step looks at, and what it makes of them. Rows come from the shared
draws and the unit's own row count alone, so that a person's result cannot depend on who else is in the batch, nor on
the padding: everybody gets the same uniform numbers, scaled to their own length.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# (filters, rows [B]) -> the loss of each row [B].
Objective = Callable[[Any, jax.Array], jax.Array]


class Solver(NamedTuple):
    """Pure functions of one unit. `capacity` is its padded number of rows.

    Attributes:
      init: (filters, capacity) -> state.
      draws: key -> array with one row per step, drawn once for all units (common random numbers).
      rows: (draws, step, count) -> (rows [B] int32, where [B] bool): centre frames of this step.
      update: (objective, rows, where, step, state, filters) -> (state, filters).
      finish: (state, filters) -> filters.
      steps: capacity -> number of steps.
      revisits_rows: whether a row is looked at more than once, so that keeping its features saves work.
    """

    init: Callable[[Any, int], Any]
    draws: Callable[[jax.Array], jax.Array]
    rows: Callable[[Any, Any, Any], tuple[jax.Array, jax.Array]]
    update: Callable[..., tuple[Any, Any]]
    finish: Callable[[Any, Any], Any]
    steps: Callable[[int], int]
    revisits_rows: bool


def adam(learning_rate: float, steps: int, batch_size: int) -> Solver:
    """Adam (Kingma & Ba 2015) with cosine decay, on `batch_size` centre frames drawn with replacement at every step."""
    transform = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def draws(key):
        return jax.random.uniform(key, (steps, batch_size))

    def rows(draws, step, count):
        # draw * count may round up to count in float32, and an empty unit of a padded chunk has no row at all.
        row = jnp.minimum((draws[step] * count).astype(jnp.int32), count - 1)
        return jnp.maximum(row, 0), jnp.full((batch_size,), count > 0)

    def update(objective, rows, where, step, state, filters):
        gradient = jax.grad(lambda f: jnp.where(where, objective(f, rows), 0).sum() / jnp.maximum(where.sum(), 1))(filters)
        updates, state = transform.update(gradient, state, filters)
        return state, optax.apply_updates(filters, updates)

    return Solver(
        init=lambda filters, capacity: transform.init(filters),
        draws=draws,
        rows=rows,
        update=update,
        finish=lambda state, filters: filters,
        steps=lambda capacity: steps,
        revisits_rows=True,
    )


def full_gradient(learning_rate: float, batch_size: int) -> Solver:
    """ONE gradient of all the unit's rows at zero filters, times -learning_rate: additive over a person's frames."""

    def init(filters, capacity):
        return jax.tree.map(jnp.zeros_like, filters), jnp.zeros((), jnp.int32)

    def update(objective, rows, where, step, state, filters):
        total, seen = state
        gradient = jax.grad(lambda f: jnp.where(where, objective(f, rows), 0).sum())(filters)
        return (jax.tree.map(jnp.add, total, gradient), seen + where.sum()), filters

    def finish(state, filters):
        total, seen = state
        return jax.tree.map(lambda t: -learning_rate * t / jnp.maximum(seen, 1), total)

    return _one_pass(init, update, finish, batch_size)


def gauss_newton(ridge: float, batch_size: int) -> Solver:
    """One Gauss-Newton step from zero filters on the losses of the unit's rows, by one pass over them.

    Every row r has a loss l_r >= 0 with gradient g_r,s at site s. The filters f that bring the linearised losses nearest
    to nothing,

        min_f  sum_r (l_r + sum_s <g_r,s, f_s>)^2 + ridge * S * sum_s m_s |f_s|^2,    m_s = mean_r |g_r,s|^2, S sites,

    are f_s = -sum_r a_r g_r,s / m_s with (K + ridge * S * I) a = l, K_rt = sum_s <g_r,s, g_t,s> / m_s: a linear system
    as large as there are rows, whatever the number of weights. Every site has equal weight, however steep the loss is there.
    Damping is counted in rows: a unit of fewer rows than that stays near the generic model. The curvature is that of the
    empirical Fisher information (Amari 1998); with the hinge, rows that are in order already have no influence.

    Where one gradient sums up what every row asks for, this asks what serves them all, so that rows which say the same
    do not count twice. It works for any non-negative loss and any kind of filter, and costs a gradient's single pass.
    """

    def init(filters, capacity):
        rows = -(-capacity // batch_size) * batch_size
        return jax.tree.map(lambda f: jnp.zeros((rows, *f.shape), f.dtype), filters), jnp.zeros(rows), jnp.zeros(rows)

    def update(objective, rows, where, step, state, filters):
        def of_row(row):
            return jax.value_and_grad(lambda f: objective(f, row[None])[0])(filters)

        losses, gradients = jax.vmap(of_row)(rows)
        gradients = jax.tree.map(lambda g: jnp.where(where.reshape(-1, *(1,) * (g.ndim - 1)), g, 0), gradients)
        new, place = (gradients, jnp.where(where, losses, 0), where.astype(jnp.float32)), step * batch_size
        return jax.tree.map(lambda all, some: jax.lax.dynamic_update_slice_in_dim(all, some, place, 0), state, new), filters

    def finish(state, filters):
        gradients, losses, there = state
        rows = jnp.maximum(there.sum(), 1)
        # Zero gradients (a site that nothing depends on, a unit without rows) give zero filters, not 0 / 0.
        lengths = jax.tree.map(lambda g: jnp.sqrt((g * g).sum() / rows), gradients)
        scales = jax.tree.map(lambda m: jnp.where(m > 0, 1 / jnp.where(m > 0, m, 1), 0), lengths)
        alike = jax.tree.map(jnp.multiply, gradients, scales)
        flat = [g.reshape(len(losses), -1) for g in jax.tree.leaves(alike)]
        products = sum(jnp.matmul(g, g.T, precision="highest") for g in flat)  # K
        damped = products + ridge * len(flat) * jnp.eye(len(losses))
        weights = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(damped), losses)
        return jax.tree.map(lambda g, scale: -scale * jnp.tensordot(weights, g, 1, precision="highest"), alike, scales)

    return _one_pass(init, update, finish, batch_size)


def _one_pass(init, update, finish, batch_size: int) -> Solver:
    """A solver that looks at every row once, `batch_size` at a time."""

    def rows(draws, step, count):
        row = step * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
        return jnp.minimum(row, jnp.maximum(count - 1, 0)), row < count

    return Solver(
        init=init,
        draws=lambda key: jnp.zeros(()),
        rows=rows,
        update=update,
        finish=finish,
        steps=lambda capacity: -(-capacity // batch_size),
        revisits_rows=False,
    )


@functools.lru_cache(maxsize=32)
def make(name: str, *, learning_rate: float, steps: int, batch_size: int, ridge: float = 20.0) -> Solver:
    """The solver of that name. Raises ValueError for an unknown one, or for ridge that is not positive.

    Equal settings give the same solver, so that what is compiled for it is found again.
    """
    if name == "adam":
        return adam(learning_rate, steps, batch_size)
    if name == "gradient":
        return full_gradient(learning_rate, batch_size)
    if name == "gauss_newton":
        if not ridge > 0:
            raise ValueError(f"ridge={ridge} must be positive: more weights than rows leave the filters open otherwise.")
        return gauss_newton(ridge, batch_size)
    raise ValueError(f"{name!r} is not a solver for person filters; solvers are adam, gradient, gauss_newton.")

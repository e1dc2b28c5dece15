"""Person filters fitted to many fit units at once: one vmapped computation in which nobody sees anybody else.

The encoder is a frozen prefix: where a solver comes back to a row, its features are computed once and kept
(`keep_features`). A unit shorter than the padded length has a count of real rows; rows beyond it count for nothing.

`fit_people` builds the whole fit as one function. Model and loss are arguments: the package's are the U-net and a RankLoss,
tests/fork_example.py has others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Int32, PRNGKeyArray, PyTree, Real, UInt8

from facedyn.core import person_filters
from facedyn.core.person_filters import Site
from facedyn.core.shapes import AnyArray, Count
from facedyn.core.solvers import Solver

# (dynamic representations [B, M, H, W, C], windows [B, 2n+1, H, W, C]) -> [B]: a loss, or an accuracy, of each window.
Measure = Callable[[jax.Array, jax.Array], jax.Array]


class Model(NamedTuple):
    """The frozen generic model, parameters bound.

    Attributes:
      encode: frames [B, H, W, C] -> features, a tuple of [B, h, w, c].
      decode: (features, tap) -> dynamic representation [B, M, H, W, C]. Its kernels are shared, so `vmap` folds the
        people into the batch of ordinary convolutions.
      tap: filters -> tap, which applies them.
    """

    encode: Callable[[jax.Array], tuple[AnyArray, ...]]
    decode: Callable[..., jax.Array]
    tap: Callable[[Any], Callable] = person_filters.tap


class Units(NamedTuple):
    """Fit units, padded to a common number of rows and of frames; a row is a centre frame with its window.

    Attributes:
      frames: each frame once.
      windows: row i is the window frames[windows[i]].
      count: rows from `count` on are padding.
      features: the frozen encoder's features of the centre frames; () when they are
        computed again at every use.
    """

    frames: UInt8[AnyArray, "P T H W C"]
    windows: Int32[AnyArray, "P N window"]
    count: Int32[AnyArray, " P"]
    features: tuple[Float[AnyArray, "P N h w c"], ...] = ()


class Carry(NamedTuple):
    """What goes from step to step, with a leading people axis: filters and the solver's state."""

    filters: PyTree
    state: PyTree


def equal_units(frames: UInt8[AnyArray, "P T H W C"], windows: Int[AnyArray, "N window"]) -> Units:
    """Units of people who all have the same rows; `windows` are everyone's."""
    people, (rows, length) = len(frames), windows.shape
    everyone = jnp.broadcast_to(jnp.asarray(windows, jnp.int32), (people, rows, length))
    return Units(jnp.asarray(frames), everyone, jnp.full(people, rows, jnp.int32))


def fit_people(
    model: Model, loss: Measure, solver: Solver, sites: Sequence[Site], kind: str
) -> Callable[[Units, PRNGKeyArray], PyTree]:
    """The whole fit of all units at once, on one device: a function (units, key) -> filters with a leading people axis.

    Build it once: it compiles at the first call, and again only for another shape of units. The key is that of the solver's
    draws, which are the same for everyone.

    Args:
      sites, kind: where filters are and of which kind, the one that `model.tap` applies.
    """
    step_by_step = jax.default_backend() == "cpu"

    def begin(units, key):
        people, rows = units.windows.shape[:2]
        return start(solver, sites, kind, people, rows), solver.draws(key)

    # A step a call on CPU, because a convolution inside a compiled loop is several times slower there.
    first, last = jax.jit(begin), jax.jit(partial(finish, solver))
    some_steps = jax.jit(partial(advance, model, loss, solver), static_argnames="steps", donate_argnums=0)

    def fit(units: Units, key: PRNGKeyArray) -> PyTree:
        (carry, draws), total = first(units, key), solver.steps(units.windows.shape[1])
        steps = 1 if step_by_step else total
        for number in range(0, total, steps):
            carry = some_steps(carry, units, draws, number, steps=steps)
        return last(carry)

    return fit


def feature_shapes(model: Model, units: Units, dtype: DTypeLike) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Of the features that `keep_features` fills, for all rows."""
    people, rows = units.windows.shape[:2]
    frame = jax.ShapeDtypeStruct((1, *units.frames.shape[2:]), units.frames.dtype)
    return tuple(
        jax.ShapeDtypeStruct((people, rows, *f.shape[1:]), jnp.dtype(dtype)) for f in jax.eval_shape(model.encode, frame)
    )


def keep_features(
    model: Model, features: tuple[Float[AnyArray, "P N _ _ _"], ...], units: Units, start: Count, block: int
) -> tuple[Float[Array, "P N _ _ _"], ...]:
    """Computes the features of `block` rows of everybody from row `start` on, and writes them into `features`.

    Call it for start = 0, block, 2 * block, ... A loop of compiled calls, because a convolution inside a compiled loop
    is several times slower on CPU.
    """
    centres = units.windows[:, :, units.windows.shape[-1] // 2]
    # Near the end both slices begin earlier, by the same number: some rows are computed twice.
    centres = jax.lax.dynamic_slice_in_dim(centres, start, block, 1)
    frames = jax.vmap(lambda frames, rows: frames[rows])(units.frames, centres)  # [P, block, H, W, C]
    new = model.encode(frames.reshape(-1, *frames.shape[2:]))
    return tuple(
        jax.lax.dynamic_update_slice_in_dim(kept, f.reshape(*frames.shape[:2], *f.shape[1:]).astype(kept.dtype), start, 1)
        for kept, f in zip(features, new)
    )


def _maps_and_windows(
    model: Model, filters: PyTree, unit: Units, rows: Int[AnyArray, " B"]
) -> tuple[Float[Array, "B M H W C"], Real[Array, "B window H W C"]]:
    """Dynamic representations and windows of some rows of ONE unit."""
    # Without the barrier the gather is fused into, and repeated in, every loop that reads the windows.
    windows = jax.lax.optimization_barrier(jnp.asarray(unit.frames)[unit.windows[rows]])
    centre = windows.shape[1] // 2
    features = tuple(f[rows] for f in unit.features) if unit.features else model.encode(windows[:, centre])
    return model.decode(features, model.tap(filters)), windows


def start(solver: Solver, sites: Sequence[Site], kind: str, people: int, capacity: int) -> Carry:
    """The common start: zero filters for everyone. `capacity` is the padded number of rows."""
    filters = person_filters.init(sites, kind)
    everyone = jax.tree.map(lambda f: jnp.zeros((people, *f.shape)), filters)
    return Carry(everyone, jax.vmap(lambda f: solver.init(f, capacity))(everyone))


def advance(
    model: Model,
    loss: Measure,
    solver: Solver,
    carry: Carry,
    units: Units,
    draws: Float[AnyArray, " ..."],
    step: Count,
    steps: int,
) -> Carry:
    """`steps` steps of everybody's fit from step number `step` on; `draws` of the solver are the same for everyone."""

    def one_step(filters, state, unit, number):
        def objective(filters, rows):
            return loss(*_maps_and_windows(model, filters, unit, rows))

        rows, where = solver.rows(draws, number, unit.count)
        state, filters = solver.update(objective, rows, where, number, state, filters)
        return Carry(filters, state)

    def everyone(carry, number):
        return jax.vmap(one_step, in_axes=(0, 0, 0, None))(carry.filters, carry.state, units, number)

    if steps == 1:
        return everyone(carry, step)
    return jax.lax.scan(lambda c, k: (everyone(c, k), None), carry, step + jnp.arange(steps))[0]


def finish(solver: Solver, carry: Carry) -> PyTree:
    """The fitted filters, with a leading people axis."""
    return jax.vmap(solver.finish)(carry.state, carry.filters)


def evaluate(
    model: Model, measures: tuple[Measure, ...], filters: PyTree, units: Units, step: Count, batch_size: int
) -> tuple[Float[Array, " P"], ...]:
    """Sums over one block of rows, for quality columns: (every measure in turn, rows).

    Call it for step = 0, 1, ... until step * batch_size covers the padded rows, add up, divide.
    """

    def one(filters, unit):
        row = step * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
        where = row < unit.count
        maps, windows = _maps_and_windows(model, filters, unit, jnp.minimum(row, unit.windows.shape[0] - 1))
        values = [measure(maps, windows) for measure in measures] + [jnp.ones(batch_size)]
        return tuple(jnp.where(where, x, 0).sum() for x in values)

    return jax.vmap(one)(filters, units)

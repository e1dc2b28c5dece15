"""Fits through the decoder, step by step: Adam, one gradient, or a Gauss-Newton step on the rank loss (core/fit.py).

What is compiled depends on padded shapes alone, so all scales, halves and controls share it.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from facedyn.core import fit, person_filters, solvers, unet
from facedyn.stages.fit import batching
from facedyn.stages.fit.batching import EVERYONE, SHARED, Batch, FitResult, Fitting, Shape, over_people
from facedyn.stages.runtime import common, keys

ENCODE_FRAMES = 256  # whose features are computed in one call


class Problem(NamedTuple):
    """What is fitted: the U-net, its rank loss, the sites and the kind of the filters, their layout, the solver."""

    unet: unet.UNet
    loss: Callable
    sites: tuple
    kind: str
    slots: tuple
    solver: solvers.Solver


class Steps(NamedTuple):
    """The compiled steps of a fit; `params` are the U-net's, and all but `start` have their people split over the devices.

    Attributes:
      start: (people, rows) -> the carry of core.fit.
      no_features: shapes -> zeros, for `keep`.
      keep: (params, features, units, start, block) -> features.
      advance: (params, carry, units, draws, step, steps) -> carry.
      finish: carry -> filters.
      evaluate: (params, filters, units, block) -> sums of loss, of right order, of rows.
      decode: (params, filters of one unit, frames) -> dynamic representations.
    """

    start: Callable
    no_features: Callable
    keep: Callable
    advance: Callable
    finish: Callable
    evaluate: Callable
    decode: Callable


def problem(config) -> Problem:
    """From the settings."""
    c, model = config.fit, common.unet(config)
    sites = person_filters.sites(model.channels, c.filter_sites, model.maps * model.image_channels)
    slots = person_filters.layout(sites, c.filter_kind)
    solver = solvers.make(c.solver, learning_rate=c.learning_rate, steps=c.steps, batch_size=c.batch_size, ridge=c.ridge)
    return Problem(model, common.rank_loss_settings(config), sites, c.filter_kind, slots, solver)


def compile_steps(config, p: Problem, mesh) -> Steps:
    """The jitted functions of a fit: for equal settings the same, so that a process compiles them once."""
    return _compile_steps(p, person_filters.KINDS[p.kind], config.fit.batch_size, config.fit.feature_dtype, mesh)


@lru_cache(maxsize=8)
def _compile_steps(p: Problem, _kind: person_filters.Kind, batch_size: int, feature_dtype: str, mesh) -> Steps:
    """`_kind`: what the name p.kind stands for now; a fork may give it to something else."""
    people = NamedSharding(mesh, EVERYONE)

    def model(params):
        return fit.Model(
            lambda frames: unet.encode(p.unet, params, frames),
            lambda features, tap: unet.decode(p.unet, params, features, tap),
            partial(person_filters.tap, kind=p.kind),
        )

    def keep(params, features, units, start, block):
        def own(params, features, units, start):
            return fit.keep_features(model(params), features, units, start, block)

        return over_people(mesh, own, SHARED, EVERYONE, EVERYONE, SHARED)(params, features, units, start)

    def advance(params, carry, units, draws, step, steps):
        def own(params, carry, units, draws, step):
            return fit.advance(model(params), p.loss, p.solver, carry, units, draws, step, steps)

        return over_people(mesh, own, SHARED, EVERYONE, EVERYONE, SHARED, SHARED)(params, carry, units, draws, step)

    def evaluate(params, filters, units, block):
        measures = p.loss, p.loss.accuracy
        return fit.evaluate(model(params), measures, filters, units, block, batch_size)

    def decode(m, filters, frames):
        return m.decode(m.encode(frames), m.tap(filters))

    return Steps(
        start=jax.jit(partial(fit.start, p.solver, p.sites, p.kind), static_argnums=(0, 1), out_shardings=people),
        no_features=jax.jit(
            lambda shapes: tuple(jnp.zeros(s, feature_dtype) for s in shapes),
            static_argnums=0,
            out_shardings=people,
        ),
        keep=jax.jit(keep, static_argnums=4, donate_argnums=1),
        advance=jax.jit(advance, static_argnums=5, donate_argnums=1),
        finish=jax.jit(over_people(mesh, partial(fit.finish, p.solver), EVERYONE)),
        evaluate=jax.jit(over_people(mesh, evaluate, SHARED, EVERYONE, EVERYONE, SHARED)),
        decode=jax.jit(lambda params, filters, frames: decode(model(params), filters, frames)),
    )


def make_fit(config, p: Problem, steps: Steps, mesh, keeps_features) -> Callable[[dict, Batch], FitResult]:
    """fit(params of the U-net, batch) -> FitResult. keeps_features: Shape -> whether the encoder's features are kept."""
    draws = p.solver.draws(keys.key(config.seed, "fit_draws"))  # the same for everyone
    calls, batch_size = common.steps_per_call(config.fit.steps_per_call), config.fit.batch_size
    group_of = partial(_group, config, p, mesh)

    def quality(params, filters, held):
        """(mean loss, ranking accuracy) on held-back rows; NaN where a unit has none."""
        blocks = max(1, -(-int(held.count.max()) // batch_size))
        sums = [steps.evaluate(params, filters, held, block) for block in range(blocks)]
        loss, right, rows = (np.asarray(sum(column)) for column in zip(*sums))
        some = np.where(rows > 0, rows, np.nan)
        return loss / some, right / some

    def fit_group(params, fitted, held, keep):
        people, rows = fitted.windows.shape[:2]
        longest = max(1, int(fitted.count.max()))  # no step for rows that are all padding
        if keep:
            features = steps.no_features(_feature_shapes(config, p, people, rows))
            block = min(rows, max(1, ENCODE_FRAMES * mesh.size // people))
            for first in range(0, longest, block):
                features = steps.keep(params, features, fitted, first, block)
            fitted = fitted._replace(features=features)
        carry = steps.start(people, rows)
        generic = jax.tree.map(jnp.copy, carry.filters)  # the carry is donated
        step, total = 0, p.solver.steps(longest)
        while step < total:
            carry = steps.advance(params, carry, fitted, draws, step, min(calls, total - step))
            step += min(calls, total - step)
        filters = steps.finish(carry)
        _, before = quality(params, generic, held)
        loss, after = quality(params, filters, held)
        return np.asarray(person_filters.flatten(jax.tree.map(np.asarray, filters), p.slots)), loss, before, after

    def fit_batch(params, batch: Batch) -> FitResult:
        shape, found = batch.shape, []
        for some in batching.groups_of(mesh, batch, group_of(shape)):
            fitted, held = (fit.Units(some.frames, rows.windows, rows.count) for rows in (some.fitted, some.held))
            found.append(fit_group(params, fitted, held, keeps_features(shape)))
        return FitResult(*(np.concatenate(column) for column in zip(*found)))

    return fit_batch


def make_fitting(config) -> Fitting:
    """Adam, Gauss-Newton or one gradient."""
    p, mesh = problem(config), batching.people_mesh()

    def keeps_features(shape: Shape) -> bool:
        """Whether the encoder's features are computed once: where a solver comes back to them, and they fit."""
        return p.solver.revisits_rows and unit_bytes(config, p, shape, True) <= batching.device_memory(config)

    steps = compile_steps(config, p, mesh)

    def pictures(params, vector, window, frames):
        filters, frame = person_filters.unflatten(jnp.asarray(vector), p.slots), window[None, len(window) // 2]
        both = (jax.tree.map(jnp.zeros_like, filters), filters)
        return [np.asarray(steps.decode(params, f, jnp.asarray(frame)))[0] for f in both]

    return Fitting(
        slots=p.slots,
        uses_all=False,
        mesh=mesh,
        shapes=batching.shapes_of,
        prefetch=True,
        load=lambda params, *what: batching.load_frames(*what),
        fit=make_fit(config, p, steps, mesh, keeps_features),
        unit_bytes=lambda shape: unit_bytes(config, p, shape, keeps_features(shape)),
        host_bytes=lambda shape: 3 * shape.frames * config.data.image_size**2 * config.data.channels,
        group=partial(_group, config, p, mesh),
        pictures=pictures,
    )


def unit_bytes(config, p: Problem, shape: Shape, kept: bool) -> int:
    """Rough memory of one unit on its device, with the features of its rows kept there or not."""
    size, length = config.data.image_size, 2 * config.rank_loss.half_length + 1
    pixels = size**2 * config.data.channels
    numbers = sum(np.prod(s[2:], dtype=int) for s in _feature_shapes(config, p, 1, 1))
    state = jax.eval_shape(lambda: fit.start(p.solver, p.sites, p.kind, 1, shape.rows))
    state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    stored = shape.rows * numbers * jnp.dtype(config.fit.feature_dtype).itemsize
    # Measured: a step holds about a dozen float32 copies of a row's features and of its window.
    step = config.fit.batch_size * 4 * 12 * (numbers + length * pixels)
    return int(shape.frames * pixels + 2 * state + step + kept * stored)


def _feature_shapes(config, p: Problem, people: int, rows: int):
    """Shapes of the kept features."""
    size = config.data.image_size
    return tuple((people, rows, size >> level, size >> level, c) for level, c in enumerate(p.unet.channels))


def _group(config, p: Problem, mesh, shape: Shape) -> int:
    finest = config.fit.batch_size * config.data.image_size**2 * p.unet.channels[0] * 4
    return batching.cpu_group(mesh, finest)

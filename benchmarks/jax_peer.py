"""facedyn's side of benchmarks/fit.py: its fit of many people at once, and of one after the other.

A `task` is what benchmarks/fit.py calls a Task.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from facedyn.core import fit, person_filters, unet
from facedyn.stages.fit.iterative import ENCODE_FRAMES
from facedyn.stages.runtime.common import steps_per_call

DRAWS = 1  # seed of the rows that the steps look at


def convolution_tap(filters):
    """person_filters.tap as a plain convolution with the person's kernel: grouped, once it is vmapped."""

    def convolved(site, h):
        if site not in filters:
            return h
        kernel = filters[site].astype(h.dtype)
        depthwise = kernel.ndim == 3
        kernel = kernel[None, None] if kernel.ndim == 2 else kernel[:, :, None] if depthwise else kernel
        options = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=h.shape[-1] if depthwise else 1)
        return h + jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", **options)

    return convolved


class JaxPeer:
    """facedyn's fit, `at_once` people in one computation; a call fits everybody for some steps."""

    def __init__(self, task, at_once: int, tap=None, solver=None):
        self.task, self.at_once, self.note = task, at_once, f"{at_once} people at once"
        self.solver = solver or task.solver
        draws = self.solver.draws(jax.random.key(DRAWS))
        self.params = jax.device_put(task.params)

        def model(params):
            return fit.Model(
                lambda frames: unet.encode(task.model, params, frames),
                lambda features, tap: unet.decode(task.model, params, features, tap),
                tap or functools.partial(person_filters.tap, kind=task.kind),
            )

        def advance(params, carry, units, step, steps):
            return fit.advance(model(params), task.settings, self.solver, carry, units, draws, step, steps)

        def evaluate(params, filters, units, i):
            return fit.evaluate(model(params), (task.settings, task.settings.accuracy), filters, units, i, task.batch_size)

        def keep(params, features, units, first, block):
            return fit.keep_features(model(params), features, units, first, block)

        self.advance = jax.jit(advance, static_argnums=4, donate_argnums=1)
        self.finish = jax.jit(lambda carry: fit.finish(self.solver, carry))
        self.evaluate = jax.jit(evaluate)
        self.keep = jax.jit(keep, static_argnums=4, donate_argnums=1)
        self.shapes = lambda units: fit.feature_shapes(model(task.params), units, task.model.dtype)

    def encode(self, units: fit.Units) -> fit.Units:
        rows = units.windows.shape[1]
        features = tuple(jnp.zeros(s.shape, s.dtype) for s in self.shapes(units))
        block = min(rows, max(1, ENCODE_FRAMES // len(units.count)))
        for first in range(0, rows, block):
            features = self.keep(self.params, features, units, first, block)
        return units._replace(features=features)

    def start(self, units: fit.Units) -> fit.Carry:
        people, rows = units.windows.shape[:2]
        return fit.start(self.solver, self.task.sites, self.task.kind, people, rows)

    def __call__(self, steps: int):
        """(filters as numpy, seconds before the first step, seconds of the steps), over all people."""
        setup = stepping = 0.0
        fitted, calls = [], steps_per_call(0)
        for first in range(0, len(self.task.clips), self.at_once):
            started = time.perf_counter()
            units = fit.equal_units(self.task.clips[first : first + self.at_once], self.task.windows)
            units = self.encode(units) if self.solver.revisits_rows else units
            carry, units = jax.block_until_ready((self.start(units), units))
            ready = time.perf_counter()
            for step in range(0, steps, calls):
                carry = self.advance(self.params, carry, units, step, min(calls, steps - step))
            fitted.append(jax.block_until_ready(self.finish(carry)))
            done = time.perf_counter()
            setup, stepping = setup + ready - started, stepping + done - ready
        return jax.tree.map(lambda *f: np.concatenate(f), *fitted), setup, stepping

    def flops(self) -> tuple[float, float]:
        """Of a person's step, and of the encoding of a person's rows before it: XLA's cost analysis of what is compiled."""
        units = fit.equal_units(self.task.clips[: self.at_once], self.task.windows)
        if not self.solver.revisits_rows:
            return self._flops(self.advance.lower(self.params, self.start(units), units, 0, 1)), 0.0
        features = tuple(jnp.zeros(s.shape, s.dtype) for s in self.shapes(units))
        of_rows = self._flops(self.keep.lower(self.params, features, units, 0, 1)) * len(self.task.windows)
        return self._flops(self.advance.lower(self.params, self.start(units), units._replace(features=features), 0, 1)), of_rows

    def _flops(self, lowered) -> float:
        return lowered.compile().cost_analysis()["flops"] / self.at_once

    def quality(self, filters) -> tuple[float, float]:
        """(mean rank loss, ranking accuracy) on the held-back rows."""
        units = fit.equal_units(self.task.clips, self.task.held_back)
        blocks = -(-len(self.task.held_back) // self.task.batch_size)
        sums = zip(*(self.evaluate(self.params, filters, units, i) for i in range(blocks)))
        loss, right, rows = (float(sum(column).sum()) for column in sums)
        return loss / rows, right / rows

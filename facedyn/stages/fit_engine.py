"""The compiled fit of one scale, and how many units go through it at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import InputError
from facedyn.core import fit, person_filters, solvers, unet
from facedyn.stages import common
from facedyn.stages.fit_units import evenly, load_windows

CPU_CHUNK, ACCELERATOR_CHUNK = 16, 256


class Engine:
    """The compiled fit of one scale: generic parameters bound, one compilation a padded length."""

    def __init__(self, config, params, face_clips, scale: int):
        c = self.config = config.fit
        self.scale, self.half_length, self.face_clips = scale, config.rank_loss.half_length, face_clips
        model, settings = common.unet(config), common.rank_loss_settings(config)
        params = jax.device_put(params)
        try:
            self.sites = person_filters.sites(model.channels, c.filter_sites)
            self.slots = person_filters.layout(self.sites, c.filter_kind)
            self.solver = solvers.make(c.solver, learning_rate=c.learning_rate, steps=c.steps, batch_size=c.batch_size)
        except ValueError as error:
            raise InputError(f"config.fit: {error}") from error
        draws = self.solver.draws(jax.random.key(config.seed))  # the same for everyone
        self.calls = common.steps_per_call(c.steps_per_call)
        self.decode = lambda params, features, tap: unet.decode(model, params, features, tap)
        bound = partial(self.decode, params)
        self.encode = jax.jit(lambda frames: unet.encode(model, params, frames))
        self.advance = jax.jit(
            lambda carry, units, step, steps: fit.advance(bound, settings, self.solver, carry, units, draws, step, steps),
            static_argnums=3,
            donate_argnums=0,
        )
        self.evaluate = jax.jit(lambda filters, units, step: fit.evaluate(bound, settings, filters, units, step, c.batch_size))
        self.maps = jax.jit(lambda filters, frames: bound(unet.encode(model, params, frames), person_filters.tap(filters)))

    def unit_bytes(self, padded: int) -> int:
        """Rough memory of one unit in a chunk: windows, features, and the activations of a step in both directions."""
        size, channels = self.face_clips.image_size, self.face_clips.channels
        features = jax.eval_shape(self.encode, jax.ShapeDtypeStruct((1, size, size, channels), jnp.uint8))
        numbers = sum(np.prod(f.shape) for f in features)
        window = (2 * self.half_length + 1) * size**2 * channels
        per_row = window + numbers * jnp.dtype(self.config.feature_dtype).itemsize
        # Measured: a step holds about a dozen float32 copies of a row's features and of its window.
        return int(padded * per_row + self.config.batch_size * 4 * 12 * (numbers + window))

    def load(self, units, padded: int, people: int):
        """Windows of a chunk, filled up with empty units to `people`: (windows, counts) fitted, and the same held back."""
        missing, held = [()] * (people - len(units)), max(1, padded // 4)
        fitted, held_back = [u.fitted for u in units], [evenly(u.held_back, held) for u in units]
        return tuple(
            load_windows(self.face_clips, rows + missing, length, self.scale, self.half_length)
            for rows, length in ((fitted, padded), (held_back, held))
        )

    def __call__(self, loaded):
        """Fits one loaded chunk: (representations [P, D], loss [P], accuracy generic [P], accuracy fitted [P])."""
        dtype = jnp.dtype(self.config.feature_dtype)
        fitted, held = (fit.encode_units(self.encode, windows, count, dtype=dtype) for windows, count in loaded)
        people, capacity = fitted.windows.shape[:2]
        carry = fit.start(self.solver, self.sites, self.config.filter_kind, people)
        generic = jax.tree.map(jnp.copy, carry.filters)  # the carry is donated
        step, total = 0, self.solver.steps(capacity)
        while step < total:
            steps = min(self.calls, total - step)
            carry = self.advance(carry, fitted, step, steps)
            step += steps
        filters = jax.jit(lambda c: fit.finish(self.solver, c))(carry)
        _, before = self._quality(generic, held)
        loss, after = self._quality(filters, held)
        return np.asarray(person_filters.flatten(filters, self.slots)), loss, before, after

    def _quality(self, filters, held):
        """(mean loss, ranking accuracy) on held-back rows; NaN where a unit has none."""
        blocks = -(-held.windows.shape[1] // self.config.batch_size)
        sums = [self.evaluate(filters, held, block) for block in range(blocks)]
        loss, right, rows = (np.asarray(sum(column)) for column in zip(*sums))
        some = np.maximum(rows, 1)
        return np.where(rows > 0, loss / some, np.nan), np.where(rows > 0, right / some, np.nan)


def chunks_of(units, lengths, c, unit_bytes) -> list[tuple[int, int, list]]:
    """(padded length, people, units) of every chunk: units of one of the padded `lengths`, as many as memory allows.

    The chunks of a length are of one size, so that each length is compiled once.
    """
    chunks = []
    for shorter, length in zip((0, *lengths), lengths):
        alike = [u for u in units if shorter < len(u.fitted) <= length]
        # More than fit the caches gain nothing on CPU; an accelerator wants to be filled.
        most = CPU_CHUNK if jax.default_backend() == "cpu" else ACCELERATOR_CHUNK
        most = c.chunk_size or int(np.clip(c.memory_gb * 2**30 // unit_bytes(length), 1, most))
        people = -(-len(alike) // -(-len(alike) // most)) if alike else 0
        chunks += [(length, people, alike[i : i + people]) for i in range(0, len(alike), people or 1)]
    return chunks

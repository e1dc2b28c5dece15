"""The compiled fit, and how many units go through it at once.

People are spread over this process's devices along the mesh axis `person`; nothing ever passes from one to another.
What is compiled depends on padded shapes alone, so all scales and halves share it.
"""

import copy
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.errors import InputError
from facedyn.core import fit, person_filters, solvers, unet
from facedyn.stages.fit.units import Shape, by_shape, load_units
from facedyn.stages.runtime import common, keys

# Units of a part on CPU: so much work is lost by a kill, and so many files there are.
CPU_CHUNK = 16
CPU_MEMORY_GB = 4.0
# A group of units whose finest feature map of a step takes this much stays in a CPU's caches: a third faster.
CPU_CACHE_BYTES = 2**20
# Of a device's memory; the rest is the compiler's.
MEMORY_SHARE = 0.7
ENCODE_FRAMES = 256  # in one call
EVERYONE, SHARED = PartitionSpec("person"), PartitionSpec()


class Engine:
    """Fits chunks of loaded units: `engine(engine.replicate(params), engine.load(...), shape)`, params of a generic model."""

    # Whether the rows held back go into the representation too, once it is known how well the others foresee them.
    uses_all = False

    def __init__(self, config, face_clips):
        self.config, self.seed = config.fit, config.seed
        self.half_length, self.face_clips = config.rank_loss.half_length, face_clips
        self.unet, self.settings = common.unet(config), common.rank_loss_settings(config)
        self._setup()
        self.calls = common.steps_per_call(self.config.steps_per_call)
        self.mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), ("person",))
        self._people = NamedSharding(self.mesh, EVERYONE)
        self._compile()

    def _setup(self):
        """Sites, layout and solver, from the settings."""
        c = self.config
        try:
            self.sites = person_filters.sites(self.unet.channels, c.filter_sites)
            self.slots = person_filters.layout(self.sites, c.filter_kind)
            self.solver = solvers.make(
                c.solver, learning_rate=c.learning_rate, steps=c.steps, batch_size=c.batch_size, ridge=c.ridge
            )
        except ValueError as error:
            raise InputError(f"config.fit: {error}") from error
        self.draws = self.solver.draws(keys.key(self.seed, "fit_draws"))  # the same for everyone

    def _compile(self):
        """The jitted functions; every one takes the parameters first and has its people split over the devices."""
        tap = partial(person_filters.tap, kind=self.config.filter_kind)

        def model(params):
            return fit.Model(
                lambda frames: unet.encode(self.unet, params, frames),
                lambda features, tap: unet.decode(self.unet, params, features, tap),
                tap,
            )

        def over_people(f, *specs):
            return jax.shard_map(f, mesh=self.mesh, in_specs=specs, out_specs=EVERYONE)

        def keep(params, features, units, start, block):
            f = over_people(
                lambda p, kept, units, start: fit.keep_features(model(p), kept, units, start, block),
                *(SHARED, EVERYONE, EVERYONE, SHARED),
            )
            return f(params, features, units, start)

        def advance(params, carry, units, draws, step, steps):
            f = over_people(
                lambda p, carry, units, draws, step: fit.advance(
                    model(p), self.settings, self.solver, carry, units, draws, step, steps
                ),
                *(SHARED, EVERYONE, EVERYONE, SHARED, SHARED),
            )
            return f(params, carry, units, draws, step)

        def evaluate(p, filters, units, step):
            measures = self.settings, self.settings.accuracy
            return fit.evaluate(model(p), measures, filters, units, step, self.config.batch_size)

        self.keep = jax.jit(keep, static_argnums=4, donate_argnums=1)
        self.advance = jax.jit(advance, static_argnums=5, donate_argnums=1)
        self.finish = jax.jit(over_people(partial(fit.finish, self.solver), EVERYONE))
        self.evaluate = jax.jit(over_people(evaluate, SHARED, EVERYONE, EVERYONE, SHARED))
        self.decoded = jax.jit(
            lambda p, filters, frames: unet.decode(self.unet, p, unet.encode(self.unet, p, frames), tap(filters))
        )
        self.start = jax.jit(
            lambda people, rows: fit.start(self.solver, self.sites, self.config.filter_kind, people, rows),
            static_argnums=(0, 1),
            out_shardings=self._people,
        )
        self.no_features = jax.jit(
            lambda shapes: tuple(jnp.zeros(s, self.config.feature_dtype) for s in shapes),
            static_argnums=0,
            out_shardings=self._people,
        )

    def blocks(self, units) -> list[list]:
        """Units whose halves and controls are fitted before those of the next ones; here there is nothing to gain by it."""
        return [units]

    def n_frames(self, unit) -> int:
        """Centre frames that a unit's representation is of."""
        return len(unit.fitted) + len(unit.held_back) * self.uses_all

    def with_reader(self, face_clips):
        """The same engine, nothing compiled again, on another reader of clips of the same size."""
        other = copy.copy(self)
        other.face_clips = face_clips
        return other

    def replicate(self, params):
        """What is the same for everyone, on all devices."""
        return jax.device_put(params, NamedSharding(self.mesh, SHARED))

    def pictures(self, model, vector, window, unit):
        """Dynamic representations of the centre frame of a window [2n+1, H, W, C], without and with the unit's filters.

        Returns: two of [maps, H, W, C].
        """
        filters = person_filters.unflatten(jnp.asarray(vector), self.slots)
        frame = jnp.asarray(window[None, self.half_length])
        nothing = jax.tree.map(jnp.zeros_like, filters)
        return [np.asarray(self.decoded(model, f, frame))[0] for f in (nothing, filters)]

    def unit_bytes(self, shape: Shape, kept: bool) -> int:
        """Rough memory of one unit on its device, with the features of its rows kept there or not."""
        size, channels, length = self.face_clips.image_size, self.face_clips.channels, 2 * self.half_length + 1
        features, numbers = self._features(shape.rows), sum(np.prod(s[2:], dtype=int) for s in self._features(1))
        frames = (shape.frames + shape.held_frames) * size**2 * channels
        state = jax.eval_shape(lambda: fit.start(self.solver, self.sites, self.config.filter_kind, 1, shape.rows))
        state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        stored = sum(np.prod(s, dtype=int) for s in features) * jnp.dtype(self.config.feature_dtype).itemsize
        # Measured: a step holds about a dozen float32 copies of a row's features and of its window.
        step = self.config.batch_size * 4 * 12 * (numbers + length * size**2 * channels)
        return int(frames + 2 * state + step + kept * stored)

    def _features(self, rows: int):
        """Shapes of one unit's kept features."""
        size = self.face_clips.image_size
        return tuple((1, rows, size >> level, size >> level, c) for level, c in enumerate(self.unet.channels))

    def memory(self) -> float:
        """Bytes of each device that a chunk may take."""
        if self.config.memory_gb:
            return self.config.memory_gb * 2**30
        stats = jax.local_devices()[0].memory_stats() or {}
        return MEMORY_SHARE * stats["bytes_limit"] if "bytes_limit" in stats else CPU_MEMORY_GB * 2**30

    def keeps_features(self, shape: Shape) -> bool:
        """Whether the encoder's features are computed once and kept: where a solver comes back to them, and they fit."""
        return self.solver.revisits_rows and self.unit_bytes(shape, kept=True) <= self.memory()

    def group(self) -> int:
        """Units fitted in one call on CPU: few, for the sake of its caches; elsewhere the whole chunk (0)."""
        if jax.default_backend() != "cpu":
            return 0
        finest = self.config.batch_size * self.face_clips.image_size**2 * self.unet.channels[0] * 4
        return self.mesh.size * max(1, CPU_CACHE_BYTES // finest)

    def people(self, shape: Shape, most: int) -> int:
        """Units in a chunk of this shape, of `most` there are: what memory allows, a multiple of the devices."""
        fitting = max(1, int(self.memory() // self.unit_bytes(shape, self.keeps_features(shape)))) * self.mesh.size
        if jax.default_backend() == "cpu":
            fitting = min(fitting, CPU_CHUNK)
        chunk = self.config.chunk_size or min(fitting, -(-most // -(-most // fitting)))
        group = self.group() or self.mesh.size
        group = min(group, -(-chunk // self.mesh.size) * self.mesh.size)
        return -(-chunk // group) * group

    def load(self, units, shape: Shape, people: int, scale: int):
        """A chunk on the host, filled up with empty units to `people`: (frames, windows, counts) fitted, and held back."""
        missing = [()] * (people - len(units))
        fitted, held_back = [u.fitted for u in units], [u.held_back for u in units]
        return tuple(
            load_units(self.face_clips, rows + missing, n_rows, n_frames, scale, self.half_length)
            for rows, n_rows, n_frames in (
                (fitted, shape.rows, shape.frames),
                (held_back, shape.held_rows, shape.held_frames),
            )
        )

    def __call__(self, params, loaded, shape: Shape):
        """Fits a loaded chunk: (representations [P, D], loss [P], accuracy generic [P], accuracy fitted [P])."""
        people = len(loaded[0][0])
        group = min(self.group() or people, people)
        found = []
        for first in range(0, people, group):
            fitted, held = (
                fit.Units(*jax.device_put(tuple(x[first : first + group] for x in part), self._people)) for part in loaded
            )
            found.append(self._fit(params, fitted, held, self.keeps_features(shape)))
        return tuple(np.concatenate(column) for column in zip(*found))

    def _fit(self, params, fitted, held, keep: bool):
        people, rows = fitted.windows.shape[:2]
        if keep:
            features = self.no_features(tuple((people, *s[1:]) for s in self._features(rows)))
            block = min(rows, max(1, ENCODE_FRAMES * self.mesh.size // people))
            for first in range(0, rows, block):
                features = self.keep(params, features, fitted, first, block)
            fitted = fitted._replace(features=features)
        carry = self.start(people, rows)
        generic = jax.tree.map(jnp.copy, carry.filters)  # the carry is donated
        step, total = 0, self.solver.steps(rows)
        while step < total:
            steps = min(self.calls, total - step)
            carry = self.advance(params, carry, fitted, self.draws, step, steps)
            step += steps
        filters = self.finish(carry)
        _, before = self._quality(params, generic, held)
        loss, after = self._quality(params, filters, held)
        return np.asarray(person_filters.flatten(jax.tree.map(np.asarray, filters), self.slots)), loss, before, after

    def _quality(self, params, filters, held):
        """(mean loss, ranking accuracy) on held-back rows; NaN where a unit has none."""
        blocks = -(-held.windows.shape[1] // self.config.batch_size)
        sums = [self.evaluate(params, filters, held, block) for block in range(blocks)]
        loss, right, rows = (np.asarray(sum(column)) for column in zip(*sums))
        some = np.maximum(rows, 1)
        return np.where(rows > 0, loss / some, np.nan), np.where(rows > 0, right / some, np.nan)


def chunks_of(units, chunk_people: dict[Shape, int]) -> list[tuple[Shape, int, list]]:
    """(shape, people, units) of every chunk: units that one of the ascending shapes fits, so many people at a time."""
    chunks = []
    for shape, grouped in by_shape(units, tuple(chunk_people)).items():
        people = chunk_people[shape]
        chunks += [(shape, people, grouped[i : i + people]) for i in range(0, len(grouped), people)]
    return chunks

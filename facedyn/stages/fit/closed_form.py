"""The compiled fit of filters in closed form (core/low_rank.py): the U-net is only looked at, never differentiated.

Has the same use as `fit_engine.Engine`. What a fit needs beside the generic model, the patterns of its sites and the
filters that hold for everybody, is learnt once from the people that the generic model was made of, and kept beside it.
"""

import concurrent.futures
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from facedyn.core import identification, innovations, low_rank, metrics, person_filters, unet
from facedyn.stages.fit.iterative import ENCODE_FRAMES, EVERYONE, SHARED, Engine, chunks_of
from facedyn.stages.fit.site_models import SiteModel, layout
from facedyn.stages.fit.site_states import SiteStates
from facedyn.stages.fit.units import LOADING_THREADS, Shape, TimeShuffled, evenly, place_windows, plan, shapes_of
from facedyn.stages.runtime import processes

# Frames that patterns are learnt from, and bytes of one site's feature maps of them at most.
BASIS_FRAMES, BASIS_BYTES = 2048, 2**30
# Frames of a clip that its mean map is taken from: fewer and the mean takes movement away.
MIN_OF_A_CLIP = 8
# Damping of the filters for everybody, in frames: of all people's there are many.
POPULATION_RIDGE = 1.0
# Share of the clips held back to choose ridge by, where the fit holds nothing back.
HELD_BACK = 0.2
# People whose halves say how reliable a weight is, at least, and in which directions people differ.
MIN_FOR_RELIABILITY, MIN_FOR_DISCRIMINANTS = 10, 40
# At most, evenly spaced: everyone's vectors are held at once, and the work grows with the third power of their number.
MAX_FOR_RELIABILITY = 640
# Bytes of the states of units whose halves and controls are fitted before those of the next ones.
BLOCK_BYTES = 2**26
# Candidates for ridge, in frames.
RIDGES = np.float32([10, 30, 100, 300, 1000, 3000, 10000, 30000])


class SiteEngine(Engine):
    """Fits chunks of loaded units: `engine(engine.replicate(model), engine.load(...), shape)`, with a SiteModel."""

    uses_all = True

    def _setup(self):
        c = self.config
        if self.settings.maps != 2:
            raise InputError("config.fit.solver=least_squares needs config.rank_loss.direction=two_maps.")
        if c.rank < 1:
            raise InputError(f"config.fit.rank={c.rank} must be at least 1.")
        if c.ridge < 0:
            raise InputError(f"config.fit.ridge={c.ridge} must be positive, or 0 to be chosen on the generic model's people.")
        try:
            self.sites = person_filters.sites(self.unet.channels, c.filter_sites)
        except ValueError as error:
            raise InputError(f"config.fit: {error}") from error
        self.slots = layout(self.sites, c)

    def _compile(self):
        site_names = [site.name for site in self.sites]

        def maps(params, frames):
            found = unet.feature_maps(self.unet, params, frames)
            return tuple(found[name].astype(jnp.float32).reshape(len(frames), -1) for name in site_names)

        def over_people(f, *specs):
            return jax.shard_map(f, mesh=self.mesh, in_specs=specs, out_specs=EVERYONE)

        def states(model, frames):
            return jnp.stack([m @ p for m, p in zip(maps(model.params, frames), model.basis)], 1)

        def solve(population, ridge, rows):
            return low_rank.solve(*low_rank.normal_equations(*rows), population, ridge)

        def fit_one(population, ridge, fitted, held):
            """What is found in all rows; the figures are of filters that have not seen the rows held back."""
            figures = low_rank.held_back_quality(population, solve(population, ridge, fitted), fitted, held)
            rows = low_rank.concatenate_rows(fitted, held)
            filters = solve(population, ridge, rows)
            found = [(site_names, filters)]
            if self.config.innovations:
                found.append((map(innovations.slot_name, site_names), innovations.innovations(population + filters, *rows)))
            if self.config.step_correlations:
                states, windows, _, count = rows
                found.append(
                    (map(innovations.step_correlations_name, site_names), innovations.step_correlations(states, windows, count))
                )
            by_slot = {name: of_sites[s] for names, of_sites in found for s, name in enumerate(names)}
            return by_slot, *figures

        self.maps = jax.jit(maps)
        self.states = jax.jit(over_people(states, SHARED, EVERYONE))
        self.fit = jax.jit(over_people(jax.vmap(fit_one, (None, None, 0, 0)), SHARED, SHARED, EVERYONE, EVERYONE))
        self.normal_equations = jax.jit(over_people(jax.vmap(lambda unit: low_rank.normal_equations(*unit)), EVERYONE))
        self.errors = jax.jit(
            over_people(jax.vmap(lambda *a: low_rank.held_back_errors(*a, RIDGES), (None, 0, 0)), SHARED, EVERYONE, EVERYONE)
        )
        self.kept, self._on_devices = SiteStates(), {}

    def unit_bytes(self, shape: Shape, kept: bool) -> int:
        """Rough memory of one unit on its device."""
        size, channels = self.face_clips.image_size, self.face_clips.channels
        frames = shape.frames + shape.held_frames
        states = 2 * 4 * frames * len(self.sites) * self.config.rank
        # Which rows are of one clip, and a handful of copies of the windows' states.
        work = 4 * shape.rows * (shape.rows + 8 * (2 * self.half_length + 1) * len(self.sites) * self.config.rank)
        return int(frames * size**2 * channels + states + work)

    def keeps_features(self, shape: Shape) -> bool:
        """Every frame is looked at once."""
        return False

    def replicate(self, params):
        """What is the same for everyone, on all devices; once, so that states are known again as those of the same model."""
        if not isinstance(params, SiteModel):
            return super().replicate(params)
        if id(params) not in self._on_devices:
            self._on_devices[id(params)] = params, super().replicate(params)
        self._model = id(params.basis)  # what states depend on
        return self._on_devices[id(params)][1]

    def load(self, units, shape: Shape, people: int, scale: int):
        """A chunk on the host, for the model of the last `replicate`: (fitted, held back, frames whose states are not kept).

        Either part: [(record, positions)] of every unit, windows [P, N, 2n+1], clips [P, N], counts [P], frames padded to.
        """
        parts = []
        for rows_of_units, n_rows, n_frames in (
            ([u.fitted for u in units], shape.rows, shape.frames),
            ([u.held_back for u in units], shape.held_rows, shape.held_frames),
        ):
            windows = np.zeros((people, n_rows, 2 * self.half_length + 1), np.int32)
            clips, counts, sources = np.full((people, n_rows), -1, np.int32), np.zeros(people, np.int32), []
            for p, rows in enumerate(rows_of_units):
                own, windows[p, : len(rows)] = place_windows(rows, scale, self.half_length)
                clips[p, : len(rows)], counts[p] = rows[:, 0], len(rows)
                sources.append(own)
            parts.append((sources, windows, clips, counts, n_frames))
        return *parts, self._decode(parts)

    def blocks(self, units) -> list[list]:
        """Units whose halves and controls are fitted before those of the next ones, so that few states are kept for them."""
        found, room = [], 0
        for unit in units:
            # At most: neighbouring windows share frames.
            size = (len(unit.fitted) + len(unit.held_back)) * 4 * len(self.sites) * self.config.rank
            if not found or size > room:
                found.append([])
                room = BLOCK_BYTES
            found[-1].append(unit)
            room -= size
        return found or [units]

    def _reader(self):
        """The reader of frames in their own order, in which states are kept."""
        return self.face_clips.unshuffled() if isinstance(self.face_clips, TimeShuffled) else self.face_clips

    def _key(self, record):
        return self._model, self._reader(), record

    def _decode(self, parts) -> dict:
        """{record: (positions, frames)} of what is not kept yet."""
        needed = {}
        for record, positions in itertools.chain.from_iterable(itertools.chain.from_iterable(part[0] for part in parts)):
            needed.setdefault(record, []).append(positions)
        missing = {
            record: self.kept.missing(self._key(record), np.unique(np.concatenate(positions)))
            for record, positions in needed.items()
        }
        missing = {record: positions for record, positions in missing.items() if len(positions)}
        with concurrent.futures.ThreadPoolExecutor(LOADING_THREADS) as pool:
            frames = pool.map(self._reader().frames, missing, missing.values())
            return {record: (positions, of) for (record, positions), of in zip(missing.items(), frames)}

    def __call__(self, model, loaded, shape: Shape):
        """Fits a loaded chunk: (representations [P, D], loss [P], accuracy [P] by population, by fitted filters [P])."""
        found = []
        ridge = jnp.full(len(self.sites), self.config.ridge) if self.config.ridge else model.ridge
        for fitted, held in self._groups(model, loaded):
            by_slot, *sums = jax.tree.map(np.asarray, self.fit(model.population, ridge, fitted, held))
            loss, before, after, rows = sums
            some = np.where(rows > 0, rows, np.nan)
            found.append((np.asarray(person_filters.flatten(by_slot, self.slots)), loss / some, before / some, after / some))
        return tuple(np.concatenate(column) for column in zip(*found))

    def _groups(self, model, loaded):
        """The chunk's units by groups, on the devices: ((states, windows, clips, counts) fitted, the same held back)."""
        *parts, decoded = loaded
        self._encode(model, decoded)
        people = len(parts[0][1])
        group = min(self.group() or people, people)
        for first in range(0, people, group):
            some = slice(first, first + group)
            yield tuple(
                jax.device_put((self._gathered(model, sources[some], group, n_frames), *(x[some] for x in rest)), self._people)
                for sources, *rest, n_frames in parts
            )

    def _encode(self, model, decoded) -> dict:
        """{record: states} of decoded frames {record: (positions, frames)}; they are kept."""
        block, found = ENCODE_FRAMES * self.mesh.size, {}
        flat = [frame for _, frames in decoded.values() for frame in frames]
        states = []
        for first in range(0, len(flat), block):
            some = np.stack(flat[first : first + block])
            full = np.pad(some, ((0, block - len(some)), *[(0, 0)] * 3))
            states.append(np.asarray(self.states(model, jax.device_put(full, self._people)))[: len(some)])
        states, before = np.concatenate(states) if states else None, 0
        for record, (positions, _) in decoded.items():
            found[record] = states[before : before + len(positions)]
            self.kept.add(self._key(record), positions, found[record])
            before += len(positions)
        return found

    def _gathered(self, model, sources_of_units, people, n_frames) -> np.ndarray:
        """States of units side by side, padded with zeros: [people, n_frames, S, K]."""
        found = np.zeros((people, n_frames, len(self.sites), self.config.rank), np.float32)
        for p, sources in enumerate(sources_of_units):
            before = 0
            for record, positions in sources:
                states = self.kept.get(self._key(record), positions)
                if states is None:  # gone for want of room since it was loaded
                    states = self._encode(model, {record: (positions, self._reader().frames(record, positions))})[record]
                if isinstance(self.face_clips, TimeShuffled):
                    states = self.face_clips.shuffle(record, states)
                found[p, before : before + len(positions)] = states
                before += len(positions)
        return found

    def learn(self, params, scale: int, reader, records) -> SiteModel:
        """Patterns, readouts and the filters for everybody, from the records of a reader; params: of the generic model."""
        on_devices = self.replicate(params)
        frames, clip = _spread(reader, records, self._basis_frames())
        maps = [self.maps(on_devices, frames[i : i + ENCODE_FRAMES]) for i in range(0, len(frames), ENCODE_FRAMES)]
        pixels = subtract_clip_means(frames.reshape(len(frames), -1).astype(np.float32) / 255, clip)
        bases, readout = [], []
        for of_site in zip(*maps):
            centred = subtract_clip_means(np.concatenate([np.asarray(m) for m in of_site]), clip)
            bases.append(low_rank.basis(centred, self.config.rank))
            readout.append(low_rank.readout(centred @ bases[-1], pixels))
        zero = np.zeros((len(self.sites), 2, self.config.rank, self.config.rank), np.float32)
        equal = np.ones(sum(slot.size for slot in self.slots), np.float32)
        found = SiteModel(params, tuple(bases), zero, zero[:, 0, 0, 0], np.stack(readout), equal, equal[:, None][:, :0])
        return self.learn_population(found, scale, reader, records)

    def learn_population(self, model: SiteModel, scale: int, reader, records) -> SiteModel:
        """The same model with what depends on how people move: filters for everybody, ridge, what tells people apart."""
        zero = np.zeros_like(model.population)
        units = self._units_of_people(scale, reader, records, self.config.held_back or HELD_BACK)
        if not units:
            raise InputError(f"No clip of the generic model's people is long enough for a window at scale {scale}.")

        def total(what, f):
            """The sum of f(fitted, held) over the people."""
            on_devices, own = self.replicate(model), self.with_reader(reader)
            sums, shapes = None, shapes_of([(scale, units)], self.half_length)
            with Progress(f"{what} scale {scale}", len(units), "people", stream=processes.progress_stream()) as progress:
                for shape, people, grouped in chunks_of(units, {s: own.people(s, len(units)) for s in shapes}):
                    for parts in own._groups(on_devices, own.load(grouped, shape, people, scale)):
                        of_group = [np.asarray(x, np.float64).sum(0) for x in f(*parts)]
                        sums = of_group if sums is None else [a + b for a, b in zip(sums, of_group)]
                    progress.advance(len(grouped))
            return [np.asarray(x, np.float32) for x in sums]

        sums = total("population filters", lambda fitted, held: self.normal_equations(fitted))
        population = np.asarray(low_rank.solve(*sums, zero, np.full(len(zero), POPULATION_RIDGE)))
        (errors,) = total("ridge", lambda fitted, held: [self.errors(population, fitted, held)])
        chosen = RIDGES[errors.argmin(0)] if errors.any() else np.full(len(zero), RIDGES[-1])
        named = ", ".join(f"{site.name} {d:g}" for site, d in zip(self.sites, chosen))
        processes.log(f"fit: ridge of scale {scale} where held-back frames are said best, {len(units)} people: {named}")
        model = model._replace(population=population, ridge=chosen)
        reliability, directions = self._identification_weights(model, scale, reader, records)
        return model._replace(reliability=reliability, discriminants=directions)

    def _units_of_people(self, scale, reader, records, held_back, half=0):
        units, _ = plan(
            reader,
            records,
            unit="person",
            scale=scale,
            half_length=self.half_length,
            held_back=held_back,
            max_frames=self.config.max_frames,
            min_frames=1,
            half=half,
        )
        return units

    def _identification_weights(self, model: SiteModel, scale: int, reader, records) -> tuple[np.ndarray, np.ndarray]:
        """By the halves of everyone's frames: how much of each weight's spread is between people, [D]; discriminants [D, M]."""
        own, of_halves = self.with_reader(reader), []
        on_devices = own.replicate(model)
        plans = [self._units_of_people(scale, reader, records, 0.0, half) for half in (1, 2)]
        in_both = sorted(set.intersection(*({unit.person_id for unit in units} for units in plans)))
        chosen = set(evenly(in_both, MAX_FOR_RELIABILITY))
        for units in plans:
            units, vectors = [unit for unit in units if unit.person_id in chosen], {}
            shapes = shapes_of([(scale, units)], self.half_length)
            for shape, people, grouped in chunks_of(units, {s: own.people(s, len(units)) for s in shapes}):
                found, *_ = own(on_devices, own.load(grouped, shape, people, scale), shape)
                vectors |= {unit.person_id: found[p] for p, unit in enumerate(grouped) if np.isfinite(found[p]).all()}
            of_halves.append(vectors)
        both = sorted(of_halves[0].keys() & of_halves[1])
        if len(both) < MIN_FOR_RELIABILITY:
            return model.reliability, model.discriminants
        first, second = (np.stack([vectors[p] for p in both]) for vectors in of_halves)
        if len(both) < MIN_FOR_DISCRIMINANTS:
            return np.asarray(metrics.reliability(first, second)), model.discriminants
        return identification.learn(first, second)

    def _basis_frames(self) -> int:
        """How many frames patterns are learnt from: fewer where feature maps are large."""
        size, channels = self.face_clips.image_size, self.unet.channels
        largest = max((size >> level) ** 2 * c for level, c in enumerate(channels))
        return max(4 * self.config.rank, min(BASIS_FRAMES, BASIS_BYTES // (4 * largest)))

    def pictures(self, model, vector, window, unit):
        """Dynamic representations of the window's centre frame, without and with the filters: [2, H, W, C] each.

        The expected changes of the states, as pixels: what of them the patterns' frames have shown, mean over the sites.
        """
        centres = evenly(unit.fitted, ENCODE_FRAMES)
        frames = np.concatenate([self.face_clips.frames(record, np.asarray([centre])) for record, centre in centres])
        both = np.concatenate([frames, window[None, self.half_length]])
        states = np.stack([np.asarray(m) @ np.asarray(p) for m, p in zip(self.maps(model.params, both), model.basis)], 1)
        centred = states[-1:] - states[:-1].mean(0)
        by_site = person_filters.unflatten(np.asarray(vector), self.slots)
        own, population = np.stack([by_site[site.name] for site in self.sites]), np.asarray(model.population)
        images = [
            np.einsum("msk,skd->md", np.asarray(low_rank.dynamics(f, centred))[0], np.asarray(model.readout))
            for f in (population, population + own)
        ]
        return [image.reshape(2, *window.shape[1:]) / len(self.sites) for image in images]


def _spread(reader, records, most: int):
    """Frames evenly from clips that are evenly spaced: (uint8 [R, H, W, C], clip of each [R])."""
    records = [r for r in records if len(reader.clips[r].frame_indices) >= MIN_OF_A_CLIP]
    records = evenly(records, max(1, most // MIN_OF_A_CLIP))
    if not records:
        raise InputError(f"The generic model's people have no clip of at least {MIN_OF_A_CLIP} frames to learn patterns from.")
    share = most // len(records)
    frames, clip = [], []
    for number, record in enumerate(records):
        positions = np.asarray(evenly(range(len(reader.clips[record].frame_indices)), share))
        frames.append(reader.frames(record, positions))
        clip += [number] * len(positions)
    return np.concatenate(frames), np.asarray(clip)


def subtract_clip_means(x, clip) -> np.ndarray:
    """Rows [R, D] less the mean row of their clip; clips are 0, 1, ... and stand together."""
    starts = np.searchsorted(clip, np.arange(clip[-1] + 1))
    means = np.add.reduceat(x, starts, 0) / np.bincount(clip)[:, None]
    return x - means[clip]

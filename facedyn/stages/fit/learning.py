"""What the closed form learns once from the generic model's people, and which is then the same for everyone.

Those people are the pool. From evenly spaced frames of theirs comes the basis of each site; from their states, computed once,
the population filters, the ridge, and how each number of the representation is spread over people.
"""

import functools
import itertools
import pathlib
import tempfile

import jax
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from facedyn.core import bases, cost, low_rank
from facedyn.stages.fit import batching, closed_form
from facedyn.stages.fit.batching import EVERYONE, SHARED, WHOLE, Fitting, Parts, over_people
from facedyn.stages.fit.closed_form import Shared
from facedyn.stages.fit.units import evenly, plan
from facedyn.stages.runtime import common, processes
from facedyn.store import stamps

SHUFFLED = "time_shuffled"
# Frames that the basis is learnt from, and bytes of feature maps of them that are held at once.
BASIS_FRAMES, BASIS_BYTES = 2048, 2**30
# Frames of a clip that its mean map is taken from: with fewer the mean takes movement with it.
MIN_OF_A_CLIP = 8
# Ridge of the population filters, in frames: all people have many.
POPULATION_RIDGE = 1.0
# Share of the clips held back to choose the ridge by, where the fit holds nothing back.
HELD_BACK = 0.2
# Candidates for the ridge, in frames.
RIDGES = np.array([10, 30, 100, 300, 1000, 3000, 10000, 30000], np.float32)


_solve = jax.jit(low_rank.solve)  # operation by operation, each of them would be compiled


def people_of(workdir) -> set[str]:
    """Whose faces, unlabelled, the generic model and what is learnt with it have seen."""
    return {*stamps.summary(workdir, "pretrain").get("people", ()), *stamps.summary(workdir, "fit").get("basis_from", ())}


def generic_pool(config, workdir, face_clips, records):
    """(reader, its records) of the generic model's people; (`face_clips`, `records`) where those are not known or not there."""
    people = people_of(workdir)
    reader = (
        common.open_data(common.pretrain_data_dir(config, workdir), config) if config.data.pretrain_manifest else face_clips
    )
    chosen = [i for i, clip in enumerate(reader.clips) if clip.person_id in people]
    return (reader, chosen) if chosen else (face_clips, records)


def subtract_clip_means(x: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Rows [R, D] less the mean row of their clip, in place; clips are 0, 1, ... and stand together."""
    starts = [*np.searchsorted(clip, np.arange(clip[-1] + 1)), len(clip)]
    for first, end in itertools.pairwise(starts):
        x[first:end] -= x[first:end].mean(0, dtype=np.float64)
    return x


def spread_frames(reader, records, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames evenly from clips that are evenly spaced: (uint8 [R, H, W, C], clip of each [R])."""
    return spread_pairs(reader, records, most, 0)[:2]


def spread_pairs(reader, records, most: int, lag: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`spread_frames`, each with the one `lag` frames later, and which rows are such pairs: [N, 2]; of lag 0 frames alone."""
    first = {r: _followed(reader.clips[r].frame_indices, lag) for r in records}
    records = [r for r in records if len(first[r]) >= MIN_OF_A_CLIP]
    frames_of_one = 1 + bool(lag)
    records = evenly(records, max(1, most // (MIN_OF_A_CLIP * frames_of_one)))
    if not records:
        raise InputError(
            f"The generic model's people have no clip of at least {MIN_OF_A_CLIP + lag} frames to learn the basis from."
        )
    share = most // (len(records) * frames_of_one)
    frames, clip, pairs, before = [], [], [], 0
    for number, record in enumerate(records):
        chosen = np.asarray(evenly(first[record], share))
        positions = np.unique(np.concatenate([chosen, chosen + lag]))
        frames.append(reader.frames(record, positions))
        clip += [number] * len(positions)
        pairs.append(before + np.stack([np.searchsorted(positions, chosen + later) for later in (0, lag)], 1))
        before += len(positions)
    return np.concatenate(frames), np.asarray(clip), np.concatenate(pairs)


def _followed(frame_indices, lag: int) -> np.ndarray:
    """Positions of the frames that have another `lag` frames later with none left out between."""
    numbers = np.asarray(frame_indices)
    return np.flatnonzero(numbers[lag:] - numbers[: len(numbers) - lag] == lag)


def basis_frames(config) -> int:
    """How many frames the basis is learnt from: fewer where feature maps are large."""
    largest = max((config.data.image_size >> level) ** 2 * c for level, c in enumerate(config.model.channels))
    return max(4 * config.fit.rank, min(BASIS_FRAMES, BASIS_BYTES // (4 * largest)))


def learn_basis(config, params, scale: int, reader, records) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The basis of each site and the readout. As many sites at once as their feature maps have room in BASIS_BYTES."""
    kind = bases.BASES[config.fit.basis]
    lag = scale * config.rank_loss.half_length if kind.needs_pairs else 0  # the farthest frame that filters predict
    frames, clip, pairs = spread_pairs(reader, records, basis_frames(config), lag)
    pixels = subtract_clip_means(frames.reshape(len(frames), -1).astype(np.float32) / 255, clip)
    site_maps, block = closed_form.make_site_maps(config), closed_form.encode_frames(config)
    params, found, readout = jax.device_put(params), [], []
    for sites in _sites_at_once(config, len(frames)):
        maps = None
        for first in range(0, len(frames), block):
            # The last block reaches back, so that all have one shape.
            first = max(0, min(first, len(frames) - block))
            some = site_maps(params, frames[first : first + block], sites)
            maps = maps or [np.empty((len(frames), m.shape[1]), np.float32) for m in some]
            for number, own in enumerate(some):  # by number: a name would keep the last map while the next sites' are made
                maps[number][first : first + block] = own
        while maps:
            centred = subtract_clip_means(maps.pop(0), clip)
            found.append(kind.learn(centred, pairs, config.fit.rank))
            readout.append(low_rank.readout(centred @ found[-1], pixels))
            del centred
    return tuple(found), np.stack(readout)


def _sites_at_once(config, frames: int) -> list[tuple]:
    """The sites in runs, each of which takes one pass through the U-net and no more than BASIS_BYTES, or is a single site."""
    found, room, maps = [], 0, common.rank_loss_settings(config).maps
    net = cost.Network(config.data.image_size, tuple(config.model.channels), config.data.channels, maps)
    for site in closed_form.sites_of(config):
        side, channels = cost.site_shape(net, site.name)
        size = 4 * frames * side**2 * channels
        if not found or size > room:
            found.append(())
            room = BASIS_BYTES
        found[-1] += (site,)
        room -= size
    return found


class Pool:
    """States of the pool's people, computed once and kept in a folder while something is learnt from them."""

    def __init__(self, config, fitting: Fitting, shared: Shared, scale: int, reader, records, folder):
        self.config, self.fitting, self.scale, self.folder = config, fitting, scale, pathlib.Path(folder)
        self.half_length = config.rank_loss.half_length
        # Of all scales, so that they share their shapes and what is compiled for these.
        jobs = {each: self._units(reader, records, each) for each in {scale, *common.scales(config)}}
        units = jobs[scale]
        if not units:
            raise InputError(f"No clip of the generic model's people is long enough for a window at scale {scale}.")
        shapes = batching.shapes_of(jobs.items(), self.half_length)
        people = {shape: batching.chunk_people(config, fitting, shape, len(units)) for shape in shapes}
        self.chunks = [
            (shape, of_chunk, [batching.sources_of(parts, scale, self.half_length) for parts in of_chunk], count)
            for shape, count, of_chunk in batching.chunks_of(units, people)
        ]
        on_devices = batching.to_devices(fitting.mesh, (shared.params, shared.basis))
        shared = shared._replace(params=on_devices[0], basis=on_devices[1])
        name = f"states of the generic model's people, scale {scale}"
        with Progress(name, len(units), "people", stream=processes.progress_stream()) as progress:
            for number, (shape, of_chunk, sources, count) in enumerate(self.chunks):
                states = fitting.load(shared, reader, sources, count, shape.frames)
                np.save(self.folder / f"{number}.npy", states)
                progress.advance(len(of_chunk))

    def _units(self, reader, records, scale: int) -> list[Parts]:
        """[{WHOLE: all of a person}]."""
        c = self.config.fit
        units, _ = plan(
            reader,
            records,
            unit="person",
            scale=scale,
            half_length=self.half_length,
            held_back=c.held_back or HELD_BACK,
            max_frames=c.max_frames,
            min_frames=1,
        )
        return [{WHOLE: unit} for unit in units]

    def batches(self, shuffle_seed: int | None):
        """(people, batch of states) of every chunk; None for nobody."""
        for number, (shape, of_chunk, sources, _) in enumerate(self.chunks):
            units = [parts[WHOLE] for parts in of_chunk]
            states = np.load(self.folder / f"{number}.npy")
            batch = batching.batch_of(states, units, sources, shape, self.scale, self.half_length, shuffle_seed)
            yield [unit and unit.person_id for unit in units], batch


def learn_population(config, fitting: Fitting, shared: Shared, pool: Pool, shuffle_seed: int | None = None) -> Shared:
    """`shared` with what depends on how people move: population filters, ridge, mean and spread of the representation."""
    mesh, sites = fitting.mesh, closed_form.sites_of(config)
    normal_equations, errors = compile_sums(config.fit.whiten, mesh)

    def total(f):
        """The sum of f(batch) over the people."""
        sums = []
        for _, batch in pool.batches(shuffle_seed):
            for some in batching.groups_of(mesh, batch, fitting.group(batch.shape)):
                of_group = [np.asarray(x, np.float64).sum(0) for x in f(some)]
                sums = [a + b for a, b in zip(sums, of_group)] if sums else of_group
        return [np.asarray(x, np.float32) for x in sums]

    rank = config.fit.rank
    sums = total(lambda batch: normal_equations(batch.frames, batch.fitted))
    nothing = np.zeros((len(sites), 2, rank, rank), np.float32)
    population = np.asarray(_solve(*sums, nothing, np.full(len(sites), POPULATION_RIDGE)))
    (of_ridges,) = total(lambda batch: [errors(population, *batch)])
    chosen = RIDGES[of_ridges.argmin(0)] if of_ridges.any() else np.full(len(sites), RIDGES[-1])
    named = ", ".join(f"{site.name} {d:g}" for site, d in zip(sites, chosen))
    people = sum(WHOLE in parts for _, of_chunk, *_ in pool.chunks for parts in of_chunk)
    processes.log(f"fit: ridge of scale {pool.scale} that predicts held-back frames best, {people} people: {named}")
    shared = shared._replace(population=population, ridge=chosen)
    return shared._replace(scaling=learn_scaling(fitting, shared, pool, shuffle_seed))


def learn_scaling(fitting: Fitting, shared: Shared, pool: Pool, shuffle_seed: int | None = None) -> np.ndarray:
    """Mean and standard deviation of each weight over the pool's people, [2, D], by which features are standardised.

    1 for a weight that is the same for everyone; [2, 0] of a single person, who has no spread.
    """
    count, sums = 0, np.zeros((2, sum(slot.size for slot in fitting.slots)))
    for people, batch in pool.batches(shuffle_seed):
        found = fitting.fit(shared, batch).representations.astype(np.float64)
        found = found[[p for p, who in enumerate(people) if who and np.isfinite(found[p]).all()]]
        count += len(found)
        sums += found.sum(0), (found**2).sum(0)
    if count < 2:
        return np.zeros((2, 0), np.float32)
    mean = sums[0] / count
    variance = np.maximum(sums[1] / count - mean**2, 0)
    # Less than this share of the size is rounding, not spread.
    std = np.where(variance > 1e-10 * (mean**2 + 1e-10), np.sqrt(variance), 1)
    return np.stack([mean, std]).astype(np.float32)


@functools.lru_cache(maxsize=8)
def compile_sums(whiten: bool, mesh):
    """(states, rows) -> normal equations of each unit; (population, states, fitted, held) -> errors with each of RIDGES."""
    whitened = closed_form.whitening(whiten)

    def errors(population, states, fitted, held):
        fitted, held = whitened(states, fitted, held)
        return low_rank.held_back_errors(population, fitted, held, RIDGES)

    normal_equations = jax.vmap(lambda states, rows: low_rank.normal_equations(*whitened(states, rows)[0]))
    everyone = (EVERYONE,) * 3
    return (
        jax.jit(over_people(mesh, normal_equations, EVERYONE, EVERYONE)),
        jax.jit(over_people(mesh, jax.vmap(errors, (None, 0, 0, 0)), SHARED, *everyone)),
    )


def learn(config, fitting: Fitting, params, scale: int, reader, records, controls=("",), known: Shared | None = None):
    """{control: Shared} of '' and `time_shuffled`, on one basis: that of `known`, or learnt here."""
    basis, readout = (known.basis, known.readout) if known else learn_basis(config, params, scale, reader, records)
    nothing = np.zeros(0, np.float32)
    start = Shared(params, basis, nothing, nothing, readout)
    with tempfile.TemporaryDirectory(prefix="facedyn-states-") as folder:
        pool = Pool(config, fitting, start, scale, reader, records, folder)
        return {
            control: learn_population(config, fitting, start, pool, config.seed if control == SHUFFLED else None)
            for control in controls
        }

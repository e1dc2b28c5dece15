"""Chunks of fit units as arrays: padded to few shapes, as many units at once as memory has room for, every frame once.

All that is fitted of a unit (its rows, both halves, the same in shuffled order) looks at one array of its frames, or of
what is computed of them; windows are places in that array. People are spread over this process's devices along the mesh axis
`person`; nothing ever passes from one to another.
"""

import collections
import concurrent.futures
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.dataset.windows import window_positions
from facedyn.core import cost, surrogates
from facedyn.stages.fit.units import FitUnit, frames_of

MAX_SHAPES = 4
LOADING_THREADS = 8  # decoding is C++ that lets the other threads run
# Units of a part on CPU: so much work is lost by a kill, and so many files there are.
CPU_CHUNK = 16
CPU_MEMORY_GB = 4.0
# A group of units whose arrays of a step take this much stays in a CPU's caches: a third faster.
CPU_CACHE_BYTES = 2**20
# Of a device's memory; the rest is the compiler's. Of the host's: a chunk and the next one, which is loaded meanwhile.
MEMORY_SHARE, HOST_SHARE = 0.7, 0.4
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
EVERYONE, SHARED = PartitionSpec("person"), PartitionSpec()

# What is fitted of one person, session, ...: {(0, 0): all of it, (1, 0): first half, (2, 0): second half, (half, seconds): only
# the first seconds of that}, as far as they are long enough.
WHOLE = (0, 0.0)
Parts = dict[tuple[int, float], FitUnit]


class Shape(NamedTuple):
    """What the arrays of a chunk are padded to, for each unit: rows fitted, rows held back, frames."""

    rows: int
    held_rows: int
    frames: int


class Rows(NamedTuple):
    """Centre frames with their windows: windows [P, N, 2n+1] int32, places among the unit's frames; clip [P, N]; count [P]."""

    windows: np.ndarray
    clip: np.ndarray
    count: np.ndarray


class Batch(NamedTuple):
    """Units to fit: their frames [P, T, ...], or what `Fitting.load` makes of them, the rows fitted and those held back."""

    frames: Any
    fitted: Rows
    held: Rows

    @property
    def shape(self) -> Shape:
        """What it is padded to."""
        return Shape(self.fitted.windows.shape[1], self.held.windows.shape[1], self.frames.shape[1])


class FitResult(NamedTuple):
    """Of a batch of P units: representations [P, D]; loss, ranking accuracy without and with the filters, all [P]."""

    representations: np.ndarray
    loss: np.ndarray
    ranking_accuracy_generic: np.ndarray
    ranking_accuracy_fitted: np.ndarray


class Fitting(NamedTuple):
    """A way to fit, as pure functions compiled once for all scales, halves and controls; `shared` is the same for everyone.

    Attributes:
      slots: the layout record of the representation.
      uses_all: whether the rows held back go into the representation, too, once it is known how well the others predict them.
      mesh: of the people.
      shapes: (jobs, half length) -> what units are padded to, as `shapes_of`.
      prefetch: whether `load` leaves the devices alone, so that the next chunk may be loaded while one is fitted.
      load: (shared, reader, sources of some units, people, frames) -> Batch.frames of so many people, on the host.
      fit: (shared, Batch) -> FitResult.
      unit_bytes: Shape -> rough memory of a unit on its device.
      host_bytes: Shape -> the same on the host.
      group: Shape -> units that are fitted in one call on CPU.
      pictures: (shared, representation, window, frames of the unit) -> dynamic representations of the window's centre
        frame without and with the filters, two of [maps, H, W, C].
    """

    slots: tuple
    uses_all: bool
    mesh: jax.sharding.Mesh
    shapes: Callable[..., tuple[Shape, ...]]
    prefetch: bool
    load: Callable
    fit: Callable
    unit_bytes: Callable[[Shape], int]
    host_bytes: Callable[[Shape], int]
    group: Callable[[Shape], int]
    pictures: Callable


def people_mesh() -> jax.sharding.Mesh:
    """This process's devices along the axis `person`."""
    return jax.sharding.Mesh(np.asarray(jax.local_devices()), ("person",))


def over_people(mesh, f, *specs):
    """f with its people split over the devices; specs: EVERYONE or SHARED for each argument."""
    return jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=EVERYONE)


def to_devices(mesh, tree):
    """Copies what is the same for everyone to all devices; an array that stands in the tree twice is copied once."""
    placed = {id(x): x for x in jax.tree.leaves(tree)}
    placed = {key: jax.device_put(x, NamedSharding(mesh, SHARED)) for key, x in placed.items()}
    return jax.tree.map(lambda x: placed[id(x)], tree)


def groups_of(mesh, batch, group: int) -> Iterator:
    """The people of a batch, a pytree with a leading people axis, `group` at a time (0: all), on their devices."""
    people = len(jax.tree.leaves(batch)[0])
    for first in range(0, people, group or people):
        some = jax.tree.map(lambda x, first=first: x[first : first + (group or people)], batch)
        yield jax.device_put(some, NamedSharding(mesh, EVERYONE))


def device_memory(config) -> float:
    """Bytes of each device that a chunk may take."""
    if config.fit.memory_gb:
        return config.fit.memory_gb * 2**30
    stats = jax.local_devices()[0].memory_stats() or {}
    return MEMORY_SHARE * stats["bytes_limit"] if "bytes_limit" in stats else CPU_MEMORY_GB * 2**30


def host_memory() -> float:
    """Bytes of the host that chunks may take: of what it has, or of what a container is allowed."""
    has = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for place in map(pathlib.Path, CGROUP_LIMITS):
        text = place.read_text().strip() if place.is_file() else ""
        has = min(has, float(text)) if text.isdigit() else has
    return HOST_SHARE * has


def cpu_group(mesh, unit_bytes: int) -> int:
    """Units fitted in one call on CPU, whose arrays of a step take so much each; elsewhere the whole chunk (0)."""
    return mesh.size * max(1, CPU_CACHE_BYTES // max(1, unit_bytes)) if jax.default_backend() == "cpu" else 0


def chunk_people(config, fitting: Fitting, shape: Shape, most: int) -> int:
    """Units in a chunk of this shape, of `most` there are: what memory allows, a multiple of the devices."""
    devices = fitting.mesh.size
    memory = device_memory(config), host_memory()
    fitting_in = cost.chunk(fitting.unit_bytes(shape), fitting.host_bytes(shape), *memory, devices) * devices
    if jax.default_backend() == "cpu":
        fitting_in = min(fitting_in, CPU_CHUNK)
    chunk = config.fit.chunk_size or min(fitting_in, -(-most // -(-most // fitting_in)))
    group = min(fitting.group(shape) or devices, -(-chunk // devices) * devices)
    return -(-chunk // group) * group


def sources_of(parts: Parts, scale: int, half_length: int) -> dict[int, np.ndarray]:
    """{record: positions, ascending} of all frames that some part of a unit needs; one after the other they are its frames."""
    rows = [rows for unit in parts.values() for rows in (unit.fitted, unit.held_back)]
    return frames_of(np.concatenate([np.zeros((0, 2), np.int64), *rows]), scale, half_length)


def _length(parts: Parts) -> int:
    return max(len(unit.fitted) for unit in parts.values())


def shapes_of(jobs, half_length: int) -> tuple[Shape, ...]:
    """The few shapes, at most MAX_SHAPES, that the units of all `jobs` [(scale, [Parts])] are padded to, ascending.

    So many compilations there are, for any mix of lengths, scales and halves.
    """
    lengths_and_units = [(_length(parts), scale, parts) for scale, of_scale in jobs for parts in of_scale]
    counts = [length for length, *_ in lengths_and_units]
    lengths = [max(counts, default=1)]
    while len(lengths) < MAX_SHAPES and lengths[0] > 2 * min(counts, default=1):
        lengths.insert(0, -(-lengths[0] // 2))
    shapes = []
    for shorter, longest in zip((0, *lengths), lengths):
        equal = [(scale, parts) for length, scale, parts in lengths_and_units if shorter < length <= longest]
        held = (len(unit.held_back) for _, parts in equal for unit in parts.values())
        frames = (sum(map(len, sources_of(parts, scale, half_length).values())) for scale, parts in equal)
        if equal:
            shapes.append(Shape(longest, max(1, *held), max(frames)))
    return tuple(shapes)


def chunks_of(units: list[Parts], people: dict[Shape, int]) -> list[tuple[Shape, int, list[Parts]]]:
    """(shape, people, units) of every chunk: units that one of the ascending shapes fits, so many people at a time."""
    chunks, shorter = [], 0
    for shape, count in people.items():
        grouped = [parts for parts in units if shorter < _length(parts) <= shape.rows]
        chunks += [(shape, count, grouped[i : i + count]) for i in range(0, len(grouped), count)]
        shorter = shape.rows
    return chunks


def place_windows(rows, sources, scale: int, half_length: int, shuffle_seed: int | None = None) -> np.ndarray:
    """Where the windows of `rows` (record, centre position) lie among the frames of `sources`: [N, 2n+1] int32.

    shuffle_seed: the frames of each record that the rows need change places as a whole, before windows are cut: the control
      that leaves a person's looks and takes the movement. The order depends on the seed, the record and the number of frames;
      no frame passes between what is fitted and what is held back, nor between clips or halves.
    """
    numbers = np.asarray(rows, np.int64).reshape(-1, 2)
    windows, before = np.zeros((len(numbers), 2 * half_length + 1), np.int32), 0
    for record, positions in sources.items():
        own = np.flatnonzero(numbers[:, 0] == record)
        if len(own):
            wanted = window_positions(numbers[own, 1], scale, half_length)
            if shuffle_seed is not None:
                needed = np.unique(wanted)
                order = np.random.default_rng((shuffle_seed, record)).permutation(len(needed))
                wanted = needed[order][np.searchsorted(needed, wanted)]
            windows[own] = before + np.searchsorted(positions, wanted)
        before += len(positions)
    return windows


def batch_of(frames, units: list, sources, shape: Shape, scale: int, half_length: int, shuffle_seed=None) -> Batch:
    """The batch of units (FitUnit, or None for none) whose frames [P, ...] are those of `sources`; P may be larger."""
    people, found = len(frames), []
    for name, length in (("fitted", shape.rows), ("held_back", shape.held_rows)):
        windows = np.zeros((people, length, 2 * half_length + 1), np.int32)
        clip, count = np.full((people, length), -1, np.int32), np.zeros(people, np.int32)
        for p, (unit, own) in enumerate(zip(units, sources)):
            if unit is not None:
                rows = getattr(unit, name)
                count[p] = n = len(rows)
                windows[p, :n], clip[p, :n] = place_windows(rows, own, scale, half_length, shuffle_seed), rows[:, 0]
        found.append(Rows(windows, clip, count))
    return Batch(frames, *found)


def reversed_batch(batch: Batch) -> Batch:
    """The same units, their clips played backwards: windows from the last frame to the first (`surrogates.reverse`)."""
    fitted, held = (rows._replace(windows=surrogates.reverse(rows.windows)) for rows in (batch.fitted, batch.held))
    return batch._replace(fitted=fitted, held=held)


def ahead(f: Callable, items, threads: int) -> Iterator:
    """f of every item in turn, computed by other threads while the caller is busy with earlier ones; so many wait at most."""
    pool, waiting = concurrent.futures.ThreadPoolExecutor(threads), collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(f, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def one_ahead(begin: Callable, items) -> Iterator:
    """begin(item) of every item in turn, a result of JAX each; the next one is begun before one is handed out.

    JAX returns before it has computed: while the caller waits for a result and copies it to the host, the next item's frames
    are copied to the devices, which need not wait for anybody.
    """
    waiting = None
    for item in items:
        begun = begin(item)
        if waiting is not None:
            yield waiting
        waiting = begun
    if waiting is not None:
        yield waiting


def load_frames(reader, sources, people: int, n_frames: int) -> np.ndarray:
    """Decoded frames of units, padded: uint8 [people, n_frames, H, W, C]."""
    frames = np.zeros((people, n_frames, reader.image_size, reader.image_size, reader.channels), np.uint8)

    def load(p):
        before = 0
        for record, positions in sources[p].items():
            frames[p, before : before + len(positions)] = reader.frames(record, positions)
            before += len(positions)

    with concurrent.futures.ThreadPoolExecutor(LOADING_THREADS) as pool:
        list(pool.map(load, range(len(sources))))
    return frames


def stream_frames(reader, sources, block: int) -> Iterator[np.ndarray]:
    """The frames of all units one after the other, `block` at a time, [block, H, W, C]; the last of them zeros.

    Blocks are decoded while the caller computes with earlier ones; no more than a few exist at once.
    """
    of_all = [(record, positions) for own in sources for record, positions in own.items()]
    records = np.concatenate([np.full(len(positions), record) for record, positions in of_all] or [np.zeros(0, int)])
    positions = np.concatenate([positions for _, positions in of_all] or [np.zeros(0, int)])

    def decode(first):
        own, places = records[first : first + block], positions[first : first + block]
        cuts = [0, *np.flatnonzero(np.diff(own)) + 1, len(own)]
        found = [reader.frames(int(own[a]), places[a:b]) for a, b in itertools.pairwise(cuts)]
        return np.pad(np.concatenate(found), ((0, block - len(own)), *[(0, 0)] * 3))

    yield from ahead(decode, range(0, len(records), block), LOADING_THREADS)

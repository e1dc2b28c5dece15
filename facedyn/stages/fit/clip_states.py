"""States of whole clips: what a fit in closed form needs of them, so that a clip can join or leave without its video.

Why states and not sums over frames. With xtx, xty and lagged products of each clip's centred states, which add up and can be
subtracted, `filters`, `step_correlations`, `autocorrelations`, `amplitude`, `whitened_covariances` and `spectrum` would follow
exactly, whitening included. Three things would not:

- the skewness and kurtosis of the `innovations`. Their errors depend on the filters, which change with every clip. They would
  take all products of up to four of a change and 16 coordinates, 40,000 sums per site and clip: in float64, which such
  differences need, as much as the states of three minutes of video;
- the frames that count: the `max_frames` evenly spaced ones of all of a person's clips, which are others with each new clip;
- the ranking accuracy of the frames held back, which is counted again with the new filters.

So the states are kept, as float32 (float16 moves features by up to 0.01 of their spread): 4 bytes x rank x sites x scales
per frame. With the model in the package that is 640 bytes per frame, 1 MB per minute of video at 25 frames per second. A fit of
them is the fit of the videos: the same rows, and the same numbers to the last bit, as no unit's shape depends on the others.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from data_pipelines.dataset.face_clips import ClipInfo
from facedyn.stages.fit import batching, closed_form, fit_stage
from facedyn.stages.fit.batching import EVERYONE, Batch, FitResult, Fitting, Shape

# Units are padded to so many rows or twice, four times, ... as many, so that one more clip seldom means another compilation.
SMALLEST_ROWS = 64
# Units of a device in one call, elsewhere than on CPU.
AT_ONCE = 16
# Up to this share held back no more rows of a clip are held back than fitted.
SMALL_SHARE = 0.4


class ClipStates(NamedTuple):
    """A clip without its pictures: what is known of it, and {scale: states of all its frames, float32 [T, S, K]}."""

    info: ClipInfo
    states: Mapping[int, np.ndarray]


class StatesReader:
    """Stands in for the reader of a dataset: `clips`, a ClipInfo per record, in the order of their ids, as in a dataset."""

    def __init__(self, clips: Iterable[ClipStates]):
        own = sorted(clips, key=lambda clip: clip.info.clip_id)
        self.clips = tuple(clip.info for clip in own)
        self._states = [clip.states for clip in own]

    def of_scale(self, scale: int) -> Callable:
        """(record) -> the states of its frames at this scale, [T, S, K]."""
        return lambda record: self._states[record][scale]


def make_encode(config) -> Callable:
    """The way from a dataset's frames to states.

    Returns: encode(generic, reader, records, seen) -> iterator of (record, {scale: states float32 [T, S, K]}), in the order of
      `records`. generic: {scale: Shared}. Each frame is decoded once for all scales; seen(n) is told of every n of them.
    """
    sites, mesh = closed_form.sites_of(config), batching.people_mesh()
    of_frames, block = closed_form.compile_encode(config, sites, mesh), closed_form.encode_frames(config) * mesh.size
    place = NamedSharding(mesh, EVERYONE)

    def encode(generic, reader, records, seen: Callable[[int], None] = lambda n: None) -> Iterator:
        models = {scale: batching.to_devices(mesh, (of.params, of.basis)) for scale, of in generic.items()}
        lengths = [len(reader.clips[record].frame_indices) for record in records]
        sources = [{record: np.arange(n)} for record, n in zip(records, lengths)]
        left, total = collections.deque(zip(records, lengths)), sum(lengths)
        waiting, held = {scale: [] for scale in models}, 0  # states of frames whose clip is not complete yet

        def of_all_scales(frames):
            frames = jax.device_put(frames, place)
            return {scale: of_frames(*model, frames) for scale, model in models.items()}

        for number, states_of in enumerate(batching.one_ahead(of_all_scales, batching.stream_frames(reader, sources, block))):
            new = min(block, total - number * block)
            for scale, states in states_of.items():
                waiting[scale].append(np.asarray(states)[:new])
            held += new
            seen(new)
            while left and held >= left[0][1]:
                record, n = left.popleft()
                joined = {scale: np.concatenate(parts) for scale, parts in waiting.items()}
                yield record, {scale: states[:n].copy() for scale, states in joined.items()}
                waiting, held = {scale: [states[n:]] for scale, states in joined.items()}, held - n

    return encode


def fit_table(config, fitting: Fitting, reader: StatesReader, models, folder, settings: str) -> dict:
    """Fits every unit of the clips in `reader` that has no row in the tables in `folder` yet; no video is read.

    Args: as of `fit_stage.fit_table`.
    Returns: {id of a unit with too few centre frames: (scale, how many)}.
    """
    fitting = fitting._replace(load=_load, shapes=own_shapes(config), fit=in_equal_batches(fitting))
    _, too_short = fit_stage.fit_table(config, fitting, reader, models, folder, settings, None, reader.of_scale)
    return too_short


def _load(shared, states_of, sources, people: int, n_frames: int) -> np.ndarray:
    """As `closed_form.make_load` gives it: states of the units' frames, padded, float32 [P, T, S, K]."""
    found = np.zeros((people, n_frames, len(shared.basis), shared.basis[0].shape[1]), np.float32)
    for person, own in enumerate(sources):
        before = 0
        for record, positions in own.items():
            states = states_of(record)[positions]
            found[person, before : before + len(states)] = states
            before += len(states)
    return found


def own_shapes(config) -> Callable[..., tuple[Shape, ...]]:
    """As `batching.shapes_of`, but a unit's shape depends on nothing but its own rows: so do its numbers, to the last bit."""
    most, share = config.fit.max_frames, config.fit.held_back

    def shapes(jobs, half_length: int) -> tuple[Shape, ...]:
        found = set()
        for _, of_scale in jobs:
            for length in {max(len(unit.fitted) for unit in parts.values()) for parts in of_scale}:
                rows = SMALLEST_ROWS
                while rows < length:
                    rows *= 2
                rows, held = min(rows, most), max(1, most // 4)
                held = min(held, rows) if share <= SMALL_SHARE else held
                found.add(Shape(rows, held, (rows + held) * (2 * half_length + 1)))
        return tuple(sorted(found))

    return shapes


def in_equal_batches(fitting: Fitting) -> Callable[..., FitResult]:
    """`fitting.fit` of equally many units each time, whoever else is there."""
    size = fitting.mesh.size * (1 if jax.default_backend() == "cpu" else AT_ONCE)

    def fit(shared, batch: Batch) -> FitResult:
        people = len(batch.frames)
        batch = jax.tree.map(lambda x: np.pad(x, [(0, -people % size), *[(0, 0)] * (x.ndim - 1)]), batch)
        some = (jax.tree.map(lambda x, i=i: x[i : i + size], batch) for i in range(0, people, size))
        found = [fitting.fit(shared, own) for own in some]
        return FitResult(*(np.concatenate(column)[:people] for column in zip(*found)))

    return fit

"""States of whole clips: what a fit in closed form needs of them, so that a clip can join or leave without its video.

Why states and not sums over frames. With xtx, xty and lagged products of each clip's centred states, which add up and can be
subtracted, `filters`, `step_correlations`, `autocorrelations`, `amplitude`, `whitened_covariances` and `spectrum` would follow
exactly, whitening included. Three things would not:

- the skewness and kurtosis of the `innovations`. Their errors depend on the filters, which change with every clip; the fourth
  moments of a change and 16 coordinates are about 6,000 sums per coordinate, half a million per site: more than the states of
  an hour of video;
- the frames that count: the `max_frames` evenly spaced ones of all of a person's clips, which are others with each new clip;
- the ranking accuracy of the frames held back, which is counted anew when the filters change.

So the states are kept, as float32 (float16 moves features by more than 1e-5 of their spread): 4 bytes x rank x sites x scales
per frame. With the model in the package that is 640 bytes per frame, 1 MB per minute of video at 25 frames per second. A fit of
them is the fit of the videos: the same rows, the same numbers.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from data_pipelines.dataset.face_clips import ClipInfo
from facedyn.stages.fit import batching, closed_form, fit_stage
from facedyn.stages.fit.batching import EVERYONE, Fitting


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
        for number, frames in enumerate(batching.stream_frames(reader, sources, block)):
            frames, new = jax.device_put(frames, place), min(block, total - number * block)
            for scale, model in models.items():
                waiting[scale].append(np.asarray(of_frames(*model, frames))[:new])
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
    fitting = fitting._replace(load=_load)
    _, too_short = fit_stage.fit_table(config, fitting, reader, models, folder, settings, None, reader.of_scale)
    return too_short


def _load(shared, states_of, sources, people: int, n_frames: int) -> np.ndarray:
    """As `closed_form.make_load` gives it: states of the units' frames, padded, float32 [P, T, S, K]."""
    found = None
    for person, own in enumerate(sources):
        before = 0
        for record, positions in own.items():
            states = states_of(record)[positions]
            if found is None:
                found = np.zeros((people, n_frames, *states.shape[1:]), np.float32)
            found[person, before : before + len(states)] = states
            before += len(states)
    return found

"""facedyn's default way of fitting for benchmarks/fit.py: no steps, but a least-squares solution of what the U-net's states do.

A `task` is what benchmarks/fit.py calls a Task.
"""

import time
from types import SimpleNamespace

import jax
import numpy as np

from facedyn.config import default_config
from facedyn.core import unet
from facedyn.stages.fit import batching, closed_form
from facedyn.stages.fit.fit_stage import plan_all
from facedyn.stages.runtime import common


class Reader:
    """The task's clips as a dataset, one of each person."""

    def __init__(self, task):
        numbers = np.arange(len(task.clips[0]))
        of_all = dict(task="talk", session="", fps=25.0, frame_indices=numbers, split="test")
        self.clips = [SimpleNamespace(clip_id=f"{i:04d}", person_id=f"p{i:03d}", **of_all) for i in range(len(task.clips))]
        self._frames = task.clips

    def frames(self, record, positions):
        return self._frames[record][positions]


def settings(task):
    """The default ones, of the task's network and one scale."""
    config = default_config()
    config.model.channels, config.model.dtype = task.model.channels, str(np.dtype(task.model.dtype))
    config.model.groups, config.data.image_size = task.model.groups, task.clips.shape[2]
    config.rank_loss.scales, config.fit.max_frames = (1,), len(task.clips[0])
    config.fit.update(dict(unit="person", split_half=False, splits=(), controls=(), video_seconds=(), min_frames=1))
    return config


class ClosedFormPeer:
    """All blocks of the representation of everybody, from frames, with population filters and a basis of noise."""

    def __init__(self, task):
        config = settings(task)
        self._reader, self._fitting, self.note = Reader(task), closed_form.make_fitting(config), "no steps, all blocks"
        self._units = plan_all(config, self._fitting, self._reader)[0][1]
        sites, random, rank = closed_form.sites_of(config), np.random.default_rng(1), config.fit.rank
        model, size = common.unet(config), config.data.image_size
        self._maps = jax.jit(lambda params, frames: unet.feature_maps(model, params, frames))
        self._frames = np.zeros((16, size, size, config.data.channels), np.uint8)
        maps = jax.eval_shape(self._maps, task.params, self._frames[:1])
        basis = (random.normal(size=(np.prod(maps[site.name].shape), rank)) for site in sites)
        self._shared = closed_form.Shared(
            task.params,
            tuple((b / len(b) ** 0.5).astype(np.float32) for b in basis),
            np.zeros((len(sites), 2, rank, rank), np.float32),
            np.full(len(sites), 100, np.float32),
            np.zeros(0, np.float32),
        )
        # Not the fitting's own, which keeps what it has computed.
        mesh = self._fitting.mesh
        self._load = closed_form.make_load(config, closed_form.compile_encode(config, sites, mesh), mesh)

    def __call__(self, steps: int):
        """(None, seconds that states take, seconds that all blocks take), over all people; `steps` mean nothing here."""
        setup = solving = 0.0
        chunk = dict.fromkeys(self._fitting.shapes([(1, self._units)], 4), len(self._units))
        for shape, count, of_chunk in batching.chunks_of(self._units, chunk):
            started = time.perf_counter()
            sources = [batching.sources_of(parts, 1, 4) for parts in of_chunk]
            states = self._load(self._shared, self._reader, sources, count, shape.frames)
            ready = time.perf_counter()
            whole = [parts.get(batching.WHOLE) for parts in of_chunk]
            self._fitting.fit(self._shared, batching.batch_of(states, whole, sources, shape, 1, 4))
            done = time.perf_counter()
            setup, solving = setup + ready - started, solving + done - ready
        return None, setup, solving

    def flops(self) -> tuple[float, float]:
        """(0, of a person's pass through the U-net): XLA's cost analysis; what comes after it is not counted."""
        cost = self._maps.lower(self._shared.params, self._frames).compile().cost_analysis()["flops"]
        return 0.0, cost / len(self._frames) * len(self._reader.clips[0].frame_indices)

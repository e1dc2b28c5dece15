"""Does anybody wait for frames? The loaders of `pretrain` and `fit` beside the computation that they feed.

    python benchmarks/loader.py [--size 32 112] [--rounds 3] [--out loader.json]

Makes a dataset in a temporary folder: moving texture with sensor noise. Then, for each size of the face, with the model and
the loader of configs/demo.py:
- windows a second of the loader alone, by threads: out of the cache, and `cold`, as from a dataset larger than any cache,
  where every window reads its records again;
- the compiled step of `pretrain`, cold: the share of the time that is not spent waiting for the next batch, and the time of
  the same step on batches that lie in memory over its time with the loader, which competes for the same cores;
- the chunks of `fit` (32 pixels), cold, with one chunk loaded ahead as the stage does it: the same two shares.
"""

import argparse
import concurrent.futures
import importlib.util
import itertools
import json
import pathlib
import tempfile
import time

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from machine import log, machine

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.dataset.loaders import window_loader
from data_pipelines.manifest import ClipEntry
from data_pipelines.prepare import PrepareSettings, prepare_face_clips
from facedyn.core import unet
from facedyn.stages.fit import batching, iterative
from facedyn.stages.fit.units import plan
from facedyn.stages.pretrain import Compiled
from facedyn.stages.runtime import common

COLD = 1  # bytes of cache: one record
WARM = 8 << 30
PEOPLE, FRAMES = 24, 320
THREADS = (0, 1, 2, 4, 8)
STEPS = {32: 40, 112: 4}  # of `pretrain` in one round
FIT_SIZE = 32  # larger faces take minutes to fit on a CPU
CHUNK, CHUNKS = 4, 6  # units in a chunk of `fit`, chunks in one round


def write_dataset(folder, size: int, config) -> pathlib.Path:
    """A dataset of PEOPLE clips of FRAMES frames; about as compressible as real faces."""
    random, entries = np.random.default_rng(0), []
    noise = np.clip(random.normal(0, 1.5, (16, size, size, 3)), -6, 6)
    for person in range(PEOPLE):
        texture = cv2.GaussianBlur(random.uniform(0, 255, (size, size, 3)), (0, 0), size / 16)
        texture = (texture - texture.min()) * 235 / np.ptp(texture) + 10
        path = folder / f"c{person}.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 25, (size, size))
        for t, shift in enumerate(np.cumsum(random.normal(0, 0.5, FRAMES)).round().astype(int)):
            writer.write((np.roll(texture, shift, 0) + noise[t % len(noise)]).astype(np.uint8))
        writer.release()
        entries.append(ClipEntry(f"c{person}", f"p{person}", path, split="train", aligned=True))
    settings = PrepareSettings(image_size=size, max_frames_per_record=config.data.max_frames_per_record)
    prepare_face_clips(entries, folder, settings, folder / "quality.parquet", note=log)
    return folder


def windows_a_second(folder, threads: int, cache: int, seconds: float, config) -> float:
    """The loader with nobody to compute beside it."""
    batches = loader(folder, threads, cache, 1, config)
    for _ in range(2 + (PEOPLE * FRAMES // config.pretrain.batch_size // 8 if cache == WARM else 0)):
        next(batches)
    started, n = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        n += len(next(batches)["windows"])
    return n / (time.perf_counter() - started)


def loader(folder, threads: int, cache: int, scale: int, config):
    """As `pretrain` makes it."""
    face_clips = open_face_clips(folder, cache)
    half_length, batch_size = config.rank_loss.half_length, config.pretrain.batch_size
    settings = dict(scale=scale, half_length=half_length, batch_size=batch_size, seed=0, threads=threads)
    return window_loader(face_clips, range(len(face_clips.clips)), **settings)


def pretraining(folder, size: int, rounds: int, config) -> dict:
    """Steps with the loader, and the same steps on batches in memory, in turn."""
    compiled = Compiled(config)
    params = unet.init(compiled.model, jax.random.key(0), size)
    state = {"params": params, "opt_state": compiled.transform.init(params), "step": jnp.zeros((), jnp.int32)}
    batches = loader(folder, config.pretrain.loader_threads, COLD, 1, config)
    in_memory = [next(batches)["windows"] for _ in range(4)]

    def run(state, source):
        """(state, seconds, of which waiting) of the steps on the batches of `source`."""
        waited, started = 0.0, time.perf_counter()
        for _ in range(STEPS[size]):
            asked = time.perf_counter()
            stack = np.stack(list(itertools.islice(source, 1)))
            waited += time.perf_counter() - asked
            state, loss = compiled.update(state, stack)
            loss.block_until_ready()  # so that waiting for the batch is told from waiting for the device
        return state, time.perf_counter() - started, waited

    state, _, _ = run(state, itertools.cycle(in_memory))  # compiles
    rows = []
    for _ in range(rounds):
        state, alone, _ = run(state, itertools.cycle(in_memory))
        state, fed, waited = run(state, (b["windows"] for b in batches))
        rows.append((1 - waited / fed, alone / fed, fed / STEPS[size] * 1000))
    return shares(rows, "step")


def fitting(folder, size: int, rounds: int, config) -> dict:
    """Chunks of units with the next one loaded ahead, and the same chunks from memory, in turn."""
    face_clips = open_face_clips(folder, COLD)
    c, half_length = config.fit, config.rank_loss.half_length
    settings = dict(unit="person", scale=1, half_length=half_length, held_back=c.held_back, max_frames=c.max_frames)
    units, _ = plan(face_clips, range(len(face_clips.clips)), **settings, min_frames=c.min_frames)
    units, way = [{batching.WHOLE: unit} for unit in units], iterative.make_fitting(config)
    shapes = batching.shapes_of([(1, units)], half_length)
    chunks = batching.chunks_of(units, dict.fromkeys(shapes, CHUNK))[:CHUNKS]
    params = batching.to_devices(way.mesh, unet.init(common.unet(config), jax.random.key(0), size))

    def load(chunk):
        shape, people, of_chunk = chunk
        sources = [batching.sources_of(parts, 1, half_length) for parts in of_chunk]
        frames = way.load(params, face_clips, sources, people, shape.frames)
        return batching.batch_of(frames, [parts[batching.WHOLE] for parts in of_chunk], sources, shape, 1, half_length)

    in_memory = load(chunks[0])
    way.fit(params, in_memory)  # compiles
    rows = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(rounds):
            started = time.perf_counter()
            for _ in chunks:
                way.fit(params, in_memory)
            alone = time.perf_counter() - started
            started, waited, first = time.perf_counter(), 0.0, 0.0
            ahead = pool.submit(load, chunks[0])
            for i in range(len(chunks)):
                asked = time.perf_counter()
                loaded = ahead.result()
                waited += time.perf_counter() - asked
                first = first or waited  # the first chunk is waited for, whatever the loader: a run has many
                if i + 1 < len(chunks):
                    ahead = pool.submit(load, chunks[i + 1])
                way.fit(params, loaded)
            fed = time.perf_counter() - started - first
            rows.append((1 - (waited - first) / fed, alone / fed, fed / len(chunks) * 1000))
    return shares(rows, "chunk")


def shares(rows, what: str) -> dict:
    """Medians over the rounds."""
    not_waiting, alone, milliseconds = np.median(rows, 0)
    return {f"ms a {what}": milliseconds, "not waiting": not_waiting, "from memory / with loader": alone}


def settings(size: int):
    """configs/demo.py with faces of this size, fitted by steps of Adam."""
    spec = importlib.util.spec_from_file_location("demo", pathlib.Path(__file__).parent.parent / "configs" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    config = demo.get_config()
    config.data.image_size = size
    by_steps = dict(solver="adam", filter_kind="pointwise", filter_sites="connections", blocks=("filters",), whiten=False)
    config.fit.update(by_steps)
    return config


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[32, 112], choices=sorted(STEPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each figure of the loader alone")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    a = parser.parse_args()
    found = {"machine": machine(), "loader": [], "computing": []}
    for size in a.size:
        config = settings(size)
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            write_dataset(pathlib.Path(folder), size, config)
            stored = sum(f.stat().st_size for f in pathlib.Path(folder).rglob("*.array_record*")) / PEOPLE / FRAMES
            log(f"{size} pixels: dataset in {time.perf_counter() - started:.1f} s, {stored / 1000:.1f} kB a frame")
            for cache, name in ((COLD, "cold"), (WARM, "cached")):
                row = {"size": size, "dataset": name}
                row |= {f"{n} threads": windows_a_second(folder, n, cache, a.seconds, config) for n in THREADS}
                found["loader"].append(row)
                log(str(row))
            stages = [("pretrain", pretraining)] + [("fit", fitting)] * (size <= FIT_SIZE)
            for stage, run in stages:
                row = {"size": size, "stage": stage} | run(folder, size, a.rounds, config)
                found["computing"].append(row)
                log(str(row))
    print(f"windows a second of the loader alone\n{pd.DataFrame(found['loader']).round(0).to_string(index=False)}\n")
    print(f"{pd.DataFrame(found['computing']).round(3).to_string(index=False)}\n{found['machine']}")
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

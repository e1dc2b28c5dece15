"""How fast `prepare` is beside plain decoding of the same files on the same cores, and what it keeps.

    python benchmarks/prepare.py --manifest clips.csv --yunet-model yunet.onnx [--hd 4] [--long 60 --long-hd] [--json out.json]

Side by side, with as many processes as cores: (i) every frame decoded to BGR and thrown away, by PyAV and by OpenCV, (ii)
`prepare` with a detection in every frame, (iii) with one in every fifth.
 --hd N: the same for N of the clips scaled to 1280 x 720 (mp4v).
--long M: peak memory of a process that prepares a video of M minutes made from the first clip, 320 x 240 or with --long-hd
1280 x 720 pixels.
"Times real time per core": seconds of video a second of one core. Only seconds that the processes had a core are counted.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import resource
import tempfile
import time

import av
import cv2
import numpy as np

from data_pipelines.dataset.clip_files import process_to_file, start_worker
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.faces.video import Video
from data_pipelines.manifest import read_manifest


def decode(entry) -> int:
    """Frames of the file, every one decoded as `prepare` does: by PyAV, one thread."""
    with av.open(str(entry.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for frame in container.decode(stream) if frame.reformat(format="bgr24"))


def decode_by_opencv(entry) -> int:
    """The same by OpenCV."""
    capture = cv2.VideoCapture(str(entry.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


def timed(function, *arguments):
    """(what it returns, seconds of a core that it took)."""
    start = time.process_time()
    return function(*arguments), time.process_time() - start


def measure(pool, entries, settings, folder):
    """Rows of figures of the three ways; each is run twice and the faster one counts, as other work may share the machine.

    Seconds are those that the processes had a core: waiting for one that other work holds does not count.
    """
    jobs = {"decode": (decode,), "OpenCV": (decode_by_opencv,)}
    for every in (1, 5):
        changed = dataclasses.replace(settings, detect_every=every)
        jobs[f"every {every}"] = (
            process_to_file,
            itertools.repeat(changed),
            [folder / f"{i}.json" for i in range(len(entries))],
        )
    seconds, rows = {name: [] for name in jobs}, {}
    for _ in range(2):
        for name, (function, *others) in jobs.items():
            found = list(pool.map(timed, itertools.repeat(function), entries, *others))
            rows[name] = [row for row, _ in found]
            seconds[name].append(sum(taken for _, taken in found))
    frames = sum(rows["decode"])
    length = sum(row.n_decoded / row.fps for row in rows["every 5"])
    table = {}
    for name in jobs:
        best = min(seconds[name])
        table[name] = {"frames/s of a core": frames / best, "of decoding": min(seconds["decode"]) / best}
        table[name]["times real time per core"] = length / best
        if name.startswith("every"):
            table[name]["kept"] = sum(row.n_kept for row in rows[name]) / frames
            table[name]["jitter"] = float(np.mean([row.jitter for row in rows[name]]))
    return table


def scaled(entry, path, size=(1280, 720)):
    """The clip as an mp4v file of that size; portrait clips turned into a strip in the middle."""
    video = Video(entry.path)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), video.fps, size)
    for _, _, image in video:
        factor = min(size[0] / image.shape[1], size[1] / image.shape[0])
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        frame = np.zeros((size[1], size[0], 3), np.uint8)
        x = (size[0] - small.shape[1]) // 2
        frame[: small.shape[0], x : x + small.shape[1]] = small[: size[1], : size[0], ::-1]
        writer.write(frame)
    writer.release()
    return dataclasses.replace(entry, path=path)


def long_video(entry, path, minutes, size):
    """The clip to and fro for so many minutes at 25 frames a second, (width, height) `size`; encoded once, then repeated."""
    part = path.with_name("part.mp4")
    images = [image for _, _, image in itertools.islice(Video(entry.path), 250)]
    with av.open(str(part), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", 4_000_000
        for image in images + images[::-1]:
            factor = max(size[0] / image.shape[1], size[1] / image.shape[0])
            image = cv2.resize(image, None, fx=factor + 1e-3, fy=factor + 1e-3)[: size[1], : size[0]]
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
        file.mux(stream.encode())
    length = 2 * len(images)
    with av.open(str(path), "w") as file:
        with av.open(str(part)) as source:
            stream = file.add_stream_from_template(source.streams.video[0])
        for again in range(math.ceil(minutes * 60 * 25 / length)):
            with av.open(str(part)) as source:
                for packet in source.demux(video=0):
                    if packet.size:
                        shift = round(again * length / 25 / packet.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        file.mux(packet)
    return dataclasses.replace(entry, path=path)


def peak_memory(entry, settings, path):
    """(quality row, peak resident MiB of this process)."""
    row = process_to_file(entry, settings, path)
    return row, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def beside_decoding(arguments, entries, settings, folder, workers, spawn):
    """{'clips': table, '720p': table} as asked for."""
    tables = {}
    with concurrent.futures.ProcessPoolExecutor(workers, spawn, start_worker) as pool:
        list(pool.map(decode, entries[:workers]))  # the processes have started
        tables["clips"] = measure(pool, entries, settings, folder)
        if arguments.hd:
            chosen = [entries[i] for i in np.linspace(0, len(entries) - 1, arguments.hd).astype(int)]
            hd = [scaled(entry, folder / f"hd{i}.mp4") for i, entry in enumerate(chosen)]
            tables["720p"] = measure(pool, hd, settings, folder)
    return tables


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--yunet-model", default="")
    parser.add_argument("--clips", type=int, default=0, help="only the first so many; 0 = all")
    parser.add_argument("--hd", type=int, default=0)
    parser.add_argument("--long", type=float, default=0.0)
    parser.add_argument("--long-hd", action="store_true", help="the long video is 1280 x 720")
    parser.add_argument("--only-long", action="store_true", help="only that")
    parser.add_argument("--json", default="")
    arguments = parser.parse_args()
    settings = PrepareSettings(yunet_model=arguments.yunet_model)
    entries = read_manifest(arguments.manifest)[: arguments.clips or None]
    workers, tables = len(os.sched_getaffinity(0)), {}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if not arguments.only_long:
            tables = beside_decoding(arguments, entries, settings, folder, workers, spawn)
        for name, table in tables.items():
            print(f"\n{name}, {workers} cores, OpenCV {cv2.__version__}")
            for way, figures in table.items():
                print(f"  {way:10}", ", ".join(f"{what} {value:.3g}" for what, value in figures.items()))
        if arguments.long:
            with concurrent.futures.ProcessPoolExecutor(1, spawn, start_worker) as pool:
                size = (1280, 720) if arguments.long_hd else (320, 240)
                entry = long_video(entries[0], folder / "long.mp4", arguments.long, size)
                row, peak = pool.submit(peak_memory, entry, settings, folder / "long.json").result()
            tables["long"] = {"minutes": arguments.long, "frames": row.n_decoded, "kept": row.n_kept, "peak MiB": peak}
            print("\nlong", tables["long"])
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()

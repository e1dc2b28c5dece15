"""From video files to a table: seconds of one core for a minute of video, stage by stage, beside a face mesh of the same clips.

    python benchmarks/video_to_table.py --manifest CLIPS.csv --work DIR [--yunet-model YUNET.onnx] [--mesh-python PYTHON]
        [--config videos] [--config.NAME=VALUE ...]

Every stage is a process of its own, with what it compiles, and `embed` is the model in the package on the same clips. Seconds
are those of all cores together, of the process and of those that it started. --mesh-python: an interpreter with mediapipe and
av (see roll_mesh.py), which finds 478 landmarks in every frame of the same files; such landmarks are what a baseline
(`data.landmarks`) starts from, and tables of them still have to be made into features.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import time

import av
import pandas as pd

STAGES = ("prepare", "pretrain", "fit")
MESH = """
import sys, av, mediapipe, numpy
for path in sys.argv[1:]:
    with mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True, max_num_faces=1) as mesh, av.open(path) as container:
        for frame in container.decode(video=0):
            mesh.process(numpy.ascontiguousarray(frame.to_ndarray(format="rgb24")))
"""
DECODE = """
import sys, av
for path in sys.argv[1:]:
    with av.open(path) as container:
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")
"""


def seconds_of(command) -> tuple[float, float]:
    """(seconds of all cores, of the clock) of a command and whatever it starts."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - started


def minutes_of(paths) -> tuple[float, int]:
    """(minutes, frames) of the videos, by their packets."""
    seconds = frames = 0
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = sorted(p.pts * stream.time_base for p in container.demux(stream) if p.pts is not None)
        seconds += float(times[-1] - times[0]) * len(times) / max(1, len(times) - 1)
        frames += len(times)
    return seconds / 60, frames


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--config", default="videos")
    parser.add_argument("--yunet-model", default="")
    parser.add_argument("--mesh-python", default="")
    args, flags = parser.parse_known_args()
    args.work.mkdir(parents=True)
    table = pd.read_csv(args.manifest)
    paths = [str((args.manifest.parent / path).absolute()) for path in table["path"]]
    minutes, frames = minutes_of(paths)
    print(f"{len(paths)} clips, {minutes:.2f} minutes, {frames} frames, load {os.getloadavg()[0]:.1f}\n")
    print("| what | seconds of a core a minute of video | seconds of the clock |\n|---|---|---|", flush=True)
    yunet = [f"--config.data.yunet_model={args.yunet_model}"] if args.yunet_model else []
    own = [sys.executable, "-m", "facedyn.main"]
    run = [f"--config={args.config}", f"--config.data.manifest={args.manifest}", f"--workdir={args.work}/run", *yunet, *flags]
    commands = {"plain decoding to RGB": [sys.executable, "-c", DECODE, *paths]}
    commands |= {stage: [*own, stage, *run] for stage in STAGES}
    commands["embed, the model in the package"] = [
        *own,
        "embed",
        str(args.manifest),
        f"--out={args.work}/table.parquet",
        *yunet,
    ]
    if args.mesh_python:
        commands["MediaPipe's face mesh"] = [args.mesh_python, "-c", MESH, *paths]
    for name, command in commands.items():
        used, clock = seconds_of(command)
        print(f"| {name} | {used / minutes:.1f} | {clock:.0f} |", flush=True)


if __name__ == "__main__":
    main()

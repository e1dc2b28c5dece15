"""Peak memory and time of every stage for few and for many people, each stage in a process of its own.

    python benchmarks/people_memory.py [--people 200 1000] [--stages pretrain fit traits report] [--out people_memory.json]

The clips are made up: tiny aligned videos of a blob that moves at its person's own rate, which `prepare` turns into a data set
once. `--people` counts those who are scored; for every 20 of them there are 5 more in training and 1 in validation. The
peak is the resident memory of the largest process of a stage, and time is that of all cores together, as the operating
system counts them (Linux, macOS). `--keep DIR` keeps the data sets there for the next call; without it they are deleted.
"""

import argparse
import csv
import json
import os
import pathlib
import sys
import tempfile
import time

import av
import numpy as np

PROMISE = 1.15  # most memory, and most CPU seconds a clip, of the largest run, in that of the smallest
STAGES = ("prepare", "pretrain", "fit", "traits", "report")
CLIPS, FRAMES, SIZE = 4, 40, 32  # of a person, of a clip, pixels
SETTINGS = {
    "data.image_size": SIZE,
    "data.traits": "openness",
    "model.channels": "(8,16)",
    "model.groups": 4,
    "rank_loss.scales": "(1,)",
    "pretrain.batch_size": 32,
    "pretrain.steps": 50,
    "pretrain.eval_every": 25,
    "pretrain.loader_threads": 2,
    "fit.splits": "('test',)",
    "fit.solver": "least_squares",
    "fit.filter_kind": "low_rank",
    "fit.filter_sites": "all",
    "fit.rank": 8,
    "fit.ridge": 0.0,
    "fit.blocks": ("filters", "innovations"),
    "traits.splits": "('test',)",
    "traits.bootstrap": 500,
}


def people_of(scored: int) -> list[tuple[str, str]]:
    """(person_id, split) of `scored` people of the split test and those that the generic model learns from."""
    counts = {"test": scored, "train": max(4, scored // 4), "validation": max(2, scored // 20)}
    return [(f"{split}{i:05d}", split) for split, count in counts.items() for i in range(count)]


def write_videos(folder, scored: int, clips: int = CLIPS, frames: int = FRAMES, size: int = SIZE) -> pathlib.Path:
    """Writes a video a clip and the manifest that names them; returns the manifest's path."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (person, split) in enumerate(people_of(scored)):
        random = np.random.default_rng(number)
        rate, trait = random.uniform(0.5, 4.0), random.normal()
        face = random.integers(60, 120, (size, size, 3))
        place = folder / f"{number // 100:03d}"  # no folder of ten thousands of files
        place.mkdir(exist_ok=True)
        for clip in range(clips):
            path = place / f"{person}-{clip}.avi"
            _write_video(path, _moving(face, rate, random, frames))
            rows.append((f"{person}-{clip}", person, path.relative_to(folder), split, "true", f"{rate + trait:.3f}"))
    manifest = folder / "clips.csv"
    with open(manifest, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("clip_id", "person_id", "path", "split", "aligned", "openness"), *rows])
    return manifest


def _moving(face, rate, random, frames):
    """Frames uint8 [T, H, W, 3]: a bright blob that swings over a face at `rate` times a second."""
    size = len(face)
    phase = 2 * np.pi * rate * np.arange(frames) / 25 + random.uniform(0, 6) + np.cumsum(random.normal(0, 0.1, frames))
    y, x = np.mgrid[:size, :size]
    centre = size / 2 + size / 4 * np.sin(phase)
    blob = np.exp(-((x[None] - centre[:, None, None]) ** 2 + (y[None] - size / 2) ** 2) / (size / 2))
    noise = random.integers(0, 8, (frames, size, size, 1))
    return np.clip(face[None] + 120 * blob[..., None] + noise, 0, 255).astype(np.uint8)


def _write_video(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 400_000
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def run_stage(stage: str, workdir, manifest, settings: dict) -> dict:
    """Runs a stage in a process of its own: {"seconds", "cpu_seconds", "peak_mib"}; its output goes to WORKDIR/STAGE.log.

    Raises SystemExit when the stage fails.
    """
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    root = pathlib.Path(__file__).absolute().parents[1]
    given = [f"--config.{name}={value}" for name, value in {"data.manifest": manifest, **settings}.items()]
    command = [sys.executable, "-m", "facedyn.main", stage, f"--config={root / 'configs/default.py'}"]
    command += [f"--workdir={workdir}", *given]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    log = workdir / f"{stage}.log"
    started = time.perf_counter()
    with open(log, "w", encoding="utf-8") as file:
        actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        process = os.posix_spawn(command[0], command, environment, file_actions=actions)
        _, status, usage = os.wait4(process, 0)  # of this process and those that it waited for, unlike RUSAGE_CHILDREN
    if status:
        raise SystemExit(f"{stage} failed, see {log}:\n{log.read_text(encoding='utf-8')[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    seconds, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": usage.ru_maxrss * unit / 2**20}


def measure(place, scored: int, stages, settings: dict) -> list[dict]:
    """Makes videos and data set under `place` where they are not there, and runs the stages: a row each."""
    place = pathlib.Path(place)
    manifest = place / "videos" / "clips.csv"
    if not manifest.is_file():
        manifest = write_videos(manifest.parent, scored)
    rows, clips = [], CLIPS * len(people_of(scored))
    for stage in STAGES:
        if stage in stages or (stage == "prepare" and not (place / "run" / "data").is_dir()):
            row = run_stage(stage, place / "run", manifest, settings)
            row |= dict(stage=stage, people=scored, clips=clips, ms_a_clip=1000 * row["cpu_seconds"] / clips)
            rows.append(row)
            text = "{people:6d} people  {stage:9s} {peak_mib:7.0f} MiB {seconds:7.1f} s {ms_a_clip:7.1f} ms of a core a clip"
            print(text.format(**row))
            sys.stdout.flush()
    return rows


def growth(rows) -> dict[str, tuple[float, float]]:
    """{stage: (peak memory, CPU seconds a clip) of the largest run as a multiple of the smallest's}."""
    found = {}
    for stage in dict.fromkeys(row["stage"] for row in rows):
        of_stage = sorted((row for row in rows if row["stage"] == stage), key=lambda row: row["people"])
        found[stage] = tuple(of_stage[-1][name] / of_stage[0][name] for name in ("peak_mib", "ms_a_clip"))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[200, 1000], help="who are scored")
    parser.add_argument("--stages", nargs="+", default=STAGES[1:], choices=STAGES)
    parser.add_argument("--keep", default="", help="folder in which data sets are kept")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further settings")
    a = parser.parse_args()
    settings, rows = SETTINGS | dict(pair.split("=", 1) for pair in a.set), []
    with tempfile.TemporaryDirectory() as temporary:
        for people in a.people:
            rows += measure(pathlib.Path(a.keep or temporary) / f"{people}", people, a.stages, settings)
    multiples = growth(rows)
    for stage, (memory, seconds) in multiples.items() if len(a.people) > 1 else ():
        print(f"{stage:9s} memory x {memory:.2f}, CPU seconds a clip x {seconds:.2f} from the smallest to the largest run")
    if a.out:
        found = {"settings": settings, "rows": rows, "growth": multiples, "promise": PROMISE}
        pathlib.Path(a.out).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

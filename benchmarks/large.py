"""Proof at size: a data set of gigabytes, one of ten thousand clips, growth and forgetting, each stage in a process of its own.

    python benchmarks/large.py [--cases size people grow beam] [--gigabytes 3] [--clips 1000 10000] [--place DIR] [--keep]

`size`: made-up faces of 112 pixels, all scored people in one split, through every stage. `people`: short clips of 32 pixels, a
fifth as many people as clips, through every stage, at each of the two sizes, whose time a clip and peak memory are compared.
`grow`: one clip is added to the larger of them, then one person is forgotten. `beam`: the same clips over Beam's DirectRunner.
Says beforehand what it needs, works under --place (default: a temporary folder), cleans up, and writes JSON. Every process is
started with an import hook that raises when TensorFlow is imported, and may open 256 files.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import resource
import shutil
import sys
import tempfile
import time

import numpy as np
import people_memory

ROOT = pathlib.Path(__file__).absolute().parents[1]
OPEN_FILES = 256
FRAMES, SIZE, VIDEOS = 450, 112, 24  # of the case `size`: 18 seconds; clips share a few videos
BYTES_A_FRAME = 15_000  # on the disk; what such faces were seen to take
PER_PERSON = 5  # clips, of the case `people`
TINY = people_memory.SETTINGS | {"fit.splits": "()", "traits.splits": "()"}
BEAM = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["size", "people", "grow", "beam"])
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--clips", nargs=2, type=int, default=[1000, 10_000])
    parser.add_argument("--place", default="", help="folder to work in; it needs twice the gigabytes and 2 GB more")
    parser.add_argument("--keep", action="store_true", help="do not delete what was made")
    parser.add_argument("--out", default="large.json")
    args = parser.parse_args()
    place = pathlib.Path(args.place or tempfile.mkdtemp(prefix="facedyn-large-")).absolute()
    place.mkdir(parents=True, exist_ok=True)
    need = (1.2 * args.gigabytes + 2) * 1e9
    free = shutil.disk_usage(place).free
    print(f"needs about {need / 1e9:.1f} GB under {place} ({free / 1e9:.0f} GB free), and an hour of 2 cores", flush=True)
    if free < need:
        raise SystemExit("too little disk: give another --place or fewer --gigabytes")
    # Inherited by every stage; its hook is found by Python itself, under the name sitecustomize.
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    hook = place / "hook"
    hook.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "no_tensorflow.py", hook / "sitecustomize.py")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")])
    rows, verdicts = [], {}
    cases = {"size": size, "people": people, "grow": grow, "beam": beam}
    try:
        for case in args.cases:
            cases[case](place, args, rows, verdicts)
            found = {"machine": platform.processor(), "cores": os.cpu_count(), "rows": rows, "verdicts": verdicts}
            pathlib.Path(args.out).write_text(json.dumps(found, indent=1))
    finally:
        if not args.keep:
            shutil.rmtree(place, ignore_errors=True)
    for name, value in verdicts.items():
        print(f"{name}: {value}")


def run(stage, workdir, manifest, settings, rows, **more):
    """One stage; its row is printed and kept."""
    row = {"stage": stage, **more} | people_memory.run_stage(stage, workdir, manifest, settings)
    rows.append(row)
    figures = "{seconds:8.1f} s {cpu_seconds:8.1f} s of cores {peak_mib:7.0f} MiB".format(**row)
    print("  ".join([*(f"{k}={v}" for k, v in more.items()), f"{stage:9s}", figures]), flush=True)
    return row


def disk_of(folder) -> float:
    """Bytes of all files under a folder."""
    return float(sum(file.stat().st_size for file in pathlib.Path(folder).rglob("*") if file.is_file()))


def size(place, args, rows, verdicts):
    """At least so many gigabytes in one split, through all stages."""
    frames = int(args.gigabytes * 1e9 / BYTES_A_FRAME)
    clips = -(-frames // FRAMES)
    folder = place / "size"
    manifest = _shared_videos(folder / "videos", clips)
    settings = TINY | {
        "data.image_size": SIZE,
        "pretrain.eval_windows": 16,
        "fit.max_frames": 32,
        "fit.split_half": False,
        "traits.baselines": "('mean_predictor','mean_face','linear_dynamics')",
        "fit.splits": "('test',)",
        "traits.splits": "('test',)",
    }
    watch = _Watch(folder / "run" / "data")
    for stage in people_memory.STAGES:
        with watch if stage == "prepare" else _Nothing():
            run(stage, folder / "run", manifest, settings, rows, case="size", clips=clips)
    final = disk_of(folder / "run" / "data")
    shards = [f.stat().st_size for f in (folder / "run" / "data").rglob("*array_record*")]
    test = sum(f.stat().st_size for f in (folder / "run" / "data").rglob("*-test.array_record*"))
    verdicts["size"] = (
        f"{test / 1e9:.2f} GB in one split, {len(shards)} shards of at most {max(shards) / 2**20:.0f} MiB; "
        f"most on the disk {watch.most / final:.3f} of the final size"
    )
    if not args.keep:
        shutil.rmtree(folder)


def _shared_videos(folder, clips):
    """A manifest of so many clips that share VIDEOS videos; people of the split test have two each."""
    folder.mkdir(parents=True)
    for number in range(VIDEOS):
        random = np.random.default_rng(number)
        texture = random.integers(60, 140, (SIZE // 4, SIZE // 4, 3)).repeat(4, 0).repeat(4, 1)
        texture = np.clip(texture + random.normal(0, 12, (SIZE, SIZE, 3)), 0, 255)
        people_memory._write_video(folder / f"{number}.avi", people_memory._moving(texture, 0.5 + number / 8, random, FRAMES))
    rows = []
    for number in range(clips):
        split = "train" if number < 30 else "validation" if number < 40 else "test"
        person, trait = f"{split}{number // 2}", f"{number // 2 % VIDEOS / 8:.3f}"
        rows.append((f"clip{number:06d}", person, f"{number % VIDEOS}.avi", split, "true", trait))
    with open(folder / "clips.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("clip_id", "person_id", "path", "split", "aligned", "openness"), *rows])
    return folder / "clips.csv"


class _Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class _Watch(_Nothing):
    """Looks at the size of a folder five times a second while a stage runs: `most` is the largest seen."""

    def __init__(self, folder):
        self._folder, self.most, self._pid = pathlib.Path(folder), 0.0, 0

    def __enter__(self):
        self._read, write = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            most = 0.0
            parent = os.getppid()
            while os.getppid() == parent and not (self._folder / ".stop").exists():
                try:
                    most = max(most, disk_of(self._folder))
                except FileNotFoundError:  # gone while it was looked at
                    continue
                time.sleep(0.2)
            os.write(write, str(most).encode())
            os._exit(0)
        return self

    def __exit__(self, *exception):
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / ".stop").touch()
        os.waitpid(self._pid, 0)
        self.most = float(os.read(self._read, 64))
        (self._folder / ".stop").unlink()


def _people_place(place, clips):
    """(workdir, manifest) of the case `people` at a size; the videos are made where they are not there."""
    folder = place / f"people{clips}"
    manifest = folder / "videos" / "clips.csv"
    if not manifest.is_file():
        scored = round(clips / PER_PERSON / 1.3)  # for every 20 of them 5 in training and 1 in validation
        people_memory.write_videos(folder / "videos", scored, PER_PERSON)
    return folder / "run", manifest


def people(place, args, rows, verdicts):
    """Few and many clips through all stages."""
    found = {}
    for clips in args.clips:
        workdir, manifest = _people_place(place, clips)
        for stage in people_memory.STAGES:
            found[stage, clips] = run(stage, workdir, manifest, TINY, rows, case="people", clips=clips)
    few, many = args.clips
    for stage in people_memory.STAGES:
        first, last = found[stage, few], found[stage, many]
        per_clip = last["cpu_seconds"] / many / (first["cpu_seconds"] / few)
        memory = last["peak_mib"] / first["peak_mib"]
        verdicts[stage] = f"CPU time a clip x {per_clip:.2f}, peak memory x {memory:.2f} from {few} to {many} clips"


def grow(place, args, rows, verdicts):
    """The larger data set with one more clip and one person less."""
    workdir, manifest = _people_place(place, args.clips[1])
    if not (workdir / "data").is_dir():
        run("prepare", workdir, manifest, TINY, rows, case="grow", clips=args.clips[1])
    lines = manifest.read_text(encoding="utf-8").splitlines()
    first = lines[1].split(",")
    more = manifest.with_name("more.csv")
    more.write_text("\n".join([*lines, ",".join(["one-more", *first[1:]])]) + "\n", encoding="utf-8")
    added = run("prepare", workdir, more, TINY, rows, case="grow", clips=args.clips[1] + 1)
    person = lines[len(lines) // 2].split(",")[1]
    started = time.perf_counter()
    code = os.spawnve(
        os.P_WAIT,
        sys.executable,
        [sys.executable, "-m", "facedyn.main", "forget", f"--workdir={workdir}", f"--person={person}"],
        os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])},
    )
    seconds = time.perf_counter() - started
    rows.append({"stage": "forget", "case": "grow", "seconds": seconds, "exit_code": code})
    verdicts["grow"] = f"one clip added to {args.clips[1]} in {added['seconds']:.1f} s, one person forgotten in {seconds:.1f} s"


def beam(place, args, rows, verdicts):
    """The clips of the larger size over Beam's DirectRunner."""
    _, manifest = _people_place(place, args.clips[1])
    workdir = place / "beam"
    run("prepare", workdir, manifest, TINY | {"data.beam_options": BEAM}, rows, case="beam", clips=args.clips[1])
    if not args.keep:
        shutil.rmtree(workdir)


if __name__ == "__main__":
    main()

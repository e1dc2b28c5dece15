"""The synthetic test bench on disk: what a user has (video files and a manifest) plus what only a simulation knows.

`write_bench` makes clips of people whose looks and whose dynamics come from separate random streams, so that all people may
be given the same looks (`same_appearance`) while each moves as before. `oracle_features` gives the statistics of the true
tracks: a head fed with them shows how much of the traits can be predicted from the clips.
"""

import concurrent.futures
import csv
import dataclasses
import json
import os
import pathlib
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines import bounded, progress
from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path, write_rows, write_text
from data_pipelines.progress import Progress
from data_pipelines.settings import SYNTHETIC, refuse, synthetic_faults
from data_pipelines.synthetic.dynamics import TRAITS
from data_pipelines.synthetic.worlds import WORLDS, World
from data_pipelines.worker_pool import worker_pool

FPS = 25.0
VERSION = 1  # of what is drawn; a bench of another version is not the same bench
STAMP = "bench.json"
COLUMNS = ("clip_id", "person_id", "path", "session", "task", "split", "fps", "aligned", *TRAITS)
TRAIN_SHARE = 0.8  # of the people without labels; the others are the validation split
# Streams of random numbers: what a person looks like shares none with how it moves.
DYNAMICS, APPEARANCE, TRAIT_NOISE, TRACKS, SENSOR, LENGTHS = range(6)


@dataclasses.dataclass(frozen=True)
class SyntheticSettings:
    """What decides every pixel of a bench; the same settings give the same frames whatever the number of workers."""

    world: str = "drawn"  # who moves and how it is pictured, a name of WORLDS
    people: int = 96  # in the test split, with traits
    pretrain_people: int = 48  # in the train and validation splits, without
    tasks: tuple[str, ...] = ("talk", "watch")
    clips_per_task: int = 2
    frames: tuple[int, int] = (120, 180)  # shortest and longest clip
    size: int = 32  # side of a frame, pixels
    trait_noise: float = 0.3  # standard deviation, the traits themselves having 1
    same_appearance: bool = False  # everyone looks as the first person does, camera and light included
    seed: int = 0

    def check(self) -> None:
        """Raises InputError for settings that make no bench."""
        refuse(self, SYNTHETIC, "data.synthetic", synthetic_faults)

    @property
    def of_world(self) -> World:
        """The functions that make its people and pictures."""
        return WORLDS[self.world]


@dataclasses.dataclass(frozen=True)
class _Clip:
    clip_id: str
    person_id: str
    person: int  # number that its random streams hang on
    task: str
    take: int


def write_bench(directory, settings: SyntheticSettings, workers: int = 0, note=progress.note) -> pathlib.Path:
    """Writes the bench and returns the path of its manifest.csv; returns at once when it is there already.

    Beside the manifest: videos/PERSON/CLIP.avi (lossless FFV1), tracks/CLIP.npz (`true_tracks`), people.csv (each person's
    parameters and traits without noise) and bench.json. A write that was interrupted goes on clip by clip.

    Args:
      workers: processes; 0 = one per core, 1 = none beside this one.
    Raises:
      InputError: unusable settings, or the directory holds a bench of other settings.
    """
    settings.check()
    directory = pathlib.Path(directory)
    stamp = {"version": VERSION, "settings": json.loads(json.dumps(dataclasses.asdict(settings)))}
    manifest = directory / "manifest.csv"
    found = _read_stamp(directory)
    if found is not None:
        # A bench from before a setting existed is one of its default.
        settings_found = dataclasses.asdict(SyntheticSettings()) | found.get("settings", {})
        if {"version": found.get("version"), "settings": json.loads(json.dumps(settings_found))} != stamp:
            raise InputError(f"{directory} holds a synthetic bench of other settings; give another folder or delete that one.")
        if found.get("finished"):
            return manifest
    write_text(directory / STAMP, json.dumps(stamp | {"finished": False}, indent=1))

    clips = _clips(settings)
    by_person = {}
    for clip in clips:
        by_person.setdefault(clip.person, []).append(clip)
    jobs = [(directory, settings, own) for own in by_person.values()]
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    note(f"Rendering {len(clips)} synthetic clips of {len(jobs)} people to {directory}.")
    with Progress("synthetic faces", len(clips), unit="clips") as bar:
        if workers == 1:
            for job in jobs:
                bar.advance(_write_person(job))
        else:
            with worker_pool(workers, _one_thread) as pool:
                for future in concurrent.futures.as_completed([pool.submit(_write_person, job) for job in jobs]):
                    bar.advance(future.result())

    _write_people(directory / "people.csv", settings)
    _write_manifest(manifest, clips, settings)
    write_text(directory / STAMP, json.dumps(stamp | {"finished": True}, indent=1))
    return manifest


def true_tracks(directory, clip_id: str) -> np.ndarray:
    """The action units that a clip was rendered from, float32 [T, U], in the order of dynamics.UNITS."""
    path = pathlib.Path(directory) / "tracks" / f"{clip_id}.npz"
    if not path.exists():
        raise InputError(f"{directory} has no true tracks of the clip {clip_id!r}; is it a finished synthetic bench?")
    return bounded.read_arrays(path)["tracks"]


def oracle_features(directory) -> tuple[list[str], np.ndarray]:
    """Statistics of the true tracks of the scored people: (person ids, float64 [N, d]).

    A person's features are the statistics that its world names (`World.statistics`), averaged over the clips.
    """
    world = WORLDS[(_read_stamp(pathlib.Path(directory)) or {}).get("settings", {}).get("world", "drawn")]
    clips = {}
    with open(pathlib.Path(directory) / "manifest.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] == "test":
                clips.setdefault(row["person_id"], []).append(true_tracks(directory, row["clip_id"]))
    return list(clips), np.array([world.statistics(own) for own in clips.values()], np.float64)


def _stream(settings, *key):
    return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=key))


def _clips(settings):
    total = settings.people + settings.pretrain_people
    digits = max(3, len(str(total)))
    clips = []
    for person in range(total):
        person_id = f"p{person + 1:0{digits}d}"
        for task in settings.tasks:
            for take in range(settings.clips_per_task):
                clips.append(_Clip(f"{person_id}-{task}-{take + 1}", person_id, person, task, take))
    return clips


def _write_person(job):
    """Renders one person's clips that are not there yet; returns their number."""
    directory, settings, clips = job
    person = clips[0].person
    world = settings.of_world
    dynamics = world.draw_dynamics(_stream(settings, DYNAMICS, person))
    appearance = _appearance(settings, person)
    for clip in clips:
        video, tracks_path = directory / _video_path(clip), directory / "tracks" / f"{clip.clip_id}.npz"
        if video.exists() and tracks_path.exists():
            continue
        key = (person, zlib.crc32(clip.task.encode()), clip.take)
        shortest, longest = settings.frames
        n_frames = int(_stream(settings, LENGTHS, *key).integers(shortest, longest + 1))
        tracks = world.simulate(dynamics, clip.task, n_frames, FPS, _stream(settings, TRACKS, *key))
        _write_video(video, world.render(appearance, tracks, settings.size, _stream(settings, SENSOR, *key)))
        with atomic_path(tracks_path) as temporary:
            np.savez(temporary, tracks=tracks)
    return len(clips)


def _appearance(settings, person):
    return settings.of_world.draw_appearance(_stream(settings, APPEARANCE, 0 if settings.same_appearance else person))


def _one_thread():
    cv2.setNumThreads(1)


def _write_video(path, frames):
    height, width = frames.shape[1:3]
    with atomic_path(path) as temporary:
        codec = cv2.VideoWriter.fourcc(*"FFV1")
        writer = cv2.VideoWriter(str(temporary), cv2.CAP_FFMPEG, codec, FPS, (width, height))
        if not writer.isOpened():
            raise InputError(f"This OpenCV cannot write FFV1 video to {path}; install opencv-python-headless from PyPI.")
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()


def _video_path(clip):
    return pathlib.Path("videos") / clip.person_id / f"{clip.clip_id}.avi"


def _split(settings, person):
    if person < settings.people:
        return "test"
    n = settings.pretrain_people
    n_train = n if n < 2 else min(n - 1, max(1, round(TRAIN_SHARE * n)))
    return "train" if person - settings.people < n_train else "validation"


def _write_manifest(path, clips, settings):
    traits, world = {}, settings.of_world
    for person in range(settings.people):
        clean = world.true_traits(world.draw_dynamics(_stream(settings, DYNAMICS, person)))
        noise = _stream(settings, TRAIT_NOISE, person).standard_normal(len(TRAITS))
        traits[person] = [f"{value:.5f}" for value in clean + settings.trait_noise * noise]
    rows: list[Sequence[str]] = [COLUMNS]
    for clip in clips:
        row = [clip.clip_id, clip.person_id, _video_path(clip).as_posix(), f"s{clip.take + 1}", clip.task]
        row += [_split(settings, clip.person), f"{FPS:g}", "true", *traits.get(clip.person, [""] * len(TRAITS))]
        rows.append(row)
    write_rows(path, rows, "\r\n")


def _write_people(path, settings):
    ids, world = {clip.person: clip.person_id for clip in _clips(settings)}, settings.of_world
    rows: list[tuple[str, ...]] = [("person_id", *world.parameters, *TRAITS)]
    for person, person_id in ids.items():
        dynamics = world.draw_dynamics(_stream(settings, DYNAMICS, person))
        rows.append((person_id, *(f"{v:.5f}" for v in (*dynamics.parameters, *world.true_traits(dynamics)))))
    write_rows(path, rows, "\r\n")


def _read_stamp(directory):
    path = directory / STAMP
    if not path.exists():
        return None
    return bounded.read_json(path, fix=f"delete {directory} and run the same command again")

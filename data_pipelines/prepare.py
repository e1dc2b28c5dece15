"""From a manifest to the TFDS dataset of face clips and the quality table.

Clips are processed in worker processes, each result lands in a file of its own, and a killed run takes up where it was.
A clip whose file and settings have not changed since the last dataset is copied from there. No bad clip stops the others.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import zipfile
from concurrent import futures

import pandas as pd

from data_pipelines import beam_pipelines, clip_faces
from data_pipelines.clip_faces import PrepareSettings, clip_key
from data_pipelines.errors import InputError
from data_pipelines.face_clips import EncodedClip, Records, open_face_clips
from data_pipelines.files import atomic_path, discard, sweep
from data_pipelines.manifest import ClipEntry
from data_pipelines.packing import clean_up, write_face_clips
from data_pipelines.progress import Progress
from data_pipelines.quality import QualityRow, quality_table
from data_pipelines.splits import clip_splits
from data_pipelines.video import quiet
from data_pipelines.worker_pool import worker_pool

__all__ = ["PrepareSettings", "fingerprint_of", "prepare_face_clips"]


def prepare_face_clips(entries, data_dir, settings: PrepareSettings, quality_path, note=print) -> dict:
    """Makes the dataset under `data_dir` and writes the quality table to `quality_path`; returns a summary of plain numbers.

    entries: ClipEntry of `read_manifest`, read with `settings.trait_names`. `note` is handed the sentences for the user.
    Raises InputError when a setting is unusable or not a single clip can be used; the quality table is written even then.
    """
    check_settings(settings)
    data_dir = pathlib.Path(data_dir).absolute()  # workers may run elsewhere
    clean_up(data_dir)
    fingerprint, splits, keys = _named(entries, settings)
    old = _OldDataset(data_dir)
    if old.fingerprint == fingerprint:
        table = old.quality.drop(columns="key")
        note(f"The dataset in {data_dir} is up to date.")
        _write_table(table, quality_path)
        return _summary(table, entries, splits, reused=len(entries))

    crops = data_dir / "crops"
    files = [crops / f"{_file_name(entry.clip_id)}-{key}.zip" for entry, key in zip(entries, keys)]
    rows = {i: row for i, key in enumerate(keys) if (row := old.rows.get((entries[i].clip_id, key))) is not None}
    rows |= {i: row for i, file in enumerate(files) if i not in rows and (row := _cached_row(file)) is not None}
    reused = len(rows)
    if reused:
        note(f"{reused} of {len(entries)} clips were processed before and are taken over.")
    todo = [i for i in range(len(entries)) if i not in rows]
    sweep(crops)
    with (
        Progress("prepare", len(entries), unit="clips", done=reused) as progress,
        contextlib.closing(_process(entries, files, todo, settings)) as processed,
    ):
        for i, row in processed:
            rows[i] = row
            progress.advance(1, row.clip_id)
    # The person is the manifest's word of today; a row taken over may have been made when it said another.
    table = quality_table([dataclasses.replace(rows[i], person_id=entry.person_id) for i, entry in enumerate(entries)])
    _write_table(table, quality_path)
    for row in table[table.verdict != "ok"].itertuples():
        note(f"Left out: clip {row.clip_id}: {row.reason}")
    if not (table.verdict == "ok").any():
        raise InputError(
            f"Not one of {len(entries)} clips can be used, see {quality_path}; the first, {table.clip_id[0]}: {table.reason[0]}"
        )
    try:
        _pack(entries, splits, keys, files, table, old, fingerprint, data_dir, settings)
    finally:
        _old_dataset.cache_clear()
    shutil.rmtree(crops, ignore_errors=True)
    return _summary(table, entries, splits, reused)


def check_settings(settings: PrepareSettings) -> None:
    """Raises InputError for a value that cannot work."""
    if settings.channels not in (1, 3):
        raise InputError(f"config.data.channels is {settings.channels}; it must be 3 (RGB) or 1 (grey).")
    if settings.image_format not in ("png", "jpeg"):
        raise InputError(f"config.data.image_format is {settings.image_format!r}; it must be 'png' or 'jpeg'.")
    if settings.detector not in ("auto", "haar", "yunet"):
        raise InputError(f"config.data.detector is {settings.detector!r}; it must be 'auto', 'haar' or 'yunet'.")
    if not 0 <= settings.min_confidence <= 1:
        raise InputError(f"config.data.min_confidence is {settings.min_confidence}; it must be between 0 and 1.")
    if settings.main_person not in ("auto", "left", "right"):
        raise InputError(f"config.data.main_person is {settings.main_person!r}; it must be 'auto', 'left' or 'right'.")
    for name, least in (("image_size", 8), ("detect_every", 1), ("max_frames_per_record", 1), ("crop_scale", 1)):
        if getattr(settings, name) < least:
            raise InputError(f"config.data.{name} is {getattr(settings, name)}; it must be at least {least}.")
    thresholds = ("max_enlargement", "min_sharpness", "min_brightness", "max_turn")
    for name in ("fps", "smoothing_seconds", "min_face_pixels", "workers", *thresholds):
        if not (math.isfinite(getattr(settings, name)) and getattr(settings, name) >= 0):
            raise InputError(f"config.data.{name} is {getattr(settings, name)}; it must not be negative.")
    if settings.beam_options:
        beam_pipelines.pipeline_options(settings.beam_options)
    if settings.detector == "yunet" and not settings.yunet_model:
        raise InputError("config.data.detector is 'yunet', but config.data.yunet_model names no ONNX file.")
    if settings.detector != "haar" and settings.yunet_model and not pathlib.Path(settings.yunet_model).is_file():
        raise InputError(f"There is no YuNet model at {settings.yunet_model}; config.data.yunet_model must name its ONNX file.")


def _process(entries, files, todo, settings):
    """Yields (i, QualityRow) for every i of `todo` as it gets done."""
    if settings.beam_options:
        if todo:
            beam_pipelines.process([entries[i] for i in todo], [files[i] for i in todo], settings.beam_options, settings)
        yield from ((i, clip_faces.saved_clip(files[i]).row) for i in todo)
        return
    cores = settings.workers or len(os.sched_getaffinity(0))
    workers = min(cores, len(todo))
    # Where there are fewer clips than cores the decoders take the spare ones.
    settings = dataclasses.replace(settings, decoder_threads=cores // max(workers, 1))
    if workers <= 1:
        quiet()
        for i in todo:
            yield i, clip_faces.process_to_file(entries[i], settings, files[i])
        return
    waiting = collections.deque(todo)
    while waiting:
        running = {}
        try:
            with worker_pool(workers, clip_faces.start_worker) as pool:
                while waiting or running:
                    while waiting and len(running) < (2 * workers if workers > 1 else 1):
                        i = waiting.popleft()
                        running[pool.submit(clip_faces.process_to_file, entries[i], settings, files[i])] = i
                    for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                        row = future.result()
                        yield running.pop(future), row
        except futures.process.BrokenProcessPool:
            # A decoder took its process down; running the suspects one at a time tells which clip it was.
            suspects = sorted(running.values())
            if len(suspects) == 1:
                i = suspects.pop()
                yield i, _crashed(entries[i])
            waiting.extendleft(reversed(suspects))
            workers = 1
        finally:
            for i in running.values():
                discard(files[i])


def _crashed(entry):
    return QualityRow(entry.clip_id, entry.person_id, str(entry.path)).left_out(
        f"The decoder crashed on {entry.path}; convert the file."
    )


@functools.lru_cache(1)
def _old_dataset(data_dir, fingerprint):
    """Opened once in each process that makes records; the fingerprint tells a process that outlives a run which it is."""
    return _OldDataset(data_dir)


class _OldDataset:
    """What an earlier run left under data_dir: its fingerprint, quality rows by (clip_id, key), and its clips."""

    def __init__(self, data_dir):
        self.fingerprint, self.quality, self.rows, self._reader, self._numbers = "", None, {}, None, {}
        with contextlib.suppress(InputError, OSError):
            reader = open_face_clips(data_dir)
            self.quality = pd.read_parquet(reader.folder / "quality.parquet")
            self._reader, self.fingerprint = reader, reader.metadata["fingerprint"]
            self._numbers = {clip.clip_id: i for i, clip in enumerate(reader.clips)}
            # A table of an older version may lack some.
            names = [f.name for f in dataclasses.fields(QualityRow) if f.name in self.quality]
            for row in self.quality.to_dict("records"):
                self.rows[row["clip_id"], row["key"]] = QualityRow(**{name: row[name] for name in names})

    def clip(self, clip_id):
        """(frame_indices, iterator over the encoded frames) of a clip."""
        i = self._numbers[clip_id]
        return self._reader.clips[i].frame_indices, self._reader.encoded(i)


@dataclasses.dataclass(frozen=True)
class _ClipJob:
    """All that is needed to make a clip's records, anywhere: its crops are in `file`, or in the dataset under `data_dir`."""

    entry: ClipEntry
    split: str
    fps: float
    file: pathlib.Path
    data_dir: pathlib.Path
    old: str  # the fingerprint of that dataset
    length: int  # frames a record


def _records(job):
    """Iterates over the EncodedClips of a clip."""
    entry = job.entry
    if job.file.exists():
        frame_indices, frames = clip_faces.saved_clip(job.file).frame_indices, clip_faces.saved_frames(job.file)
    else:
        frame_indices, frames = _old_dataset(job.data_dir, job.old).clip(entry.clip_id)
    for part, start in enumerate(range(0, len(frame_indices), job.length)):
        yield EncodedClip(
            clip_id=entry.clip_id,
            part=part,
            person_id=entry.person_id,
            task=entry.task,
            session=entry.session,
            split=job.split,
            fps=job.fps,
            frame_indices=frame_indices[start : start + job.length],
            frames=list(itertools.islice(frames, job.length)),
            traits=entry.traits,
        )


def _pack(entries, splits, keys, files, table, old, fingerprint, data_dir, settings):
    """Writes the TFDS dataset from the processed clips."""
    jobs = {}
    for i, entry in enumerate(entries):
        if table.verdict[i] == "ok":
            place = (files[i], data_dir, old.fingerprint)
            job = _ClipJob(entry, splits[i], float(table.fps[i]), *place, settings.max_frames_per_record)
            jobs.setdefault(splits[i], []).append(job)
    write_face_clips(
        data_dir,
        {split: Records(tuple(of_split), _records) for split, of_split in jobs.items()},
        keys={entry.clip_id: key for entry, key in zip(entries, keys)},
        image_size=settings.image_size,
        channels=settings.channels,
        image_format=settings.image_format,
        metadata={"trait_names": list(settings.trait_names), "fingerprint": fingerprint},
        quality=table.assign(key=keys),
        beam_options=settings.beam_options,
    )


def fingerprint_of(entries, settings: PrepareSettings) -> tuple[str, list[str]]:
    """(the text that names the dataset which these entries and settings make, the split of each entry)."""
    return _named(entries, settings)[:2]


def _named(entries, settings):
    """(fingerprint, split of each entry, key of each entry)."""
    splits = clip_splits(entries, settings.split_fractions, settings.seed)
    keys = [clip_key(entry, settings) for entry in entries]
    clips = [
        (e.clip_id, e.person_id, e.task, e.session, split, list(map(repr, e.traits)), key)
        for e, split, key in zip(entries, splits, keys)
    ]
    image = (settings.image_size, settings.channels, settings.image_format, settings.max_frames_per_record)
    return hashlib.sha256(json.dumps([clips, list(settings.trait_names), image]).encode()).hexdigest(), splits, keys


def _file_name(clip_id):
    # Cut by bytes: a file system counts those, and a Chinese character has three.
    return re.sub(r"[^\w.-]", "_", clip_id).encode()[:80].decode(errors="ignore")


def _cached_row(file):
    """The quality row of a processed clip, or None where there is no whole file."""
    if not file.exists():
        return None
    try:
        return clip_faces.saved_clip(file).row
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _write_table(table, path):
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)


def _summary(table, entries, splits, reused):
    ok = table.verdict == "ok"
    people = {}
    for entry, split, used in zip(entries, splits, ok):
        if used:
            people.setdefault(split, set()).add(entry.person_id)
    decoded = int(table.n_decoded.sum())
    return {
        "clips": len(table),
        "clips_used": int(ok.sum()),
        "clips_left_out": int((~ok).sum()),
        "clips_reused": reused,
        "people": len(set().union(*people.values())),
        "people_by_split": {split: len(ids) for split, ids in sorted(people.items())},
        "frames_decoded": decoded,
        "frames_found": int(table.n_found.sum()),
        "frames_kept": int(table.n_kept.sum()),
        "share_found": float(table.n_found.sum() / decoded) if decoded else 0.0,
        "clips_with_two_faces": int((table.n_two_faces > 0).sum()),
    }

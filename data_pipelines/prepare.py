"""From a manifest to the TFDS dataset of face clips and the quality table.

Clips are processed in worker processes. Each finished clip lands in a file of its own, and as soon as there are enough of
them they become a shard; a killed run takes up where it was. A clip whose file and settings have not changed stays where it
is, and a new one is added beside it. No bad clip stops the others.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
import shutil
from concurrent import futures

import numpy as np

from data_pipelines import frame_counter
from data_pipelines.content import Known
from data_pipelines.dataset import beam_pipelines, clip_files, disk_space, growth, packing, tfds_metadata
from data_pipelines.dataset.clip_keys import clip_keys
from data_pipelines.dataset.face_clips import VERSION, older_formats
from data_pipelines.dataset.growth import Wanted
from data_pipelines.dataset.splits import clip_splits
from data_pipelines.errors import InputError
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.faces.quality import QualityRow, frames_seen, quality_table
from data_pipelines.faces.video import quiet
from data_pipelines.files import atomic_path, discard, sweep
from data_pipelines.progress import Progress
from data_pipelines.progress import note as note_for_user
from data_pipelines.settings import DATA, faults, refuse
from data_pipelines.worker_pool import available_cores, worker_pool

LOOK_SECONDS = 1.0  # between two looks at how many frames the workers have seen
ERRORS = "errors.jsonl"  # under the data folder: the traceback of each clip that raised what nobody expected


def prepare_face_clips(entries, data_dir, settings: PrepareSettings, quality_path, note=note_for_user) -> dict:
    """Makes the dataset under `data_dir` and writes the quality table to `quality_path`; returns a summary of plain numbers.

    entries: ClipEntry of `read_manifest`, read with `settings.trait_names`. `note` is handed the sentences for the user.
    Raises InputError when a setting is unusable, the disk too small, or not a single clip can be used; the quality table is
    written even then.
    """
    check_settings(settings)
    data_dir = pathlib.Path(data_dir).absolute()  # workers may run elsewhere
    folder = packing.dataset_folder(data_dir)
    known = Known(data_dir)
    fingerprint, splits, keys = _named(entries, settings, known)
    known.save()
    wanted = [Wanted(entry, split, key) for entry, split, key in zip(entries, splits, keys)]
    whole = packing.stored_fingerprint(folder) == fingerprint
    layout = layout_of(settings)
    for pending in packing.recover(folder):
        packing.adopt(folder, pending, layout)
    packed = growth.known_rows(folder)
    rows = {i: row for i, one in enumerate(wanted) if (row := packed.get((one.entry.clip_id, one.key))) is not None}
    if whole and len(rows) == len(entries):
        note(f"The dataset in {data_dir} is up to date.")
        return _summarise(entries, splits, rows, quality_path, note, reused=len(entries), said=True)

    files = [clip_files.clip_path(data_dir, one.entry.clip_id, one.key) for one in wanted]
    waiting = _waiting(data_dir, files, rows)
    rows |= waiting
    reused = len(rows)
    if reused:
        note(f"{reused} of {len(entries)} clips were processed before and are reused.")
    todo = [i for i in range(len(entries)) if i not in rows]
    expected = disk_space.expected_bytes([entries[i] for i in todo], settings)
    disk_space.refuse_if_too_large(expected, data_dir)
    if expected > disk_space.WORTH_SAYING:
        words = disk_space.in_words(expected), disk_space.in_words(disk_space.free(data_dir))
        note("The dataset needs about {}, {} are free.".format(*words))
    layout = dataclasses.replace(layout, shard_bytes=growth.shard_bytes(layout.shard_bytes, expected))
    packer = growth.Waiting(folder, layout)
    for i in waiting:
        packer.add(files[i], wanted[i])
    with (
        Progress("prepare", len(entries), unit="clips", done=reused) as progress,
        contextlib.closing(_process(wanted, files, todo, folder, layout, settings, progress)) as processed,
    ):
        for i, row in processed:
            rows[i] = row
            if files[i].exists():  # Beam's workers pack for themselves
                packer.add(files[i], wanted[i])
            progress.advance(1, row.clip_id)
    summary = _summarise(entries, splits, rows, quality_path, note, reused)
    packer.pack_all()
    growth.follow(data_dir, folder, {one.entry.clip_id: one for one in wanted}, layout)
    growth.join_small(folder, layout)
    tfds_metadata.finish(folder, layout, fingerprint)
    _tidy(data_dir)
    return summary


def layout_of(settings: PrepareSettings) -> packing.Format:
    """What the settings ask of all records."""
    return packing.Format(
        image_size=settings.image_size,
        channels=settings.channels,
        image_format=settings.image_format,
        trait_names=tuple(settings.trait_names),
        max_frames_per_record=settings.max_frames_per_record,
        shard_bytes=settings.shard_mb * 2**20,
        appearance=settings.appearance,
    )


def _waiting(data_dir, files, packed) -> dict[int, QualityRow]:
    """{i: quality row} of the clips that an earlier run processed and did not pack; what nobody waits for is deleted."""
    number, found = {file: i for i, file in enumerate(files)}, {}
    sweep(data_dir / clip_files.CROPS)
    for file in clip_files.waiting_clips(data_dir):
        i = number.get(file)
        if i is not None and i not in packed:
            with contextlib.suppress(*clip_files.UNREADABLE):
                found[i] = clip_files.saved_clip(file).row
        if i not in found:
            clip_files.remove_clip(file)
    return found


def _tidy(data_dir):
    """Deletes what the finished dataset does not need: the folder in which clips waited, and a dataset of an older format."""
    shutil.rmtree(data_dir / clip_files.CROPS, ignore_errors=True)
    for older in older_formats(data_dir):
        shutil.rmtree(older)


def _summarise(entries, splits, rows, quality_path, note, reused, said=False) -> dict:
    """Writes the quality table and names the clips that are left out. Raises InputError where not one is left."""
    table = quality_table([_as_today(rows[i], entry) for i, entry in enumerate(entries)])
    ok = np.asarray(table["verdict"] == "ok")
    with atomic_path(quality_path) as temporary:
        table.to_parquet(temporary, index=False)
    out = table.loc[~ok]
    for clip_id, reason in () if said else zip(out["clip_id"], out["reason"]):
        note(f"Left out: clip {clip_id}: {reason}")
    if not ok.any():
        raise InputError(
            f"Not one of {len(entries)} clips can be used, see {quality_path}; the first, {table.clip_id[0]}: {table.reason[0]}"
        )
    people = {}
    for entry, split, used in zip(entries, splits, ok):
        if used:
            people.setdefault(split, set()).add(entry.person_id)
    return {
        "clips": len(table),
        "clips_used": int(ok.sum()),
        "clips_left_out": int((~ok).sum()),
        "clips_reused": reused,
        "people": len(set().union(*people.values())),
        "people_by_split": {split: len(ids) for split, ids in sorted(people.items())},
        "frames_decoded": int(table.n_decoded.sum()),
        "frames_found": int(table.n_found.sum()),
        "frames_kept": int(table.n_kept.sum()),
        "share_found": float(table.n_found.sum() / max(frames_seen(table).sum(), 1)),
        "clips_with_two_faces": int((table.n_two_faces > 0).sum()),
    }


def _as_today(row, entry):
    """A row that is reused may have been made when the manifest named another person, or the file lay elsewhere."""
    path = str(entry.path)
    reason = row.reason.replace(row.path, path) if row.path else row.reason
    return dataclasses.replace(row, person_id=entry.person_id, path=path, reason=reason)


def check_settings(settings: PrepareSettings) -> None:
    """Raises InputError for a value that cannot work."""
    refuse(settings, DATA, "data", faults)
    if settings.beam_options:
        beam_pipelines.pipeline_options(settings.beam_options)
    if settings.detector != "haar" and settings.yunet_model and not pathlib.Path(settings.yunet_model).is_file():
        raise InputError(f"There is no YuNet model at {settings.yunet_model}; config.data.yunet_model must name its ONNX file.")


def _process(wanted, files, todo, folder, layout, settings, progress):
    """Yields (i, QualityRow) for every i of `todo` as it gets done; its crops wait at files[i], unless Beam did the work."""
    if settings.beam_options:
        if todo:
            beam_pipelines.process({files[i]: wanted[i] for i in todo}, folder, layout, settings)
            for pending in packing.recover(folder):
                packing.begin(folder)
                packing.adopt(folder, pending, layout)
            rows = growth.known_rows(folder)
            yield from ((i, rows[wanted[i].entry.clip_id, wanted[i].key]) for i in todo)
        return
    entries = [one.entry for one in wanted]
    cores = settings.workers or available_cores()
    workers = min(cores, len(todo))
    # Where there are fewer clips than cores the decoders take the spare ones.
    settings = dataclasses.replace(settings, decoder_threads=cores // max(workers, 1))
    log = folder.parents[1] / ERRORS
    if workers <= 1:
        quiet()
        frames = itertools.accumulate(itertools.repeat(frame_counter.EVERY))
        frame_counter.use(lambda n: progress.inside(_frames(next(frames))))
        try:
            for i in todo:
                yield i, clip_files.process_to_file(entries[i], settings, files[i], log)
        finally:
            frame_counter.use(None)
        return
    yield from _process_in_pool(entries, files, todo, settings, workers, log, progress)


def _frames(n: int) -> str:
    return f"{n:,} frames"


def _process_in_pool(entries, files, todo, settings, workers, log, progress):
    waiting, frames = collections.deque(todo), frame_counter.Shared()
    while waiting:
        running = {}
        try:
            with worker_pool(workers, functools.partial(clip_files.start_worker, report=frames.add)) as pool:
                while waiting or running:
                    while waiting and len(running) < (2 * workers if workers > 1 else 1):
                        i = waiting.popleft()
                        running[pool.submit(clip_files.process_to_file, entries[i], settings, files[i], log)] = i
                    progress.inside(_frames(frames.value))
                    for future in futures.wait(running, LOOK_SECONDS, futures.FIRST_COMPLETED).done:
                        row = future.result()
                        yield running.pop(future), row
        except futures.process.BrokenProcessPool:
            # A decoder took its process down; running the suspects one at a time tells which clip it was.
            suspects = sorted(running.values())
            if len(suspects) == 1:
                i, entry = suspects[0], entries[suspects.pop()]
                row = QualityRow(entry.clip_id, entry.person_id, str(entry.path))
                yield i, clip_files.leave_out(row.left_out(f"The decoder crashed on {entry.path}; convert the file."), files[i])
            waiting.extendleft(reversed(suspects))
            workers = 1
        finally:
            for i in running.values():
                discard(files[i])


def fingerprint_of(entries, settings: PrepareSettings) -> tuple[str, list[str]]:
    """(the text that names the dataset which these entries and settings make, the split of each entry)."""
    return _named(entries, settings)[:2]


def _named(entries, settings, known=None):
    """(fingerprint, split of each entry, key of each entry)."""
    splits = clip_splits(entries, settings.split_fractions, settings.seed)
    keys = clip_keys(entries, settings, known)
    clips = [
        (e.clip_id, e.person_id, e.task, e.session, split, list(map(repr, e.traits)), key)
        for e, split, key in zip(entries, splits, keys)
    ]
    image = (VERSION, settings.image_size, settings.channels, settings.image_format, settings.max_frames_per_record)
    return hashlib.sha256(json.dumps([clips, list(settings.trait_names), image]).encode()).hexdigest(), splits, keys

"""A processed clip on its way from a worker process to a shard: encoded crops in a file of their own, the rest in a JSON.

The JSON is written last, so a clip is whole or it is not there. Imports neither TFDS nor Grain nor JAX, so that a worker
starts in a fraction of a second and stays small.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal

import array_record.python.array_record_module as array_record_module
import cv2
import numpy as np

from data_pipelines import bounded, frame_counter
from data_pipelines.faces import clip_faces
from data_pipelines.faces.clip_faces import ClipFaces, PrepareSettings
from data_pipelines.faces.quality import QualityRow
from data_pipelines.faces.video import quiet
from data_pipelines.files import TEMPORARY, discard, raise_if_full, write_text
from data_pipelines.manifest import ClipEntry
from data_pipelines.remote import is_url

CROPS = "crops"  # the folder in which processed clips wait
# Level 1 of zstd: crops get as small as by the default level, are written five times as fast and read twice as fast.
COMPRESSION = "group_size:1,zstd:1"
# A longer clip's crops lie in several files, each of which can go as soon as it has been packed.
FILE_BYTES = 256 << 20
READ_AT_ONCE = 32  # crops
UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError)


def clip_path(folder, clip_id: str, key: str) -> pathlib.Path:
    """Where the JSON of a processed clip lies; its crops lie beside it."""
    # Cut by bytes: a file system counts those, and a Chinese character has three.
    name = re.sub(r"[^\w.-]", "_", clip_id).encode()[:80].decode(errors="ignore")
    return pathlib.Path(folder) / CROPS / f"{name}-{key}.json"


def start_worker(interruptible: bool = True, report=None) -> None:
    """Called once in every worker process: one thread each, as there are as many workers as cores.

    report: is told how many more frames have been looked at, now and then.
    """
    cv2.setNumThreads(1)
    quiet()
    frame_counter.use(report)
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interruption is the parent's to report, once


def process_to_file(entry: ClipEntry, settings: PrepareSettings, path, log=None) -> QualityRow:
    """Processes the clip, leaves the result at `path`, a name of `clip_path`, and returns its quality row.

    `log`: file of JSON lines that takes the traceback of a clip that raised what nobody expected. Raises InputError when the
    disk is full.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _crop_writer(path) as crops:
            process = clip_faces.process_remote_clip if is_url(entry.path) else clip_faces.process_clip
            faces = process(entry, settings, crops.write, path.parent)
            crops.close()
            _put_in_place(path, faces, crops.files if faces.row.verdict == "ok" else [])
    except (OSError, RuntimeError) as error:
        raise_if_full(error, path)
        raise
    if log and getattr(faces, "traceback", ""):
        line = json.dumps({"clip_id": entry.clip_id, "person_id": entry.person_id, "traceback": faces.traceback})
        with open(log, "a", encoding="utf-8") as file:  # one short write, so that lines of two workers do not mix
            file.write(line + "\n")
    return faces.row


def leave_out(row: QualityRow, path) -> QualityRow:
    """Leaves at `path` that the clip is left out, as its row says; returns the row."""
    _put_in_place(pathlib.Path(path), ClipFaces(row, clip_faces.NOTHING, clip_faces.NOTHING), [])
    return row


def write_again(path, row: QualityRow, frame_indices, frames) -> None:
    """Leaves a clip that was packed before at `path`, as `process_to_file` does."""
    path, count = pathlib.Path(path), len(frame_indices)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _crop_writer(path) as crops:
        for frame in frames:
            crops.write(frame)
        crops.close()
        _put_in_place(path, ClipFaces(row, np.asarray(frame_indices), np.arange(count, dtype=np.int32)), crops.files)


class RecordFiles:
    """Writes records to a row of files: the next is begun when one has reached its size. All are deleted where the block fails.

    files: the paths so far; records: how many there are in the last of them.
    """

    def __init__(self, path_of, most: float):
        """path_of: number of a file -> where it lies; most: bytes of a file before compression, about."""
        self._path_of, self._most, self._file, self._bytes = path_of, most, None, 0
        self.files, self.records = [], 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if exception[0] is None:
            self.close()
            return
        with contextlib.suppress(RuntimeError):  # an unfinished file cannot be closed on a full disk
            self.close()
        for file in self.files:
            file.unlink(missing_ok=True)

    def write(self, record: bytes) -> None:
        """Appends a record."""
        if self._file is None or self._bytes >= self._most:
            self.close()
            self.files.append(self._path_of(len(self.files)))
            self._file = array_record_module.ArrayRecordWriter(str(self.files[-1]), COMPRESSION)
            self._bytes = self.records = 0
        self._file.write(record)
        self._bytes += len(record)
        self.records += 1

    def close(self) -> None:
        """Finishes the last file."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextlib.contextmanager
def _crop_writer(path):
    """RecordFiles of encoded crops under temporary names; what is left of these at the end is deleted."""
    try:
        with RecordFiles(lambda number: path.parent / f".{path.stem}.{TEMPORARY}{number}", FILE_BYTES) as crops:
            yield crops
    finally:
        discard(path)


def _crops(path, number):
    return path.with_name(f"{path.stem}.{number:04d}")


def _put_in_place(path, faces, files):
    """Files of crops first, then the JSON that makes a clip of them."""
    for number, temporary in enumerate(files):
        os.replace(temporary, _crops(path, number))
    arrays = {"frame_indices": faces.frame_indices.tolist(), "positions": faces.positions.tolist()}
    write_text(path, json.dumps({"row": dataclasses.asdict(faces.row)} | arrays | {"files": len(files)}))


def saved_clip(path) -> ClipFaces:
    """A processed clip, without its crops. Raises one of UNREADABLE where it is not whole."""
    clip = bounded.read_json(path)
    positions, row = np.array(clip["positions"], np.int32), QualityRow(**clip["row"])
    crops = [_crops(pathlib.Path(path), number) for number in range(clip["files"])]
    lengths = [reader.num_records() for reader in map(_open, crops)]
    if len(positions) != row.n_kept or (len(positions) and positions.max() >= sum(lengths)):
        raise ValueError(f"{path} lacks frames")
    return ClipFaces(row, np.array(clip["frame_indices"], np.int32), positions)


def saved_frames(path, consume: bool = False):
    """Iterates over the encoded crops of a processed clip that count; with `consume`, files of a long clip go once read."""
    path = pathlib.Path(path)
    clip = bounded.read_json(path)
    first, positions, several = 0, np.array(clip["positions"], np.int64), clip["files"] > 1
    for number in range(clip["files"]):
        reader = _open(_crops(path, number))
        own = positions[(positions >= first) & (positions < first + reader.num_records())] - first
        for start in range(0, len(own), READ_AT_ONCE):
            yield from reader.read(own[start : start + READ_AT_ONCE].tolist())
        first += reader.num_records()
        if consume and several:
            _crops(path, number).unlink()


def _open(path):
    if not path.is_file():  # ArrayRecord would say so in many lines
        raise FileNotFoundError(path)
    return array_record_module.ArrayRecordReader(str(path), "readahead_buffer_size:0")


def bytes_of(path) -> int:
    """What a processed clip takes on the disk."""
    path = pathlib.Path(path)
    return sum(file.stat().st_size for file in (path, *_crop_files(path)))


def remove_clip(path) -> None:
    """Deletes a processed clip; its JSON first, so that half of it is never taken for the whole."""
    path = pathlib.Path(path)
    path.unlink(missing_ok=True)
    for file in _crop_files(path):
        file.unlink(missing_ok=True)


def _crop_files(path):
    number = 0
    while (file := _crops(path, number)).exists():
        yield file
        number += 1


def waiting_clips(folder) -> list[pathlib.Path]:
    """The processed clips that wait under `folder`; files without their JSON are deleted."""
    crops = pathlib.Path(folder) / CROPS
    stems = {path.stem for path in crops.glob("*.json")}
    for file in crops.glob("*.[0-9][0-9][0-9][0-9]"):
        if file.stem not in stems:
            file.unlink()
    return sorted(crops / f"{stem}.json" for stem in stems)

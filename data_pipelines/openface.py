"""OpenFace's FeatureExtraction output as a clip: aligned face images and the rows of its CSV, joined by frame number.

Frames that OpenFace failed at or was unsure of are left out, and a sentence says how many and why. Detection is not needed.
"""

import collections
import dataclasses
import os
import pathlib
import re
from typing import NamedTuple

from data_pipelines.errors import InputError
from data_pipelines.video import FOLDER_FPS, read_image, resampled

BLACK = 8  # a frame whose brightest value is below this shows nothing: trackers write such frames where they failed
ALIGNED = "_aligned"
# The oldest versions, which knew one face, did not number it.
IMAGE = re.compile(r"frame_det_(?:(\d+)_)?(\d+)\.(?:bmp|png|jpe?g|tiff?|webp)", re.IGNORECASE)
COLUMNS = ("frame", "face_id", "timestamp", "confidence", "success")
FEWEST_COLUMNS = {"frame", "confidence", "success"}


class Output(NamedTuple):
    """The folder of a clip's aligned images, and its CSV where it lies beside."""

    images: pathlib.Path
    table: pathlib.Path | None


class Row(NamedTuple):
    """What the CSV says of a frame."""

    success: bool
    confidence: float
    seconds: float


def find_outputs(path) -> list[Output]:
    """The OpenFace outputs that `path` means: itself, or the `<name>_aligned` folders in it; [] when it is something else."""
    path = pathlib.Path(path)
    try:
        if not path.is_dir():
            return []
        if _is_images(path):
            return [_output(path)]
        inside = sorted(
            pathlib.Path(entry.path) for entry in os.scandir(path) if entry.name.endswith(ALIGNED) and entry.is_dir()
        )
        return [_output(folder) for folder in inside if _is_images(folder)]
    except OSError:  # not to be listed: whoever opens it says so
        return []


def _is_images(folder):
    if folder.name.endswith(ALIGNED) and folder.with_name(folder.name.removesuffix(ALIGNED) + ".csv").is_file():
        return True
    return any(map(IMAGE.fullmatch, os.listdir(folder)))


def _output(images):
    table = images.with_name(images.name.removesuffix(ALIGNED) + ".csv")
    return Output(images, table if images.name.endswith(ALIGNED) and table.is_file() else None)


def stamp(outputs) -> list:
    """Names the files of the outputs as they are now: what makes a prepared clip of theirs out of date."""
    files = [output.table for output in outputs if output.table]
    files += [entry for output in outputs for entry in os.scandir(output.images) if entry.is_file()]
    return sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def is_table(path) -> bool:
    """True for a CSV with the columns of OpenFace."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return set(_names(file.readline(1 << 20))) >= FEWEST_COLUMNS
    except OSError:
        return False


def _names(line):
    return [name.strip() for name in line.split(",")]  # older headers have a space after each comma


def read_table(path) -> tuple[dict[int, dict[int, Row]], int]:
    """({face: {frame: Row}}, number of lines that hold no such row); a CSV without face_id has the one face -1.

    Raises InputError when the file cannot be read or lacks the columns frame, confidence and success.
    """
    faces, damaged = collections.defaultdict(dict), 0
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            header = _names(file.readline())
            if not set(header) >= FEWEST_COLUMNS:
                raise InputError(f"{path} has no columns {', '.join(sorted(FEWEST_COLUMNS))}; it is no CSV of OpenFace.")
            place = {name: header.index(name) for name in COLUMNS if name in header}
            last = max(place.values())
            for line in file:
                cells = line.split(",", last + 1)  # hundreds of columns follow that are not looked at
                try:
                    values = {name: float(cells[i]) for name, i in place.items()}
                    row = Row(values["success"] > 0, values["confidence"], values.get("timestamp", 0.0))
                    faces[int(values.get("face_id", -1))][int(values["frame"])] = row
                except (ValueError, IndexError, OverflowError):
                    damaged += bool(line.strip())
    except OSError as error:
        raise InputError(f"The OpenFace table {path} cannot be read ({error.strerror}).") from error
    return dict(faces), damaged


class OpenFaceVideo:
    """Iterates over (index, seconds, RGB uint8 [H, W, 3]) of the frames that OpenFace succeeded at, as `Video` does.

    Of several faces the one with the most good frames is taken. `index` counts the video's frames from its first one, so gaps
    stay gaps. `fps`, `note` as of `Video`; `n_images`: images of the face that was taken, good or not; `mean_confidence` of the
    good ones, NaN without a CSV. Raises InputError, when made, for a folder with several outputs or none, or a CSV not its;
    in the iteration, when not one frame is good.
    """

    def __init__(self, path, fps: float = 0.0, source_fps: float = 0.0, min_confidence: float = 0.7):
        """`fps`, `source_fps` as of `Video`; rows below `min_confidence` (0 to 1) do not count as successes."""
        outputs = find_outputs(path)
        if len(outputs) != 1:
            names = ", ".join(output.images.name for output in outputs[:5])
            raise InputError(
                f"The folder {path} holds {len(outputs)} OpenFace outputs ({names}); name one of them as the clip."
            )
        self.path, self.table = outputs[0]
        self._min_confidence, self._resample_fps = min_confidence, fps
        images = collections.defaultdict(dict)
        for entry in sorted(os.scandir(self.path), key=lambda entry: entry.name):
            if match := IMAGE.fullmatch(entry.name):
                images[int(match[1] or 0)].setdefault(int(match[2]), entry.path)
        if not images:
            raise InputError(f"The folder {self.path} contains no images frame_det_FF_NNNNNN of OpenFace's.")
        tables, self._damaged = read_table(self.table) if self.table else ({}, 0)
        if -1 in tables:  # one face without a number
            tables = {min(images): tables[-1]}
        good = {face: self._good(files, tables.get(face, {})) for face, files in images.items()}
        self._face = max(sorted(images), key=lambda face: len(good[face]))
        self._files, self._rows = images[self._face], tables.get(self._face, {})
        self._others = len(images) - 1
        self._imageless = sum(self._fault(row) == "" for frame, row in self._rows.items() if frame not in self._files)
        self.n_images = len(self._files)
        known = [self._rows[frame].confidence for frame in good[self._face] if frame in self._rows]
        self.mean_confidence = sum(known) / len(known) if known else float("nan")
        own, self._first = self._own_fps(), min(self._files.keys() | self._rows.keys())
        self._timed = bool(own) and not source_fps
        self._source_fps = source_fps or own or FOLDER_FPS
        self.fps, self.note = fps or self._source_fps, ""

    def _good(self, files, rows):
        return [frame for frame in files if self._fault(rows.get(frame)) == ""]

    def _fault(self, row):
        if self.table is None:
            return ""
        if row is None:
            return "not in the CSV"
        if not row.success:
            return "without success"
        return "" if row.confidence >= self._min_confidence else f"of a confidence below {self._min_confidence:g}"

    def _own_fps(self):
        """Frames per second by the timestamps; 0 where they say none, as for OpenFace on single images."""
        frames = sorted(self._rows)
        if len(frames) < 2:
            return 0.0
        seconds = self._rows[frames[-1]].seconds - self._rows[frames[0]].seconds
        fps = (frames[-1] - frames[0]) / seconds if seconds > 0 else 0.0
        return fps if 1 <= fps <= 1000 else 0.0

    def __iter__(self):
        frames = self._frames()
        return resampled(frames, self._resample_fps) if self._resample_fps else frames

    def _frames(self):
        faults, kept = collections.Counter(), 0
        for frame in sorted(self._files):
            row = self._rows.get(frame)
            fault = self._fault(row)
            image = None if fault else read_image(self._files[frame])
            if not fault:
                fault = "unreadable" if image is None else "black" if image.max() < BLACK else ""
            if fault:
                faults[fault] += 1
                continue
            kept += 1
            index = frame - self._first
            yield index, row.seconds if self._timed else index / self._source_fps, image
        self.note = self._remarks(faults)
        if not kept:
            raise InputError(f"Not one frame of the OpenFace output {self.path} can be used: {self.note}.")

    def _remarks(self, faults):
        remarks = []
        if faults:
            what = ", ".join(f"{n} {fault}" for fault, n in sorted(faults.items()))
            remarks.append(f"{sum(faults.values())} of OpenFace's {self.n_images} images were left out: {what}")
        if self._imageless:
            remarks.append(f"{self._imageless} good rows of OpenFace's CSV have no image")
        if self.table is None:
            remarks.append("OpenFace's CSV is missing, so nobody knows which frames it failed at")
        if self._damaged:
            remarks.append(f"{self._damaged} lines of OpenFace's CSV are damaged")
        if self._others:
            remarks.append(f"OpenFace saw {self._others + 1} faces, number {self._face} with the most good frames was taken")
        if self._source_fps == FOLDER_FPS and not self._timed:
            remarks.append(f"OpenFace's CSV has no timestamps, {FOLDER_FPS:g} frames per second are taken")
        return "; ".join(remarks)

    def complete(self, row):
        """The clip's QualityRow with what only OpenFace knows: all images count as decoded, and how sure it was."""
        n_decoded = max(row.n_decoded, self.n_images) if not self._resample_fps else row.n_decoded
        return dataclasses.replace(row, n_decoded=n_decoded, mean_confidence=self.mean_confidence)

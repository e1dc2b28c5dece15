"""OpenFace's FeatureExtraction output as a clip: aligned face images and the rows of its CSV, joined by frame number.

Frames that OpenFace failed at or was unsure of are left out, and a sentence says how many and why. Detection is not needed.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
import re
import statistics
from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces import reasons
from data_pipelines.faces.clock import HOLE, resampled, resampling_rate
from data_pipelines.faces.conversion import THUMBNAIL
from data_pipelines.faces.openface_people import find_people
from data_pipelines.faces.openface_table import read_table
from data_pipelines.faces.still import Stillness
from data_pipelines.faces.video import FOLDER_FPS, read_image

BLACK = 8  # a frame whose brightest value is below this shows nothing: trackers write such frames where they failed
ALIGNED = "_aligned"
# The oldest versions, which knew one face, did not number it.
IMAGE = re.compile(r"frame_det_(?:(\d+)_)?(\d+)\.(?:bmp|png|jpe?g|tiff?|webp)", re.IGNORECASE)
ROUNDING = 0.0015  # seconds: times have three decimals


class Output(NamedTuple):
    """The folder of a clip's aligned images, and its CSV where it lies beside."""

    images: pathlib.Path
    table: pathlib.Path | None


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


class OpenFaceVideo:
    """Iterates over (index, seconds, RGB uint8 [H, W, 3]) of the frames that OpenFace succeeded at, as `Video` does.

    Of several people the one with the most good frames is taken, under whatever numbers OpenFace gave to the face. `index`
    counts the video's frames from its first one and jumps by 2 or more wherever two frames do not follow one another: at
    frames that are left out, holes in time, changes of the face's number and places where the person may have changed.

    n_decoded: frames of the video with a row or an image, whoever they show; n_repeated: images of a frozen stretch but for the
    first, and those that have the time of the one before, which are left out; n_holes: holes in time; n_two_faces: frames that
    show several faces; n_images: images of the faces that were taken, good or not; mean_confidence: of the good ones, NaN
    without a CSV; fps, note: as of `Video`.
    Raises InputError, when made, for a folder with several outputs or none, or a CSV not its; in the iteration, when not one
    frame is good.
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
        self._min_confidence = min_confidence
        self._images = _images(self.path)
        tables, self._damaged = read_table(self.table) if self.table else ({}, 0)
        if -1 in tables:  # one face without a number
            tables = {min(self._images): tables[-1]}
        self._tables = tables
        frames = set().union(*self._images.values(), *tables.values())
        self.n_decoded, self._first = len(frames), min(frames)
        self._times = _Times({frame: row.seconds for rows in tables.values() for frame, row in rows.items()})
        self._timed = bool(self._times.fps) and not source_fps
        self._source_fps = source_fps or self._times.fps or FOLDER_FPS
        self.n_holes = len(self._times.holes) if self._timed else 0
        self._resample_fps, self._slower = resampling_rate(fps, self._source_fps)
        self.fps, self.note, self.n_repeated = self._resample_fps or self._source_fps, "", 0
        self._chosen = _choose(self._people(), self._images)
        self._count()

    def _people(self):
        faces = {}
        for face in self._images.keys() | self._tables.keys():
            images, rows = self._images.get(face, {}), self._tables.get(face, {})
            good = [frame for frame in images if self._fault(rows.get(frame)) == ""]
            seen = {frame: row.place for frame, row in rows.items() if row.success} if self.table else dict.fromkeys(images)
            faces[face] = good, seen
        seen_in = collections.Counter(frame for _, seen in faces.values() for frame in seen)
        self.n_two_faces = sum(n > 1 for n in seen_in.values())
        return find_people(faces, lambda face, frame: read_image(self._images[face][frame]), self._seconds)

    def _count(self):
        """Counts what the choice leaves out."""
        chosen = self._chosen
        self.n_images = len(chosen.faces_of) + len(chosen.failed)
        rows = {(face, frame): row for face in chosen.numbers for frame, row in self._tables.get(face, {}).items()}
        self._imageless = sum(self._fault(row) == "" and frame not in self._images[face] for (face, frame), row in rows.items())
        known = [rows[pair].confidence for pair in ((face, frame) for frame, face in chosen.faces_of.items()) if pair in rows]
        self.mean_confidence = sum(known) / len(known) if known else float("nan")

    def _fault(self, row):
        if self.table is None:
            return ""
        if row is None:
            return "not in the CSV"
        if not row.success:
            return "without success"
        return "" if row.confidence >= self._min_confidence else f"of a confidence below {self._min_confidence:g}"

    def _seconds(self, frame):
        if self._timed and frame in self._times.seconds:
            return self._times.seconds[frame] - self._times.seconds[min(self._times.seconds)]
        return (frame - self._first) / self._source_fps

    def __iter__(self):
        return resampled(self._frames(), self._resample_fps)

    def moments(self):
        """(index, seconds, number that OpenFace gave to the frame) of the same frames; see `Video.moments`.

        Raises InputError where a table has several faces, as what is found by such a number may be of any.
        """
        if len(self._tables) > 1:
            raise InputError(
                f"{self.table} has rows of {len(self._tables)} faces; landmarks must be of one: keep its rows alone."
            )
        frames = resampled(self._frames(lambda picture: np.array([picture.number])), self._resample_fps)
        return ((index, seconds, int(number[0])) for index, seconds, number in frames)

    def _frames(self, show=None):
        faults = collections.Counter(self._fault(self._tables.get(face, {}).get(frame)) for face, frame in self._chosen.failed)
        self.n_repeated, still, index = 0, Stillness(), 0
        for picture, seconds, numbers in still.left_out(self._usable(faults), _thumbnail):
            index += numbers
            yield index, seconds, show(picture) if show else picture.image
        self.n_repeated += still.n_repeated
        self.note = self._notes(faults)
        if sum(faults.values()) == self.n_images:
            raise InputError(f"Not one frame of the OpenFace output {self.path} can be used: {self.note}.")

    def _usable(self, faults):
        """Yields (_Picture, seconds, how far the index goes on), and counts in `faults` what cannot be used."""
        extra, last, before = 0, self._first, -1.0
        for frame in sorted(self._chosen.faces_of):
            # The index jumps also where the numbers of the frames follow one another.
            extra += frame in self._chosen.borders or (self._timed and frame in self._times.holes)
            image, seconds = read_image(self._images[self._chosen.faces_of[frame]][frame]), self._seconds(frame)
            if image is None or image.max() < BLACK:
                faults["unreadable" if image is None else "black"] += 1
            elif seconds <= before:
                self.n_repeated += 1
            else:
                yield _Picture(image, frame), seconds, frame + extra - last
                last, before = frame + extra, seconds

    def _notes(self, faults):
        notes = []
        if faults:
            what = ", ".join(f"{n} {fault}" for fault, n in sorted(faults.items()))
            notes.append(f"{sum(faults.values())} of OpenFace's {self.n_images} images were left out: {what}")
        if self._imageless:
            notes.append(f"{self._imageless} good rows of OpenFace's CSV have no image")
        if self.table is None:
            notes.append("OpenFace's CSV is missing, so nobody knows which frames it failed at")
        if self._damaged:
            notes.append(f"{self._damaged} lines of OpenFace's CSV are damaged")
        notes += self._chosen.notes(len(self._images), self.n_decoded)
        if self.n_repeated:
            notes.append(f"repeated images, left out: {self.n_repeated}")
        if self._slower:
            notes.append(self._slower)
        if self.n_holes:
            notes.append(f"holes in time, kept as gaps: {self.n_holes}")
        if self._source_fps == FOLDER_FPS and not self._timed:
            notes.append(f"OpenFace's CSV has no timestamps, {FOLDER_FPS:g} frames per second are taken")
        return "; ".join(notes)

    def complete(self, row):
        """The clip's QualityRow with what only OpenFace knows: all frames of the video, several faces, and how sure it was."""
        # Of resampled frames: as many as the whole video would have.
        scale = self._resample_fps / self._source_fps if self._resample_fps else 1
        values = self._chosen.shares | {
            "n_decoded": max(row.n_found, round(self.n_decoded * scale)),
            "n_two_faces": self.n_two_faces,
            "mean_confidence": self.mean_confidence,
        }
        known = {field.name for field in dataclasses.fields(row)}
        return dataclasses.replace(row, **{name: value for name, value in values.items() if name in known})


class _Chosen(NamedTuple):
    """The person who is taken of those that OpenFace saw.

    numbers: OpenFace's of the face, which may change; faces_of: {frame: number}; borders: frames at which another piece begins;
    failed: [(number, frame)] of images that cannot be used; n_only_others: frames that show others alone; shares: what the
    quality row says of the others.
    """

    numbers: list[int]
    faces_of: dict[int, int]
    borders: set[int]
    failed: list[tuple[int, int]]
    n_only_others: int
    shares: dict[str, float]

    def notes(self, n_faces: int, n_decoded: int):
        """Yields what the note says of people: of `n_faces` numbers that OpenFace gave, in `n_decoded` frames."""
        numbers = " and ".join(map(str, self.numbers[:5])) + (" and more" if len(self.numbers) > 5 else "")
        if len(self.numbers) > 1:
            yield f"OpenFace gave one person's face the numbers {numbers} in turn, which were joined with a gap at each change"
        elif n_faces > 1:
            yield f"OpenFace saw {n_faces} faces, number {numbers} with the most good frames was taken"
        if self.n_only_others:
            yield (
                f"{self.n_only_others} of the video's {n_decoded} frames show another person, or one who could not be "
                "recognised as the same, and were left out"
            )


def _choose(people, images) -> _Chosen:
    """Takes the first of the people, as `find_people` gives them; images: as of `_images`."""
    person, others = (people[0], people[1:]) if people else ([], [])
    numbers = sorted({piece.face for piece in person}) or [min(images)]
    faces_of = {frame: piece.face for piece in person for frame in piece.frames}
    elsewhere = {(piece.face, frame) for other in others for piece in other for frame in piece.frames}
    own = [(face, frame) for face in numbers for frame in images[face] if (face, frame) not in elsewhere]
    sizes = [sum(len(piece.frames) for piece in found) for found in people]
    return _Chosen(
        numbers=numbers,
        faces_of=faces_of,
        borders={piece.frames[0] for piece in person[1:]},
        failed=[pair for pair in own if pair[1] not in faces_of],
        n_only_others=len({frame for _, frame in elsewhere} - faces_of.keys()),
        shares=reasons.shares_of(sizes),
    )


@dataclasses.dataclass(frozen=True)
class _Picture:
    """An image as `Stillness` takes pictures of videos: none of these is a key frame, as each is a file of its own."""

    image: np.ndarray
    number: int
    key: bool = False


def _thumbnail(picture):
    return cv2.resize(
        cv2.cvtColor(picture.image, cv2.COLOR_RGB2GRAY), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA
    ).astype(np.float32)


class _Times:
    """The times that a CSV gives: seconds {frame: time}, fps (0 where there is none), holes {frame behind a hole in time}."""

    def __init__(self, seconds):
        self.seconds, self.fps, self.holes = seconds, 0.0, set()
        frames = []
        for frame in sorted(seconds):
            if not frames or seconds[frame] > seconds[frames[-1]]:  # a time that repeats is no step
                frames.append(frame)
        steps = [(b, b - a, seconds[b] - seconds[a]) for a, b in itertools.pairwise(frames)]
        usual = statistics.median(time / n for _, n, time in steps) if steps else 0.0
        if not usual:
            return  # as for OpenFace on single images
        self.holes = {frame for frame, n, time in steps if time > HOLE * usual * n + ROUNDING}
        whole = [(n, time) for frame, n, time in steps if frame not in self.holes]
        # The mean rather than the median step, which is rounded to milliseconds.
        fps = sum(n for n, _ in whole) / sum(time for _, time in whole)
        self.fps = fps if 1 <= fps <= 1000 else 0.0


def _images(folder):
    """{face: {frame: path}}; raises InputError when there is none."""
    images = collections.defaultdict(dict)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if match := IMAGE.fullmatch(entry.name):
            images[int(match[1] or 0)].setdefault(int(match[2]), entry.path)
    if not images:
        raise InputError(f"The folder {folder} contains no images frame_det_FF_NNNNNN of OpenFace's.")
    return dict(images)

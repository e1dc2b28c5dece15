"""Frames of a video file, or of a folder of images, one at a time, with their times.

What a file's header promises is never relied on: the pictures that can be decoded are the clip, their timestamps its clock, and
`note` says what was amiss. Memory does not grow with the length.
"""

import os
import pathlib
import re

import av.logging
import cv2
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces.clock import FALLBACK_FPS, Clock, Timing, read_timing, resampled, resampling_rate
from data_pipelines.faces.conversion import HLG, PQ, Converter
from data_pipelines.faces.decoding import Decoder
from data_pipelines.faces.still import Stillness
from data_pipelines.faces.truncation import is_cut
from data_pipelines.paths import hint
from data_pipelines.suffixes import IMAGES

FOLDER_FPS = FALLBACK_FPS  # of a folder of frames whose rate the manifest does not say


def natural_key(name: str) -> list:
    """Sorting key under which frame_2 comes before frame_10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


class Video:
    """Iterates over (index, seconds, RGB uint8 [H, W, 3]); can be iterated again, which decodes again.

    `seconds` are those of the file's timestamps, from its first frame. `index` counts the frames and leaves out numbers where
    two do not follow one another: in a hole between timestamps, where damaged or frozen pictures were left out, where the size
    of the picture changes (not in a folder, whose images may be crops). So frames i and i + 1 always belong together. The rules
    for holes and for resampling are in `clock`.
    Pictures come upright, with square pixels, deinterlaced, in the colours of standard video (see `conversion`).

    `fps`: rate of the frames handed out. `header_count`: pictures that the header promises, 0 where it does not.
    After an iteration: `n_decoded`, pictures that the file holds, repeated ones included; `n_repeated`, those that have the
    timestamp of the one before or show a frozen picture; `n_holes`, holes in time; `note`, '' or what was amiss.

    Raises InputError, when made, for a path that does not exist or opens as no video; in the iteration, when not one frame
    can be decoded.
    """

    def __init__(self, path, fps: float = 0.0, source_fps: float = 0.0, threads: int = 1):
        """`fps`: resample to this rate by timestamps, 0 = do not; `source_fps`: overrides the file's own rate, 0 = trust it.

        `threads`: of the decoder.
        """
        self.path, self._threads = pathlib.Path(path), threads
        self._forget()
        if not self.path.exists():
            raise InputError(f"There is no file or folder {self.path}.{hint(self.path)}")
        if self.path.is_dir():
            self._files, self._numbers = _folder(self.path)
            self.header_count, own = len(self._files), source_fps or FOLDER_FPS
            self._timing, self._scale = Timing("", 1 / own, 1.5 / own), 1.0
        else:
            self._files, self._numbers = [], []
            self._timing, self.header_count = read_timing(self.path)
            self._scale = self._timing.fps / source_fps if source_fps else 1.0
            own = source_fps or self._timing.fps
        self._resample_fps, self._slower = resampling_rate(fps, own, self._timing.variable)
        self._assumed = "" if source_fps else self._timing.assumed
        self.fps = self._resample_fps or own

    def _forget(self):
        self.note, self.n_decoded, self.n_repeated, self.n_holes = "", 0, 0, 0

    def __iter__(self):
        return ((i, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) for i, seconds, image in self.passing_frames())

    def passing_frames(self):
        """The same as BGR, for those who only look at each frame: its memory is the decoder's, so copy what you change."""
        frames = self._file_frames() if not self._files else self._folder_frames()
        return self._resampled(frames) if self._resample_fps else frames

    def moments(self):
        """(index, seconds, which of the file's pictures, from 0) of the same frames; no picture is converted.

        For what others found in the file, frame by frame: they count all that they decode.
        """
        numbered = self._file_frames(_number) if not self._files else self._folder_frames(_number)
        frames = self._resampled(numbered) if self._resample_fps else numbered
        return ((index, seconds, int(number[0])) for index, seconds, number in frames)

    def _resampled(self, frames):
        last, total, again = None, 0, 0
        for index, seconds, image in resampled(frames, self._resample_fps):
            total, again, last = total + 1, again + (image is last), image
            yield index, seconds, image
        if again:
            self._say(f"{again} of {total} frames at {self._resample_fps:g} a second show the picture of the one before")

    def _folder_frames(self, show=None):
        self._forget()
        broken, last = 0, None
        for file, number in zip(self._files, self._numbers):
            image = read_image(file)
            if image is None:
                broken += 1
                continue
            self.n_decoded += 1
            self.n_holes += last is not None and number - last > 1
            last = number
            shown = show(self.n_decoded - 1) if show else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            yield number, number / self._timing.fps, shown
        if broken:
            self.note = f"{broken} of its {len(self._files)} images cannot be read"
        if not self.n_decoded:
            raise InputError(f"The {broken} images of the folder {self.path} cannot be read; they are empty or damaged.")
        self._say(self._slower)

    def _file_frames(self, show=None):
        self._forget()
        clock, converter, still = Clock(self._timing, self._scale), Converter(), Stillness()
        decoder = Decoder(self.path, self._timing.clock, self._threads)
        number, last, transfers = 0, None, set()
        for picture, seconds, numbers in still.left_out(self._timed(decoder, clock), lambda p: converter.thumbnail(p.frame)):
            image = show(picture.number) if show else converter.bgr(picture.frame, picture.aspect, picture.matrix)
            kind = image.shape, picture.matrix
            number += numbers if last in (None, kind) else max(numbers, 2)
            last = kind
            transfers.add(picture.frame.color_trc)
            yield number - 1, seconds, image
            self.n_repeated = still.n_repeated + clock.n_repeated
        self.n_repeated, self.n_holes = still.n_repeated + clock.n_repeated, clock.n_holes
        if not self.n_decoded:
            codec = f" ({decoder.codec})" if decoder.codec else ""
            raise InputError(f"Not one frame of {self.path} can be decoded{codec}; it is truncated or damaged.")
        self._say(*self._notes(decoder, transfers))

    def _timed(self, decoder, clock):
        """(picture, seconds, numbers) of those that are a moment of their own."""
        skipped = 0
        for picture in decoder:
            picture.number = self.n_decoded
            self.n_decoded += 1
            seconds, numbers = clock.tick(picture.stamp)
            if numbers:
                yield picture, seconds, max(numbers, 2) if picture.broken_before or skipped else numbers
                skipped = 0
            else:
                skipped = picture.broken_before

    def _notes(self, decoder, transfers):
        if decoder.broke_off or is_cut(self.path):
            if self.header_count > self.n_decoded:
                yield f"the file promises {self.header_count} frames, but only {self.n_decoded} can be decoded"
            else:
                yield f"the file breaks off after {self.n_decoded} frames"
        if decoder.n_damaged:
            yield f"{decoder.n_damaged} damaged frames were left out"
        yield self._assumed
        yield self._slower
        if self._timing.variable and not self._resample_fps:
            yield "its frames come at uneven or repeated times, which config.data.fps would make even"
        for transfer, name in ((HLG, "HLG"), (PQ, "PQ")):
            if transfer in transfers:
                yield f"its {name} colours were turned into those of standard video"

    def _say(self, *notes):
        self.note = "; ".join(filter(None, (self.note, *notes)))


def _number(n):
    return np.array([n])


def read_image(path) -> np.ndarray | None:
    """RGB uint8 [H, W, 3] of an image file, or None when it is none, or has more pixels than OpenCV reads."""
    data = np.fromfile(path, np.uint8)  # not cv2.imread, which cannot open every unicode path on every platform
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    except cv2.error:
        return None


def quiet() -> None:
    """Keeps the decoders from writing to the terminal; what they would say is said once, in the quality table."""
    av.logging.set_level(None)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if hasattr(cv2, "utils") and hasattr(cv2.utils, "logging"):  # not in OpenCV 4.12
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _folder(path):
    """(files in natural order, their frame numbers from 0)."""
    files = sorted((f for f in path.iterdir() if f.suffix.lower() in IMAGES and f.is_file()), key=lambda f: natural_key(f.name))
    if not files:
        raise InputError(f"The folder {path} contains no images ({', '.join(s[1:] for s in IMAGES)}).")
    numbers = [int(match[-1]) if (match := re.findall(r"\d+", f.stem)) else -1 for f in files]
    steps = np.diff(numbers)
    if len(files) > 1 and (numbers[0] < 0 or steps.min() <= 0):  # names that do not number the frames
        return files, list(range(len(files)))
    # Every second frame of a video, numbered 0, 2, 4, ... is a whole clip at half the rate, not one full of gaps.
    step = int(np.gcd.reduce(steps)) if len(files) > 1 else 1
    return files, [(n - numbers[0]) // step for n in numbers]

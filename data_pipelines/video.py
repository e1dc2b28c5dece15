"""Frames of a video file, or of a folder of images, one at a time, with their times.

What the file's header promises is never relied on: the frames that can be decoded are the clip, and `note` says so when there
were fewer. Memory does not grow with the length.
"""

import math
import os
import pathlib
import re

import cv2
import numpy as np

from data_pipelines.errors import InputError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
FOLDER_FPS = 25.0  # of a folder of frames whose rate the manifest does not say


def natural_key(name: str) -> list:
    """Sorting key under which frame_2 comes before frame_10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


class Video:
    """Iterates over (index, seconds, RGB uint8 [H, W, 3]); can be iterated again, which decodes again.

    `fps`: rate of the frames handed out. `index` counts them; numbers are left out where a folder of frames has gaps, which
    its file names tell. `header_count`: what the header promises. `note`: '' or, after an iteration, what was amiss.
    Raises InputError, when made, for a path that does not exist or opens as no video; in the iteration, when not one frame
    can be decoded.
    """

    def __init__(self, path, fps: float = 0.0, source_fps: float = 0.0, threads: int = 1):
        """`fps`: resample to this rate by timestamps, 0 = do not; `source_fps`: overrides the file's own rate, 0 = trust it.

        `threads`: of the decoder.
        """
        self.path, self.note, self._threads = pathlib.Path(path), "", threads
        if not self.path.exists():
            raise InputError(f"There is no file or folder {self.path}.")
        if self.path.is_dir():
            self._files, self._numbers = _folder(self.path)
            self.header_count, self._source_fps = len(self._files), source_fps or FOLDER_FPS
        else:
            self._files = None
            capture = _open(self.path)
            own = capture.get(cv2.CAP_PROP_FPS)
            self.header_count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            capture.release()
            self._source_fps = source_fps or (own if math.isfinite(own) and 1 <= own <= 1000 else FOLDER_FPS)
        self._override, self._resample_fps = source_fps > 0, fps
        self.fps = fps or self._source_fps

    def __iter__(self):
        frames = self._file_frames(reuse=False) if self._files is None else self._folder_frames()
        return ((i, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) for i, seconds, image in self._resampled(frames))

    def passing_frames(self):
        """The same as BGR, for those who only look at each frame: it is written over when the next but one comes."""
        # Resampling may hold a frame for longer.
        frames = self._file_frames(reuse=not self._resample_fps) if self._files is None else self._folder_frames()
        return self._resampled(frames)

    def _resampled(self, frames):
        return resampled(frames, self._resample_fps) if self._resample_fps else frames

    def _folder_frames(self):
        self.note, broken = "", 0
        for file, number in zip(self._files, self._numbers):
            image = read_image(file)
            if image is None:
                broken += 1
                self.note = f"{broken} of its {len(self._files)} images cannot be read"
            else:
                yield number, number / self._source_fps, cv2.cvtColor(image, cv2.COLOR_RGB2BGR)

    def _file_frames(self, reuse):
        self.note, capture = "", _open(self.path, self._threads)
        index, last, buffers = 0, -math.inf, [None, None]
        try:
            while True:
                # Fresh memory for every frame would cost a tenth of the decoding.
                ok, image = capture.read(buffers[index % 2])
                if not ok:
                    break
                if reuse:
                    buffers[index % 2] = image
                seconds = index / self._source_fps if self._override else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if not seconds > last:  # some containers have no timestamps, or broken ones
                    seconds = last + 1 / self._source_fps if index else 0.0
                last = seconds
                yield index, seconds, image
                index += 1
        finally:
            capture.release()
        if index == 0:
            raise InputError(f"Not one frame of {self.path} can be decoded; it is truncated or damaged.")
        if index < self.header_count - 1:  # many encoders count one frame too many
            self.note = f"the file promises {self.header_count} frames, but only {index} can be decoded"


def resampled(frames, fps: float):
    """From (index, seconds, image) to the same at `fps` frames per second: for each new time the nearest frame.

    Where the source is slower, frames repeat. Numbers that a folder of frames leaves out stay left out.
    """
    before = start = index = None
    for number, seconds, image in frames:
        if before is None:
            start, index = seconds, 0
        else:
            while start + index / fps <= seconds:
                time = start + index / fps
                nearest = before if time - before[1] <= seconds - time else (number, seconds, image)
                # A frame that a gap in the numbering leaves out is not stood in for by a far neighbour.
                step = (seconds - before[1]) / max(number - before[0], 1)
                if abs(nearest[1] - time) <= max(step, 1 / fps) * 0.75:
                    yield index, time, nearest[2]
                index += 1
        before = (number, seconds, image)
    if before is not None and start + index / fps - before[1] <= 0.5 / fps:
        yield index, start + index / fps, before[2]


def read_image(path) -> np.ndarray | None:
    """RGB uint8 [H, W, 3] of an image file, or None when it is none."""
    data = np.fromfile(path, np.uint8)  # not cv2.imread, which cannot open every unicode path on every platform
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None


def quiet() -> None:
    """Keeps the decoders from writing to the terminal; what they would say is said once, in the quality table."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _open(path, threads=1):
    if path.stat().st_size == 0:
        raise InputError(f"The file {path} is empty.")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
    if not capture.isOpened():
        capture.release()
        raise InputError(
            f"The file {path} cannot be opened as a video; it is truncated, damaged, or in a format that OpenCV cannot decode."
        )
    return capture


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

"""How much room a dataset takes, estimated from what the files' headers promise, and whether the disk has it."""

import contextlib
import os
import pathlib
import shutil

import av
import av.error
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.faces.video import FOLDER_FPS, IMAGES
from data_pipelines.picks import picks
from data_pipelines.remote import is_url

# Bytes on the disk for each byte of pixels; measured at 112 pixels on the 122 real clips that the tests use.
SHARE = {"png": 0.55, "jpeg": 0.14}
OVERHEAD = 60  # bytes a frame, of ArrayRecord and the index
SAMPLE = 64  # clips whose headers are looked at; the others are taken to be like them
WORTH_SAYING = 1 << 30
# An estimate by headers is this sure: below it nobody is refused.
SURE = 0.7


def bytes_per_frame(settings: PrepareSettings) -> float:
    """What a face crop takes on the disk, about."""
    return settings.image_size**2 * settings.channels * SHARE[settings.image_format] + OVERHEAD


def expected_bytes(entries, settings: PrepareSettings) -> float:
    """What the clips will take, about; 0 where none of those looked at tells its length."""
    if not entries:
        return 0.0
    sample = [entries[i] for i in picks(len(entries), SAMPLE)]
    counts = [n for entry in sample if (n := promised_frames(entry, settings.fps)) is not None]
    return float(np.mean(counts)) * len(entries) * bytes_per_frame(settings) if counts else 0.0


def promised_frames(entry, fps: float) -> float | None:
    """Frames that a clip has by its header, at the rate `fps` where that is not 0 and lower; None where nothing tells."""
    if is_url(entry.path):
        return None
    with contextlib.suppress(OSError, ValueError, LookupError, av.error.FFmpegError):
        if entry.path.is_dir():
            frames = sum(name.lower().endswith(IMAGES) for name in os.listdir(entry.path))
            own = entry.fps or FOLDER_FPS
            return frames * min(1.0, fps / own) if fps else frames
        with av.open(str(entry.path), metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            own = entry.fps or float(stream.average_rate or 0)
            seconds = float(container.duration or 0) / av.time_base
            frames = stream.frames or seconds * own
            return frames * min(1.0, fps / own) if fps and own else frames or None
    return None


def free(place) -> int:
    """Bytes free where `place` lies, or will lie."""
    place = pathlib.Path(place).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def in_words(size: float) -> str:
    """'61 GB', or '120 MB' for less than one."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{max(size / 1e6, 1):.0f} MB"


def shortage(expected: float, data_dir) -> str:
    """'needs about 61 GB, 40 GB free' where the disk is too small for so many more bytes, else ''."""
    there = free(data_dir)
    return f"needs about {in_words(expected)}, {in_words(there)} free" if expected * SURE > there else ""


def refuse_if_too_large(expected: float, data_dir) -> None:
    """Raises InputError where the disk is too small."""
    if words := shortage(expected, data_dir):
        raise InputError(
            f"The dataset in {data_dir} {words}: choose another disk by config.data.data_dir, or smaller frames by "
            "config.data.image_size, config.data.fps or config.data.image_format='jpeg'."
        )

"""Video files with defects, made by changing the boxes of good MP4 files: wrong durations, rotation, uneven frame times."""

import struct

import cv2
import numpy as np

# Boxes that hold boxes, as far as one has to go to reach those that are changed.
CONTAINERS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl")


def write_mp4(path, frames, fps=25) -> None:
    """MPEG-4 part 2 of RGB frames uint8 [T, H, W, 3]."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, frames.shape[2:0:-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def boxes(data, start=0, end=None):
    """Yields (name, first byte of the content, end) of all boxes, those inside others too."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", data[start : start + 8])
        if size < 8:
            return
        yield name, start + 8, start + size
        if name in CONTAINERS:
            yield from boxes(data, start + 8, start + size)
        start += size


def box(data, name) -> int:
    """First byte of the content of the first box of that name."""
    return next(start for found, start, _ in boxes(data) if found == name)


def lie_about_the_length(path, seconds) -> None:
    """The header says that the file lasts so long."""
    data = bytearray(path.read_bytes())
    (scale,) = struct.unpack_from(">I", data, box(data, b"mvhd") + 12)
    (own,) = struct.unpack_from(">I", data, box(data, b"mdhd") + 12)
    for name, place, duration in (("mvhd", 16, scale), ("mdhd", 16, own), ("tkhd", 20, scale), ("elst", 8, scale)):
        struct.pack_into(">I", data, box(data, name.encode()) + place, round(duration * seconds))
    path.write_bytes(data)


def rotate(path) -> None:
    """As a phone held upright does: the picture is stored lying and marked to be turned by a quarter, clockwise."""
    display_matrix(path, 0, 1, -1, 0)


def empty_the_samples(path) -> None:
    """Every frame has zero bytes."""
    data = bytearray(path.read_bytes())
    start = box(data, b"stsz")
    (n,) = struct.unpack_from(">I", data, start + 8)
    struct.pack_into(">I", data, start, 0)
    for i in range(n):
        struct.pack_into(">I", data, start + 12 + 4 * i, 0)
    path.write_bytes(data)


def uneven_times(path, runs) -> None:
    """Variable frame rate: `runs` = ((frames, duration of each in units of the file's own), ...); its frames must add up."""
    data = bytearray(path.read_bytes())
    start = box(data, b"stts")
    (n,) = struct.unpack_from(">I", data, start + 4)
    unit = struct.unpack_from(">I", data, start + 12)[0]
    content = struct.pack(">II", 0, len(runs)) + b"".join(struct.pack(">II", k, unit * d) for k, d in runs)
    grown = len(content) - (8 + 8 * n)
    end = start + 8 + 8 * n
    assert data.find(b"mdat") < start, "the frames must lie before the header, or their places would change"
    data[start:end] = content
    # Every box around it grows with it.
    for _, first, last in list(boxes(path.read_bytes())):
        if first <= start < last:
            (size,) = struct.unpack_from(">I", data, first - 8)
            struct.pack_into(">I", data, first - 8, size + grown)
    path.write_bytes(data)
    lie_about_the_length(path, unit * sum(k * d for k, d in runs) / struct.unpack_from(">I", data, box(data, b"mdhd") + 12)[0])


def display_matrix(path, a, b, c, d) -> None:
    """The header says that a stored pixel (x, y) is shown at (a x + c y, b x + d y)."""
    data, one = bytearray(path.read_bytes()), 1 << 16
    struct.pack_into(">9i", data, box(data, b"tkhd") + 40, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def begin_later(path, samples) -> None:
    """An edit list that leaves out the first `samples` frames, as cameras and editors write."""
    data = bytearray(path.read_bytes())
    (unit,) = struct.unpack_from(">I", data, box(data, b"stts") + 12)
    struct.pack_into(">i", data, box(data, b"elst") + 12, samples * unit)
    path.write_bytes(data)

"""Whether a video file was cut: it ends before its own container says that it does."""

import os
import struct

BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp", b"sidx", b"uuid", b"mfra", b"meta"}


def is_cut(path) -> bool:
    """True where the top-level sizes of MP4/MOV, AVI or Matroska/WebM promise more bytes than there are; False if not known."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] in (b"RIFF", b"RF64"):
            (promised,) = struct.unpack_from("<I", head, 4)
            return head[:4] == b"RIFF" and 0 < promised < 0xFFFFFFF0 and promised + 8 > size + 1
        if head[:4] == b"\x1aE\xdf\xa3":
            return _matroska_end(head) > size
        if head[4:8] in BOXES:
            return _boxes_end(file, size) > size
    return False


def _boxes_end(file, size):
    """Where the last top-level box that begins in the file ends."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length, name = struct.unpack_from(">I4s", head)
        if name not in BOXES or length == 0:  # rubbish after the video, or a box up to the end
            return place
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        if length < 8:
            return place
        place += length
    return place


def _matroska_end(head):
    """Where the segment ends; 0 where it does not say, as in live recordings."""
    length, place = _number(head, 4)
    place += length
    if length < 0 or head[place : place + 4] != b"\x18\x53\x80\x67":
        return 0
    length, place = _number(head, place + 4)
    return place + length if length >= 0 else 0


def _number(data, place):
    """(EBML number, the byte after it); -1 for 'unknown' or none."""
    first = data[place] if place < len(data) else 0
    n = 9 - first.bit_length()
    if n > 8 or place + n > len(data):
        return -1, place
    value = int.from_bytes(data[place : place + n], "big") & ((1 << 7 * n) - 1)
    return (-1 if value == (1 << 7 * n) - 1 else value), place + n

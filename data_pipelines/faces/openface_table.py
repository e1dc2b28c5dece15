"""The CSV of OpenFace's FeatureExtraction: which rows succeeded, how surely, when, and where the face was.

Programs and countries differ in how they write numbers. Every way that has one meaning is read; one that has two is refused.
"""

import collections
import csv
import math
from typing import NamedTuple

from data_pipelines.errors import InputError
from data_pipelines.files import check_size

COLUMNS = ("frame", "face_id", "timestamp", "confidence", "success")
FEWEST_COLUMNS = {"frame", "confidence", "success"}
# Outer corners of the eyes, pixels of the video; where these are absent, the head's place before the camera, millimetres.
CORNERS = ("x_36", "y_36", "x_45", "y_45")
POSE = ("pose_Tx", "pose_Ty")
# The outer corners of a face's eyes are about 90 mm apart, and the face is about 140 mm wide.
CORNERS_TO_WIDTH, FACE_MM = 140 / 90, 140.0
MAX_BYTES = 1 << 30  # a day of video at 30 frames per second
WIDE_LINES = 0.5  # more of them than this have decimal commas; fewer are damaged lines


class Row(NamedTuple):
    """What the CSV says of a face in a frame; `place`: (x, y, width), None where no column tells it."""

    success: bool
    confidence: float
    seconds: float
    place: tuple[float, float, float] | None = None


def is_table(path) -> bool:
    """True for a CSV with the columns of OpenFace."""
    try:
        with open(path, encoding=_encoding(path), errors="replace") as file:
            return bool(_header(file.readline(1 << 20))[1])
    except (OSError, UnicodeError):
        return False


def read_table(path) -> tuple[dict[int, dict[int, Row]], int]:
    """({face: {frame: Row}}, number of lines that hold no such row); a CSV without face_id has the one face -1.

    Cells are separated by commas, semicolons or tabs. Decimal commas are read where they cannot be mistaken for separators.
    Raises InputError when the file cannot be read, lacks the columns frame, confidence and success, or has decimal commas
    between separating commas.
    """
    check_size(path, MAX_BYTES, "OpenFace's table")
    faces, damaged, wide, n_lines, example = collections.defaultdict(dict), 0, 0, 0, ""
    try:
        with open(path, encoding=_encoding(path), errors="replace") as file:
            separator, header = _header(file.readline())
            if not header:
                raise InputError(f"{path} has no columns {', '.join(sorted(FEWEST_COLUMNS))}; it is not a CSV of OpenFace.")
            wanted = (*COLUMNS, *next((names for names in (CORNERS, POSE) if set(names) <= set(header)), ()))
            at = {name: header.index(name) for name in wanted if name in header}
            for number, line in enumerate(file, 2):
                if not line.strip():
                    continue
                n_lines += 1
                cells = _cells(line, separator, len(header), max(at.values()))
                if cells is None:
                    wide += 1
                    example = example or f"line {number}"
                    continue
                try:
                    values = {name: float(cells[i].replace(",", ".")) for name, i in at.items()}
                    faces[int(values.get("face_id", -1))][int(values["frame"])] = _row(values)
                except (ValueError, IndexError, OverflowError):
                    damaged += 1
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "its text is damaged"
        raise InputError(f"The OpenFace table {path} cannot be read ({why}).") from error
    if wide > WIDE_LINES * n_lines:
        raise InputError(
            f"The numbers of the OpenFace table {path} have decimal commas and its cells are separated by commas too "
            f"({example} has more cells than the header): run OpenFace again with LC_ALL=C, or in a region that writes 0.98."
        )
    return dict(faces), damaged + wide


def _encoding(path):
    with open(path, "rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _header(line):
    """(separator, names of the columns), or ("", []) for a line that is no header of OpenFace's."""
    for separator in (",", ";", "\t"):
        names = [name.strip().strip('"') for name in line.rstrip("\r\n" + separator).split(separator)]
        if set(names) >= FEWEST_COLUMNS:
            return separator, names  # older headers have a space after each comma
    return "", []


def _cells(line, separator, n_columns, last):
    """The cells of a line up to number `last`, decimal commas as they are; None for a line with more cells than columns."""
    if '"' in line:
        line = separator.join(cell.replace(",", ".") for cell in next(csv.reader([line], delimiter=separator)))
    line = line.rstrip("\r\n " + separator)
    if line.count(separator) < n_columns:
        return line.split(separator, last + 1)  # hundreds of columns may follow that are not looked at
    # Versions that put a space behind each separating comma: one without a space is decimal.
    spaced = line.split(", ")
    return spaced if separator == "," and len(spaced) == n_columns else None


def _row(values):
    if not math.isfinite(values["frame"] + values.get("timestamp", 0.0)):
        raise ValueError
    place = None
    if "x_36" in values:
        left, right = (values["x_36"], values["y_36"]), (values["x_45"], values["y_45"])
        place = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, CORNERS_TO_WIDTH * math.dist(left, right))
    elif "pose_Tx" in values:
        place = (values["pose_Tx"], values["pose_Ty"], FACE_MM)
    if place and not (all(map(math.isfinite, place)) and place[2] > 0):
        place = None
    return Row(values["success"] > 0, values["confidence"], values.get("timestamp", 0.0), place)

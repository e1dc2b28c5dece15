"""The text of a manifest as rows of cells: its encoding, its separator, its header.

What a spreadsheet writes in another country is read where it has one meaning; all else is refused by one sentence that says
what to change.
"""

import csv
import difflib
import io
import pathlib
import re

from data_pipelines.errors import InputError
from data_pipelines.files import check_size
from data_pipelines.paths import visible

REQUIRED = ("clip_id", "person_id", "path")
OPTIONAL = ("session", "task", "split", "fps", "aligned")
MAX_BYTES = 256 << 20  # a row of a million clips takes about a hundred bytes
SEPARATORS = (",", ";", "\t", "|")
# What other programs and people call the required columns.
OTHER_NAMES = {
    "clip_id": ("id", "clip", "clipid", "clip_name", "clipname", "video_id", "videoid", "video_name", "name", "key"),
    "person_id": ("person", "personid", "subject", "subject_id", "participant", "participant_id", "speaker", "pid", "identity"),
    "path": ("file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "videopath", "location", "url"),
}


def read_table(path: pathlib.Path):
    """([(line number, {column: cell})], columns, whether numbers may have decimal commas); without blank lines.

    Cells are stripped and, but for paths, lose what nobody sees (`paths.visible`). Between semicolons or tabs, numbers may have
    decimal commas. Raises InputError.
    """
    text = _text(path)
    lines = io.StringIO(text, newline="")
    first, skipped = text.partition("\n")[0].strip().lower(), 0
    if re.fullmatch(r"sep=.", first):  # Excel's own first line
        next(lines)
        skipped = 1
    separator = _separator("".join(text.split("\n", skipped + 1)[skipped : skipped + 1]))
    try:
        reader = csv.reader(lines, delimiter=separator)
        header = [visible(name).strip() for name in next(reader, [])]
        while header and not header[-1]:  # columns that a spreadsheet adds
            header.pop()
        rows = []
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                line = reader.line_num + skipped
                named = zip(header, _as_many(cells, header, line, path))
                rows.append((line, {name: cell if name == "path" else visible(cell).strip() for name, cell in named}))
    except csv.Error as error:
        raise InputError(f"The manifest {path} is not a CSV in UTF-8 ({error}); save it as one.") from error
    if not header:
        raise InputError(f"The manifest {path} is empty; its first line must be a header with clip_id,person_id,path.")
    doubled = next((name for name in header if header.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"The manifest {path} has the column {doubled!r} twice; keep one.")
    return rows, header, separator != ","


def _text(path):
    if path.is_dir():
        raise InputError(
            f"The manifest {path} is a folder, not a CSV: for a folder of videos take --config=configs/folder.py and "
            f"--config.data.source={path}."
        )
    if not path.is_file():
        raise InputError(
            f"There is no manifest at {path}; config.data.manifest must name a CSV with the columns clip_id,person_id,path."
        )
    check_size(path, MAX_BYTES, "The manifest")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"The manifest {path} cannot be read ({error.strerror}).") from error
    kind = _other_kind(data)
    try:
        if not kind:
            return data.decode("utf-8-sig")  # -sig: Excel starts its CSV files with a byte-order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        kind = f"the byte {data[error.start]:#04x} in line {line} is none, as in Latin-1 or Windows-1252"
    raise InputError(f"The manifest {path} is not a CSV in UTF-8 ({kind}); save it as 'CSV UTF-8'.")


def _other_kind(data):
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it is UTF-16, as Excel's 'Unicode Text'"
    if data.startswith(b"PK\x03\x04"):
        return "it is an Excel workbook or another archive"
    if data.startswith(b"PAR1"):
        return "it is a Parquet file"
    return "it holds zero bytes" if b"\0" in data else ""


def _separator(header):
    """The separator under which the header has most of the names that are wanted; a comma where none has any."""
    wanted = {*REQUIRED, *OPTIONAL, *(name for names in OTHER_NAMES.values() for name in names)}
    found = {separator: set(map(_plain, header.split(separator))) for separator in SEPARATORS}
    return max(SEPARATORS, key=lambda separator: len(found[separator] & wanted))


def _plain(name):
    return re.sub(r"[\s_-]+", "_", visible(name).strip().strip('"').casefold())


def _as_many(cells, header, line, path):
    if len(cells) > len(header) and not any(cells[len(header) :]):
        cells = cells[: len(header)]
    if len(cells) != len(header):
        raise InputError(
            f"Line {line} of the manifest {path} has {len(cells)} cells, its header {len(header)}; "
            "separate cells by commas and quote those that contain one."
        )
    return cells


def check_columns(path, columns, trait_names) -> None:
    """Raises InputError where a required column or a trait's is absent, or an optional one is written in another way."""
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        near = [f"{name!r}{_nearest(name, columns)}" for name in missing]
        raise InputError(
            f"The manifest {path} has no column {' and no column '.join(near)}; its columns are {', '.join(columns)}: "
            f"rename them to clip_id, person_id and path, in small letters."
        )
    for name in trait_names:
        if name not in columns:
            others = [c for c in columns if c not in REQUIRED + OPTIONAL]
            close = difflib.get_close_matches(name, others, 1, 0.6)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise InputError(
                f"The manifest {path} has no column for the trait {name!r}{meant}; it has "
                f"{', '.join(others) or 'no trait columns'}."
            )
    for name in columns:
        if name not in OPTIONAL + tuple(trait_names) and _plain(name) in OPTIONAL and _plain(name) not in columns:
            raise InputError(
                f"The manifest {path} has the column {name!r}, which would not be read; rename it to {_plain(name)!r}."
            )


def _nearest(name, columns):
    free = [column for column in columns if column not in REQUIRED + OPTIONAL]
    for wanted in ((name,), OTHER_NAMES[name]):
        if found := next((column for plain in wanted for column in free if _plain(column) == plain), None):
            return f" (did you mean {found!r}?)"
    close = difflib.get_close_matches(name, free, 1, 0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""

"""The manifest: a CSV with one row per clip, the one format that every user's collection can be converted to.

Ids are text, so leading zeros stay; paths are relative to the CSV; a trait that is not known is an empty cell.
"""

import dataclasses
import math
import pathlib
import re

from data_pipelines.errors import InputError
from data_pipelines.files import write_rows
from data_pipelines.manifest_ids import check_ids
from data_pipelines.manifest_table import OPTIONAL, REQUIRED, check_columns, read_table
from data_pipelines.paths import resolve
from data_pipelines.remote import is_url, remote_path

SPLIT_NAMES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test"}
TRUE, FALSE = ("true", "1", "yes", "y", "t"), ("", "false", "0", "no", "n", "f")


@dataclasses.dataclass(frozen=True)
class ClipEntry:
    """One row of the manifest.

    `fps` 0 = the file's own; `aligned`: frames are face crops already; `traits` in the order of the names asked for,
    NaN where the cell is empty; empty `split`: to be assigned by person.
    """

    clip_id: str
    person_id: str
    path: pathlib.Path
    session: str = ""
    task: str = ""
    split: str = ""
    fps: float = 0.0
    aligned: bool = False
    traits: tuple[float, ...] = ()


def read_manifest(path, trait_names=()) -> list[ClipEntry]:
    """The clips that the CSV at `path` lists, in its order.

    Ids lose what nobody sees (zero-width characters; special spaces become common ones) and are brought to Unicode's form NFC.
    Raises InputError, one sentence, when the file is absent, empty or not UTF-8, a required or a trait column lacks, an id is
    empty, doubled, a word for a missing value or one number written in two ways, or a cell does not hold what its column must.
    """
    path = pathlib.Path(path).expanduser()
    rows, columns, commas = read_table(path)
    check_columns(path, columns, trait_names)
    entries, lines, seen = [], [], {}
    for line, row in rows:
        entry = _entry(path, line, row, trait_names, commas)
        if entry.clip_id in seen:
            raise InputError(
                f"The manifest {path} has the clip_id {entry.clip_id!r} twice, in lines {seen[entry.clip_id]} and {line}; "
                "give every clip an id of its own."
            )
        seen[entry.clip_id] = line
        entries.append(entry)
        lines.append(line)
    for column in ("clip_id", "person_id"):
        check_ids(path, column, [(line, getattr(entry, column)) for line, entry in zip(lines, entries)])
    if not entries:
        raise InputError(f"The manifest {path} has a header but no clips; add one row per clip.")
    return entries


def write_manifest(path, entries, trait_names=()) -> None:
    """Writes the clips as a manifest that `read_manifest` gives back; paths under the CSV's folder are relative to it."""
    path = pathlib.Path(path).absolute()
    rows: list[tuple[str, ...]] = [REQUIRED + OPTIONAL + tuple(trait_names)]
    for entry in entries:
        where = entry.clip_id, entry.person_id, _path_cell(entry.path, path.parent)
        fps, aligned = f"{entry.fps:.15g}" if entry.fps else "", "true" if entry.aligned else ""
        traits = ("" if math.isnan(x) else repr(float(x)) for x in entry.traits)
        rows.append((*where, entry.session, entry.task, entry.split, fps, aligned, *traits))
    write_rows(path, rows)


def _path_cell(path, folder):
    path = pathlib.Path(path).absolute()
    relative = str(path.relative_to(folder)) if path.is_relative_to(folder) else ""
    # A cell's spaces are stripped and its leading tilde stands for the home folder.
    return relative if relative and relative == relative.strip() and not relative.startswith("~") else str(path)


def _entry(path, line, row: dict[str, str], trait_names, commas):
    where = f"of clip {row['clip_id']!r} (line {line} of {path})"
    for name in REQUIRED:
        if not row[name]:
            raise InputError(f"The cell {name} in line {line} of the manifest {path} is empty; fill it or drop the row.")
    aligned = row.get("aligned", "").lower()
    if aligned not in TRUE + FALSE:
        raise InputError(f"The cell aligned {where} is {row['aligned']!r}; write true or false.")
    fps = _number(row.get("fps", ""), "fps", where, 0.0, commas)
    if not 0 <= fps <= 10_000:
        raise InputError(f"The fps {where} is {fps:g}; write frames per second, or leave it empty to take the file's own.")
    split = row.get("split", "").lower()
    split = SPLIT_NAMES.get(split, split)
    if split and not re.fullmatch(r"[a-z]\w*", split):
        raise InputError(f"The split {where} is {row['split']!r}; write train, validation or test, or another single word.")
    return ClipEntry(
        clip_id=row["clip_id"],
        person_id=row["person_id"],
        path=remote_path(row["path"]) if is_url(row["path"]) else resolve(row["path"], path.parent),
        session=row.get("session", ""),
        task=row.get("task", ""),
        split=split,
        fps=fps,
        aligned=aligned in TRUE,
        traits=tuple(_number(row[name], f"trait {name!r}", where, math.nan, commas) for name in trait_names),
    )


def _number(cell, what, where, empty, commas):
    if cell == "" or cell.lower() in ("nan", "na"):
        return empty
    try:
        value = float(cell.replace(",", ".") if commas else cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise InputError(f"The {what} {where} is {cell!r}, which is not a number; leave the cell empty where it is not known.")
    return value

"""Takes a person out of a prepared dataset, and out of tables and lists of any kind.

Only the shards that hold the person are written again; files are replaced in one go. So a kill leaves every file with the
person or without, and the same call goes on.
"""

import contextlib
import csv
import dataclasses
import functools
import json
import pathlib
import re
import shutil
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipelines import bounded
from data_pipelines.dataset import packing, tfds_metadata
from data_pipelines.dataset.clip_files import CROPS, UNREADABLE, remove_clip, saved_clip, waiting_clips
from data_pipelines.dataset.face_clips import NAME, UNFINISHED, older_formats, open_face_clips, quality_file
from data_pipelines.errors import InputError
from data_pipelines.files import TEMPORARY, atomic_path, check_size, write_rows, write_text

PERSON, IDS, STAGE = "person_id", ("clip_id", "unit_id"), "forget"
OURS = b"facedyn."  # what the names of our metadata begin with
# What a file of another kind than its name says makes its reader raise.
OTHER_KINDS = (pa.ArrowInvalid, json.JSONDecodeError, RecursionError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True)
class Person:
    """Who is to be forgotten: the person's id, and the ids of the clips and fit units."""

    person_id: str
    ids: frozenset[str]

    def owns(self, text: str) -> bool:
        """Whether the text is the person's id, or that of a clip or unit."""
        return text == self.person_id or text in self.ids

    def has(self, person_id: str, clip_id: str) -> bool:
        """Whether a row is the person's: by its person, or by its clip."""
        return person_id == self.person_id or clip_id in self.ids

    def is_named_in(self, text: str) -> bool:
        """Whether the text holds one of these ids as a word of its own."""
        return self._pattern.search(text) is not None

    @functools.cached_property
    def _pattern(self):
        names = sorted({self.person_id, *self.ids}, key=len, reverse=True)
        return re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, names)) + r")(?![\w-])")


def dataset_folders(root) -> list[pathlib.Path]:
    """Folders under `root`, itself too, in which a dataset lies or was begun."""
    root = pathlib.Path(root)
    places = (path.parent for name in (NAME, CROPS) for path in root.rglob(name) if path.is_dir())
    return sorted({path for path in places if not path.name.startswith(".") and NAME not in path.parts})


def ids_of(table: pd.DataFrame, person_id: str) -> set[str]:
    """The ids of clips and units in the person's rows of a table."""
    if PERSON not in table:
        return set()
    own = table[table[PERSON].astype(str) == person_id]
    return {str(value) for name in IDS if name in own for value in own[name]}


def ids_in_dataset(data_dir, person_id: str) -> tuple[set[str], set[str]]:
    """(ids of the person's clips, also of those that are left out or not yet packed; the splits that they are in)."""
    ids, splits = {row.clip_id for row in _waiting(data_dir) if row.person_id == person_id}, set()
    for part in packing.read_parts(packing.dataset_folder(data_dir)):
        ids |= ids_of(pd.read_parquet(quality_file(part.file), columns=["clip_id", PERSON]), person_id)
        own = ids_of(pd.read_parquet(part.file, columns=["clip_id", PERSON]), person_id)
        ids, splits = ids | own, splits | ({part.split} if own else set())
    return ids, splits


def _waiting(data_dir):
    """Quality rows of the clips that are not yet packed."""
    for file in waiting_clips(data_dir):
        with contextlib.suppress(*UNREADABLE):
            yield saved_clip(file).row


def people_in_dataset(data_dir) -> set[str]:
    """Ids of everybody in the dataset, also of those whose clips are left out or not yet packed."""
    people = {row.person_id for row in _waiting(data_dir)}
    for part in packing.read_parts(packing.dataset_folder(data_dir)):
        for file in (part.file, quality_file(part.file)):
            people |= set(pq.read_table(file, columns=[PERSON])[PERSON].to_pylist())
    return people


def count_in_dataset(data_dir, person: Person) -> int:
    """How many records `forget_in_dataset` would remove."""
    return sum(_records_of(part.file, person) for part in packing.read_parts(packing.dataset_folder(data_dir)))


def forget_in_dataset(data_dir, person: Person, fingerprint_of) -> int:
    """Removes the person's clips from the dataset under `data_dir`, and what waits to be packed; returns how many records.

    Only the shards that hold one of them are written again. fingerprint_of: (reader) -> the text that names what is left. A
    dataset of nobody else is deleted. Raises InputError for a dataset of an older format.
    """
    folder, gone = packing.dataset_folder(data_dir), 0
    for older in older_formats(data_dir):
        raise InputError(f"The dataset in {older} has the format of an older facedyn: run prepare again, or delete it.")
    for pending in packing.recover(folder):
        pending.unlink()  # it was never part of the dataset; prepare makes it again
    packing.recover(folder)
    for file in waiting_clips(data_dir):
        if _is_of(file, person):
            remove_clip(file)
    layout = packing.stored_format(folder)
    if layout is None:
        return 0
    # What prepare has not finished has no name yet; what a broken-off call of this function left, this one finishes.
    whole = not (folder / UNFINISHED).exists() or (folder / UNFINISHED).read_text(encoding="utf-8") == STAGE
    for part in packing.read_parts(folder):
        own = _records_of(part.file, person)
        if not own and not _records_of(quality_file(part.file), person):
            continue
        packing.begin(folder, STAGE)
        gone += own
        clips = packing.clips_of(folder, part, lambda clip: None if person.has(clip.person_id, clip.clip_id) else clip)
        packing.adopt(folder, packing.pack(folder, clips, part.split, layout), layout, replaces=[part])
    if not any(pq.read_metadata(part.file).num_rows for part in packing.read_parts(folder)):
        shutil.rmtree(folder.parent)
    elif whole and (folder / UNFINISHED).exists():
        tfds_metadata.finish(folder, layout, "")
        tfds_metadata.finish(folder, layout, fingerprint_of(open_face_clips(data_dir)))
    return gone


def _records_of(file, person) -> int:
    """Rows of a table with the columns person_id and clip_id that are the person's."""
    table = pq.read_table(file, columns=["clip_id", PERSON])
    return sum(map(person.has, table[PERSON].to_pylist(), table["clip_id"].to_pylist()))


def _is_of(file, person) -> bool:
    """Also of a file that cannot be read: prepare makes it again."""
    try:
        row = saved_clip(file).row
    except UNREADABLE:
        return True
    return person.has(row.person_id, row.clip_id)


def remove_unfinished(root) -> None:
    """Deletes what killed processes were writing anywhere under `root`."""
    for path in pathlib.Path(root).rglob(f".*{TEMPORARY}*"):
        path.unlink(missing_ok=True)


def forget_in_file(path, person: Person, only_count: bool = False) -> int:
    """Removes the person's rows, lines or list items from a file; returns how many. An emptied file of rows is deleted.

    only_count: changes nothing.

    Parquet and CSV by their columns person_id, clip_id and unit_id; NPZ by its array person_id; JSON and JSON lines by
    what names the person. Other files are left as they are: 0.
    """
    kinds = {".parquet": _in_parquet, ".csv": _in_csv, ".npz": _in_npz, ".json": _in_json, ".jsonl": _in_lines}
    kind = kinds.get(pathlib.Path(path).suffix)
    # Somebody else's file, of another kind than its name says, is not a reason to stop.
    with contextlib.suppress(*OTHER_KINDS):
        return kind(pathlib.Path(path), person, only_count) if kind else 0
    return 0


def _in_parquet(path, person, only_count):
    bounded.check_table(path)
    names = pq.read_schema(path).names
    columns = [name for name in (PERSON, *IDS) if name in names]
    if not columns:
        return 0
    table = pq.read_table(path)
    keep = np.ones(len(table), bool)
    for name in columns:
        values = table[name].cast(pa.string()).to_pandas()
        keep &= ~(values == person.person_id if name == PERSON else values.isin(person.ids)).to_numpy(bool)
    metadata, named = _in_metadata(table.schema.metadata or {}, person)
    if (keep.all() and not named) or only_count:
        return int((~keep).sum())
    if not keep.any() and path.name.startswith("part-"):
        path.unlink()
        return len(keep)
    table = table.filter(pa.array(keep)).replace_schema_metadata(metadata)
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # a dictionary keeps the words that no row has any more
            table = table.set_column(i, field.name, pc.cast(table[field.name], field.type.value_type))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
    return int((~keep).sum())


def _in_metadata(metadata: dict, person) -> tuple[dict, int]:
    """The metadata of a table of ours, JSON by name, without what names the person, and how much that was."""
    found, gone = dict(metadata), 0
    for name, text in metadata.items():
        if name.startswith(OURS):
            after, n = _without(json.loads(text), person)
            found[name], gone = json.dumps(after).encode(), gone + n
    return found, gone


def _in_csv(path, person, only_count):
    check_size(path, bounded.MAX_TEXT_TABLE, "The table")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    header = [name.strip() for name in rows[0]] if rows else []
    places = [(i, name) for i, name in enumerate(header) if name in (PERSON, *IDS)]

    def is_own(row):
        cells = ((row[i].strip(), name) for i, name in places if i < len(row))
        return any(cell == person.person_id if name == PERSON else cell in person.ids for cell, name in cells)

    kept = [row for row in rows[1:] if not is_own(row)]
    gone = len(rows) - 1 - len(kept)
    if places and gone and not only_count:
        write_rows(path, [rows[0], *kept])
    return gone if places else 0


def _in_npz(path, person, only_count):
    if not zipfile.is_zipfile(path):
        return 0
    bounded.check_arrays(path)
    with np.load(path) as stored:
        if PERSON not in stored:
            return 0
        arrays = dict(stored)
    keep = arrays[PERSON].astype(str) != person.person_id
    if keep.all() or only_count:
        return int((~keep).sum())
    if not keep.any():
        path.unlink()
    else:
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **{name: array[keep] for name, array in arrays.items()})
    return int((~keep).sum())


def _in_json(path, person, only_count):
    check_size(path, bounded.MAX_JSON, "The file")
    before = json.loads(path.read_text(encoding="utf-8"))
    after, gone = _without(before, person)
    if gone and not only_count:
        write_text(path, json.dumps(after, indent=1, ensure_ascii=False) + "\n")
    return gone


# Of a stage's stamp; a task may be called as a person is.
SETTINGS = ("config", "relevant", "versions", "command")


def _without(value, person):
    """(value without the list items, and the keys of dicts, that name the person; how many there were)."""
    if isinstance(value, list):
        kept = [item for item in value if not _names(item, person)]
        pairs = [_without(item, person) for item in kept]
        return [item for item, _ in pairs], len(value) - len(kept) + sum(n for _, n in pairs)
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not person.owns(k)}
        pairs = {k: (v, 0) if k in SETTINGS else _without(v, person) for k, v in kept.items()}
        return {k: v for k, (v, _) in pairs.items()}, len(value) - len(kept) + sum(n for _, n in pairs.values())
    return value, 0


def _names(item, person):
    if isinstance(item, dict):
        return any(isinstance(value, str) and person.owns(value) for value in item.values())
    return isinstance(item, str) and person.is_named_in(item)


def _in_lines(path, person, only_count):
    check_size(path, bounded.MAX_LINES, "The log")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not person.is_named_in(line)]
    if len(kept) < len(lines) and not only_count:
        write_text(path, "".join(kept))
    return len(lines) - len(kept)

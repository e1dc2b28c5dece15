"""Takes a person out of a prepared dataset, and out of tables and lists of any kind.

The dataset is written anew beside the old one, whose place it takes when it is whole; files are replaced in one go. So a
kill leaves every file with the person or without, and the same call goes on.
"""

import contextlib
import csv
import dataclasses
import functools
import itertools
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

from data_pipelines.clip_faces import saved_clip
from data_pipelines.errors import InputError
from data_pipelines.face_clips import INDEX, NAME, VERSION, EncodedClip, Records, open_face_clips
from data_pipelines.files import TEMPORARY, atomic_path, write_text
from data_pipelines.packing import clean_up, write_face_clips

PERSON, IDS = "person_id", ("clip_id", "unit_id")


@dataclasses.dataclass(frozen=True)
class Person:
    """Who is to be forgotten: the person's id, and the ids of the clips and fit units."""

    person_id: str
    ids: frozenset[str]

    def owns(self, text: str) -> bool:
        """Whether the text is the person's id, or that of a clip or unit."""
        return text == self.person_id or text in self.ids

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
    indices = (path.parents[2] for path in root.rglob(f"{NAME}/{VERSION}/{INDEX}"))
    crops = (path.parents[1] for path in root.rglob("crops/*.zip"))
    return sorted({path for path in (*indices, *crops) if not path.name.startswith(".")})


def ids_of(table: pd.DataFrame, person_id: str) -> set[str]:
    """The ids of clips and units in the person's rows of a table."""
    if PERSON not in table:
        return set()
    own = table[table[PERSON].astype(str) == person_id]
    return {str(value) for name in IDS if name in own for value in own[name]}


def ids_in_dataset(data_dir, person_id: str) -> tuple[set[str], set[str]]:
    """(ids of the person's clips, also of those that are left out or not yet packed; the splits that they are in)."""
    data_dir, ids, splits = pathlib.Path(data_dir), set(), set()
    clean_up(data_dir)
    for file in (data_dir / "crops").glob("*.zip"):
        with contextlib.suppress(zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError):
            row = saved_clip(file).row
            ids |= {row.clip_id} if row.person_id == person_id else set()
    folder = data_dir / NAME / VERSION
    if (folder / INDEX).is_file():
        index = pd.read_parquet(folder / INDEX, columns=["clip_id", PERSON, "split"])
        ids |= ids_of(index, person_id)
        splits = set(index.loc[index[PERSON] == person_id, "split"])
        if (folder / "quality.parquet").is_file():
            ids |= ids_of(pd.read_parquet(folder / "quality.parquet"), person_id)
    return ids, splits


def forget_in_dataset(data_dir, person: Person, fingerprint_of) -> int:
    """Removes the person's clips from the dataset under `data_dir`, and their crops; returns how many records there were.

    fingerprint_of: (reader) -> the text that names what is left. A dataset of nobody else is deleted.
    """
    data_dir = pathlib.Path(data_dir)
    clean_up(data_dir)
    for file in (data_dir / "crops").glob("*.zip"):
        if _crops_are_of(file, person):
            file.unlink()
    try:
        reader = open_face_clips(data_dir)
    except InputError:
        return 0
    own = (reader.index[PERSON] == person.person_id) | reader.index["clip_id"].isin(person.ids)
    quality = pd.read_parquet(reader.folder / "quality.parquet")
    kept = (quality[PERSON] != person.person_id) & ~quality["clip_id"].isin(person.ids)
    if not own.any() and kept.all():
        return 0
    if own.all():
        shutil.rmtree(data_dir / NAME)
        return int(own.sum())
    jobs, parts = {}, reader.index[~own].sort_values("part").groupby("clip_id")["n_frames"].agg(list)
    for i, clip in enumerate(reader.clips):
        if clip.clip_id in parts:
            jobs.setdefault(clip.split, []).append((i, parts[clip.clip_id]))
    features = json.loads((reader.folder / "features.json").read_text(encoding="utf-8"))["featuresDict"]["features"]
    write_face_clips(
        data_dir,
        {split: Records(tuple(own), functools.partial(_records, reader)) for split, own in jobs.items()},
        keys=dict(zip(reader.index["clip_id"], reader.index["key"])),
        image_size=reader.image_size,
        channels=reader.channels,
        image_format=features["frames"]["sequence"]["feature"]["image"]["encodingFormat"],
        metadata=reader.metadata | {"trait_names": list(reader.trait_names), "fingerprint": fingerprint_of(reader)},
        quality=quality[kept].reset_index(drop=True),
    )
    return int(own.sum())


def _crops_are_of(file, person) -> bool:
    """Also of a file that cannot be read: prepare would make it anew."""
    try:
        row = saved_clip(file).row
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError):
        return True
    return row.person_id == person.person_id or row.clip_id in person.ids


def _records(reader, job):
    i, lengths = job
    clip, frames, start = reader.clips[i], reader.encoded(i), 0
    for part, length in enumerate(lengths):
        yield EncodedClip(
            clip_id=clip.clip_id,
            part=part,
            person_id=clip.person_id,
            task=clip.task,
            session=clip.session,
            split=clip.split,
            fps=clip.fps,
            frame_indices=clip.frame_indices[start : start + length],
            frames=list(itertools.islice(frames, length)),
            traits=tuple(clip.traits),
        )
        start += length


def remove_unfinished(root) -> None:
    """Deletes what killed processes were writing anywhere under `root`."""
    for path in pathlib.Path(root).rglob(f".*{TEMPORARY}*"):
        path.unlink(missing_ok=True)


def forget_in_file(path, person: Person) -> int:
    """Removes the person's rows, lines or list items from a file; returns how many. An emptied file of rows is deleted.

    Parquet and CSV by their columns person_id, clip_id and unit_id; NPZ by its array person_id; JSON and JSON lines by
    what names the person. Other files are left as they are: 0.
    """
    kinds = {".parquet": _in_parquet, ".csv": _in_csv, ".npz": _in_npz, ".json": _in_json, ".jsonl": _in_lines}
    kind = kinds.get(pathlib.Path(path).suffix)
    # Somebody else's file, of another kind than its name says, is not a reason to stop.
    with contextlib.suppress(pa.ArrowInvalid, json.JSONDecodeError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile):
        return kind(pathlib.Path(path), person) if kind else 0
    return 0


def _in_parquet(path, person):
    names = pq.read_schema(path).names
    columns = [name for name in (PERSON, *IDS) if name in names]
    if not columns:
        return 0
    table = pq.read_table(path)
    keep = np.ones(len(table), bool)
    for name in columns:
        values = table[name].cast(pa.string()).to_pandas()
        keep &= ~(values == person.person_id if name == PERSON else values.isin(person.ids)).to_numpy(bool)
    if keep.all():
        return 0
    if not keep.any() and path.name.startswith("part-"):
        path.unlink()
        return len(keep)
    table = table.filter(pa.array(keep))
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # a dictionary keeps the words that no row has any more
            table = table.set_column(i, field.name, pc.cast(table[field.name], field.type.value_type))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
    return int((~keep).sum())


def _in_csv(path, person):
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    header = [name.strip() for name in rows[0]] if rows else []
    places = [(i, name) for i, name in enumerate(header) if name in (PERSON, *IDS)]

    def is_own(row):
        cells = ((row[i].strip(), name) for i, name in places if i < len(row))
        return any(cell == person.person_id if name == PERSON else cell in person.ids for cell, name in cells)

    kept = [row for row in rows[1:] if not is_own(row)]
    gone = len(rows) - 1 - len(kept)
    if places and gone:
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([rows[0], *kept])
    return gone if places else 0


def _in_npz(path, person):
    with np.load(path) as stored:
        if PERSON not in stored:
            return 0
        arrays = dict(stored)
    keep = arrays[PERSON].astype(str) != person.person_id
    if keep.all():
        return 0
    if not keep.any():
        path.unlink()
    else:
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **{name: array[keep] for name, array in arrays.items()})
    return int((~keep).sum())


def _in_json(path, person):
    before = json.loads(path.read_text(encoding="utf-8"))
    after, gone = _without(before, person)
    if gone:
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


def _in_lines(path, person):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not person.is_named_in(line)]
    if len(kept) < len(lines):
        write_text(path, "".join(kept))
    return len(lines) - len(kept)

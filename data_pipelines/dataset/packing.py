"""Writes the dataset of face clips: shards are only ever added or replaced whole, so that it grows without being rewritten.

A *part* is one addition: some shards of one split, and their rows of the index and of the quality table. It is first
written under `pending/`, then moved to its place; the rename of its index file is the moment from which it counts. A part
may replace older ones. `recover` brings the folder of a killed process to the state before or after such a moment.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import uuid
from collections.abc import Callable, Iterable, Iterator

import array_record.python.array_record_module as array_record_module
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines import bounded
from data_pipelines.dataset.clip_files import RecordFiles
from data_pipelines.dataset.face_clips import (
    METADATA,
    NAME,
    PARTS,
    SHARD,
    UNFINISHED,
    VERSION,
    Example,
    images_of,
    index_schema,
    part_files,
    quality_file,
)
from data_pipelines.faces.quality import column_types
from data_pipelines.files import atomic_path, raise_if_full, write_text

# Size of a compressed record, in sizes of the record; faces as PNG, which we do not deflate, and as JPEG.
COMPRESSED = {"png": 0.6, "jpeg": 1.0}
JOIN_FROM = 8  # parts of a split that are smaller than half a shard
PENDING, DETAILS = "pending", b"facedyn"  # DETAILS: key of what stands in the header of a part's index file


@dataclasses.dataclass(frozen=True)
class Format:
    """What all records of a dataset have in common: pixels, channels, 'png' or 'jpeg', names of the traits, whose face it is.

    channels: 3 = RGB, 1 = grey, 2 = a motion, x and y (faces/shared_face.py).
    """

    image_size: int
    channels: int
    image_format: str
    trait_names: tuple[str, ...]
    max_frames_per_record: int = 32
    shard_bytes: float = 256 << 20
    appearance: str = "own"


@dataclasses.dataclass(frozen=True)
class PackedClip:
    """A clip as it goes into a shard: what the manifest says of it, its frames' numbers int32 [T], and its encoded frames.

    frames: () -> iterator over the T encoded images. row: its quality row, a dict. A clip that was left out has T = 0.
    """

    clip_id: str
    person_id: str
    task: str
    session: str
    traits: tuple[float, ...]
    fps: float
    key: str
    frame_indices: np.ndarray
    frames: Callable[[], Iterator[bytes]]
    row: dict


@dataclasses.dataclass(frozen=True)
class Part:
    """An addition to the dataset: its index file, its split, its shards, what they take on the disk, frames a record."""

    file: pathlib.Path
    split: str
    shards: tuple[int, ...]
    bytes: int
    max_frames_per_record: int

    @property
    def number(self) -> int:
        return int(self.file.stem.removeprefix("part-"))


def dataset_folder(data_dir) -> pathlib.Path:
    """Where the dataset lies under `data_dir`."""
    return pathlib.Path(data_dir) / NAME / VERSION


def read_parts(folder) -> list[Part]:
    """The parts that count, oldest first."""
    found = [(file, _details(file)) for file in part_files(folder)]
    return [Part(file, d["split"], tuple(d["shards"]), d["bytes"], d["max_frames_per_record"]) for file, d in found]


def _details(file):
    return json.loads(pq.read_schema(file).metadata[DETAILS])


def pack(folder, clips: Iterable[PackedClip], split: str, layout: Format) -> pathlib.Path:
    """Writes the clips of a split into shards under `pending/`; returns the file that `adopt` takes.

    The clips pass one at a time. Safe to call from several processes at once. Raises InputError when the disk is full.
    """
    pending = pathlib.Path(folder) / PENDING
    pending.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    rows, quality = [], []
    try:
        # Counted before compression, as the file on the disk lags behind by megabytes.
        most = layout.shard_bytes / COMPRESSED[layout.image_format]
        with RecordFiles(lambda number: pending / f"{name}-{number}", most) as shards:
            for clip in clips:
                for part, numbers, images in _records_of(clip, layout.max_frames_per_record):
                    shards.write(serialised(clip, split, part, numbers, images))
                    place = len(shards.files) - 1, shards.records - 1
                    rows.append(_index_row(clip, split, layout, *place, part, numbers))
                quality.append(clip.row | {"key": clip.key})
        _write_rows(pending / f"{name}.quality.parquet", quality, quality_schema())
        _write_rows(pending / f"{name}.parquet", rows, index_schema(layout.trait_names))
    except (OSError, RuntimeError) as error:
        raise_if_full(error, folder)
        raise
    return pending / f"{name}.parquet"


def quality_schema() -> pa.Schema:
    """Columns of the quality rows that lie beside the index."""
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    return pa.schema({name: types[kind] for name, kind in column_types().items()} | {"key": pa.string()})


def _write_rows(path, rows, schema):
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary)


def _records_of(clip, most_frames):
    """(part, frame numbers, encoded images) of each record that the clip is cut into."""
    frames = clip.frames()
    for part, start in enumerate(range(0, len(clip.frame_indices), most_frames)):
        numbers = clip.frame_indices[start : start + most_frames]
        images = list(itertools.islice(frames, len(numbers)))
        if len(images) < len(numbers):
            raise RuntimeError(f"clip {clip.clip_id} lost frames on the way to the dataset")
        yield part, numbers, images


def serialised(clip: PackedClip, split: str, part: int, numbers, images) -> bytes:
    """A record as TFDS's features (`tfds_metadata.tfds_features`) would write it."""
    # Written here, not by TFDS: its features take longer than all else that happens to a record.
    example = Example()
    feature = example.features.feature
    texts = {"clip_id": clip.clip_id, "person_id": clip.person_id, "task": clip.task, "session": clip.session, "split": split}
    for name, text in texts.items():
        feature[name].bytes_list.value.append(text.encode())
    feature["part"].int64_list.value.append(part)
    feature["fps"].float_list.value.append(clip.fps)
    feature["frame_indices"].int64_list.value.extend(np.asarray(numbers).tolist())
    feature["frames"].bytes_list.value.extend(images)
    feature["traits"].float_list.value.extend(map(float, clip.traits))
    return example.SerializeToString()


def _index_row(clip, split, layout, shard, record, part, numbers):
    row = {name: getattr(clip, name) for name in ("clip_id", "person_id", "task", "session", "fps", "key")}
    row |= {"split": split, "shard": shard, "record": record, "part": part, "n_frames": len(numbers), "frame_indices": numbers}
    return row | {f"trait:{name}": float(value) for name, value in zip(layout.trait_names, clip.traits)}


def adopt(folder, pending: pathlib.Path, layout: Format, replaces: Iterable[Part] = ()) -> None:
    """Makes what `pack` wrote a part of the dataset, in the place of the parts that it replaces."""
    folder, pending, replaces = pathlib.Path(folder), pathlib.Path(pending), list(replaces)
    table = pq.read_table(pending)
    split = table["split"][0].as_py() if len(table) else ""
    local = sorted(set(table["shard"].to_pylist()))
    parts = read_parts(folder)
    taken = {number for part in parts if part.split == split for number in part.shards}
    new = dict(zip(local, (number for number in itertools.count() if number not in taken)))
    size = sum(pending.with_name(f"{pending.stem}-{number}").stat().st_size for number in local)
    newest = max((part.number for part in parts), default=-1)
    details = {
        "split": split,
        "shards": sorted(new.values()),
        "bytes": size,
        "number": newest + 1,
        "max_frames_per_record": layout.max_frames_per_record,
        "from": {str(old): number for old, number in new.items()},
        "replaces": [part.file.name for part in replaces],
    }
    shard = pa.array([new[number] for number in table["shard"].to_pylist()], pa.int32())
    table = table.set_column(table.schema.get_field_index("shard"), "shard", shard)
    move = pending.with_suffix(".move")
    with atomic_path(move) as temporary:
        pq.write_table(table.replace_schema_metadata({DETAILS: json.dumps(details)}), temporary)
    _move(folder, move)


def _move(folder, move) -> None:
    """Moves a part from `pending/` to its place; can be called again after a kill."""
    details, name = _details(move), move.stem
    for old, number in details["from"].items():
        source = move.with_name(f"{name}-{old}")
        if source.exists():
            source.replace(folder / SHARD.format(split=details["split"], number=number))
    (folder / PARTS).mkdir(exist_ok=True)
    place = folder / PARTS / f"part-{details['number']:06d}.parquet"
    quality = move.with_name(f"{name}.quality.parquet")
    if quality.exists():
        quality.replace(quality_file(place))
    move.with_suffix(".parquet").unlink(missing_ok=True)
    move.replace(place)  # from here on it counts
    remove_parts([folder / PARTS / old for old in details["replaces"]])


def remove_parts(files: Iterable[pathlib.Path]) -> None:
    """Takes whole parts out of the dataset, their index files (`files`) first: no row ever names a shard that is gone."""
    for file in files:
        if file.exists():
            details = _details(file)
            file.unlink()
            quality_file(file).unlink(missing_ok=True)
            for number in details["shards"]:
                (file.parents[1] / SHARD.format(split=details["split"], number=number)).unlink(missing_ok=True)


def recover(folder) -> list[pathlib.Path]:
    """Finishes or undoes what a killed process left; returns what was packed by others and waits to be adopted."""
    folder = pathlib.Path(folder)
    pending = folder / PENDING
    for move in sorted(pending.glob("[!.]*.move")):
        _move(folder, move)
    parts = part_files(folder)
    replaced = {name for part in parts for name in _details(part)["replaces"]}
    remove_parts([part for part in parts if part.name in replaced])
    parts = read_parts(folder)
    known = {folder / SHARD.format(split=part.split, number=number) for part in parts for number in part.shards}
    known |= {quality_file(part.file) for part in parts}
    for file in (*folder.glob(f"{NAME}-*.array_record-*"), *(folder / PARTS).glob("quality-*.parquet")):
        if file not in known:
            file.unlink()
    whole = {file.stem for file in pending.glob("[!.]*.parquet") if not file.name.endswith(".quality.parquet")}
    for file in pending.glob("*"):
        if file.name.split(".")[0].split("-")[0] not in whole:
            file.unlink()
    return sorted(pending / f"{name}.parquet" for name in whole)


def clips_of(folder, part: Part, changed=lambda clip: clip) -> Iterator[PackedClip]:
    """The clips of a part as they can be packed again; `changed`: (PackedClip) -> PackedClip, or None to leave it out."""
    folder = pathlib.Path(folder)
    table = pq.read_table(part.file)
    names = ("clip_id", "person_id", "task", "session")
    traits = [name for name in table.column_names if name.startswith("trait:")]
    rows_of, readers = {}, {}
    for row, clip_id in enumerate(table["clip_id"].to_pylist()):
        rows_of.setdefault(clip_id, []).append(row)

    def read(shard, record):
        if shard not in readers:
            readers.clear()  # clips follow one another: one is open at a time
            path = folder / SHARD.format(split=part.split, number=shard)
            readers[shard] = array_record_module.ArrayRecordReader(str(path), "readahead_buffer_size:0")
        return readers[shard].read([record])[0]

    for quality in pq.read_table(quality_file(part.file)).to_pylist():
        records = table.take(pa.array(rows_of.get(quality["clip_id"], []), pa.int64())).sort_by("part")
        first = records.slice(0, 1).to_pylist()
        places = list(zip(records["shard"].to_pylist(), records["record"].to_pylist()))
        numbers = [np.asarray(n, np.int32) for n in records["frame_indices"].to_numpy()]
        clip = PackedClip(
            **{name: (first[0] if first else quality).get(name, "") for name in names},
            traits=tuple(first[0][name] for name in traits) if first else (),
            fps=first[0]["fps"] if first else quality["fps"],
            key=quality["key"],
            frame_indices=np.concatenate(numbers) if numbers else np.zeros(0, np.int32),
            frames=lambda places=places: (image for place in places for image in images_of(read(*place))),
            row={name: value for name, value in quality.items() if name != "key"},
        )
        clip = changed(clip)
        if clip is not None:
            yield clip


def small_parts(folder, shard_bytes: float) -> list[list[Part]]:
    """Groups of parts of one split that fit into one shard together, where there are so many that joining them pays."""
    groups = {}
    for part in read_parts(folder):
        if part.bytes < shard_bytes / 2:
            groups.setdefault(part.split, []).append(part)
    found = []
    for parts in groups.values():
        if len(parts) < JOIN_FROM:
            continue
        group, size = [], 0
        for part in parts:
            if group and size + part.bytes > shard_bytes:
                found.append(group)
                group, size = [], 0
            group.append(part)
            size += part.bytes
        found.append(group)
    return [group for group in found if len(group) > 1]


def begin(folder, stage: str = "prepare") -> None:
    """Says that the dataset is being changed, by which stage: until `tfds_metadata.finish`, nobody takes it for whole."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / UNFINISHED).exists():
        write_text(folder / UNFINISHED, stage)


def stored_fingerprint(folder) -> str:
    """What the dataset was made from; '' where there is none that is whole."""
    folder = pathlib.Path(folder)
    if (folder / UNFINISHED).exists() or not (folder / METADATA).is_file():
        return ""
    with contextlib.suppress(ValueError, KeyError):
        return bounded.read_json(folder / METADATA)["fingerprint"]
    return ""


def stored_format(folder) -> Format | None:
    """What all records of a dataset have in common; None where `tfds_metadata.finish` was never reached."""
    path = pathlib.Path(folder) / METADATA
    if not path.is_file():
        return None
    values = bounded.read_json(path)
    # A dataset of an older version lacks what came later.
    values = {field.name: values[field.name] for field in dataclasses.fields(Format) if field.name in values}
    return Format(**values | {"trait_names": tuple(values["trait_names"])})

"""The dataset of face clips as it lies on the disk, and the reader of it: ArrayRecord shards in TFDS's format, no TensorFlow.

A record is a stretch of a clip, short enough that a window costs little more than its own frames. Beside the shards lies the
index, one row per record with all but the frames, in as many files as there were additions (`packing.py` writes them). Frames
stay encoded until the very ones asked for are decoded. TFDS reads the shards, too: `tfds.builder_from_directory(folder)`.
"""

import collections
import dataclasses
import functools
import pathlib
import threading

import array_record.python.array_record_module as array_record_module
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Here and not where it is used: the packages behind it import one another lazily, and two threads that begin at once, each with
# another of them, wait for one another for ever.
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.faces.images import decode_image

Example = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]  # protobuf makes the class at run time

NAME, VERSION = "face_clips", "2.0.0"
PARTS, UNFINISHED, METADATA = "parts", "UNFINISHED", "metadata.json"
SHARD = f"{NAME}-{{split}}.array_record-{{number:05d}}"
# Each open shard holds a file; some systems allow a process no more than 256.
MAX_OPEN = 64
INDEX_COLUMNS = {
    "split": pa.string(),
    "shard": pa.int32(),
    "record": pa.int32(),
    "clip_id": pa.string(),
    "part": pa.int32(),
    "person_id": pa.string(),
    "task": pa.string(),
    "session": pa.string(),
    "fps": pa.float64(),
    "n_frames": pa.int32(),
    "frame_indices": pa.list_(pa.int32()),
    "key": pa.string(),
}


def index_schema(trait_names) -> pa.Schema:
    """Columns of the index: where a record lies, and all of it but the frames."""
    return pa.schema(INDEX_COLUMNS | {f"trait:{name}": pa.float32() for name in trait_names})


def part_files(folder) -> list[pathlib.Path]:
    """The files of the index, oldest first. Raises InputError where one, or its quality rows, unpacks to too much."""
    parts = sorted((pathlib.Path(folder) / PARTS).glob("part-*.parquet"))
    for part in parts:
        bounded.check_table(part)
        bounded.check_table(quality_file(part))
    return parts


def quality_file(part: pathlib.Path) -> pathlib.Path:
    """Where the quality rows lie of the clips that a file of the index was made from, those left out among them."""
    return part.with_name(part.name.replace("part-", "quality-"))


def read_quality(folder) -> pd.DataFrame:
    """Quality rows of all clips that the dataset was made from, with the column `key`; an empty table where there are none."""
    tables = [pq.read_table(quality_file(part)) for part in part_files(folder)]
    return pa.concat_tables(tables, promote_options="default").to_pandas() if tables else pd.DataFrame()


@dataclasses.dataclass(frozen=True)
class ClipInfo:
    """What there is of a clip, but for its frames: `frame_indices` int32 [T], `traits` float32 [n], NaN where not known."""

    clip_id: str
    person_id: str
    task: str
    session: str
    split: str
    fps: float
    frame_indices: np.ndarray
    traits: np.ndarray


class Index:
    """The index in memory: its records ordered by clip, and by place in the clip.

    table: one row per record, without the frames' numbers; frame_numbers: int32, those of all records one after the other;
    first_frame [R + 1]: where each record's begin; first_record [N + 1]: where each clip's records begin.
    """

    def __init__(self, parts, trait_names):
        schema = index_schema(trait_names)
        tables = [pq.ParquetFile(part).read(schema.names).select(schema.names).cast(schema) for part in parts]
        table = pa.concat_tables(tables) if tables else schema.empty_table()
        table = table.sort_by([("clip_id", "ascending"), ("part", "ascending")])
        self.frame_numbers = pc.call_function("list_flatten", [table["frame_indices"]]).to_numpy().astype(np.int32, copy=False)
        self.table = table.drop_columns(["frame_indices"])
        self.first_frame = np.concatenate([[0], np.cumsum(self.table["n_frames"].to_numpy(), dtype=np.int64)])
        clip_ids = self.table["clip_id"].combine_chunks()
        starts = np.zeros(0, np.int64)
        if len(clip_ids):
            new = pc.call_function("not_equal", [clip_ids[1:], clip_ids[:-1]]).to_numpy(zero_copy_only=False)
            starts = np.flatnonzero(np.concatenate([[True], new]))
        self.first_record = np.concatenate([starts, [len(clip_ids)]]).astype(np.int64)


class FaceClipsReader:
    """Random access to the frames of a dataset's clips; safe to use from several threads. Made by `open_face_clips`.

    clips: a ClipInfo a clip, its records joined, in the order of their ids; trait_names; image_size (pixels); channels (3 =
    RGB, 1 = grey, 2 = a motion); appearance (config.data.appearance); image_format ('png' or 'jpeg'); metadata.
    """

    def __init__(self, folder: pathlib.Path, cache_bytes: int = 512 << 20):
        self.folder = pathlib.Path(folder)
        self.metadata = bounded.read_json(self.folder / METADATA)
        self.image_size, self.channels = self.metadata["image_size"], self.metadata["channels"]
        self.appearance = self.metadata.get("appearance", "own")  # older datasets know no other
        self.image_format, self.trait_names = self.metadata["image_format"], tuple(self.metadata["trait_names"])
        self._index = Index(part_files(self.folder), self.trait_names)
        self.clips = tuple(_clip_infos(self._index, self.trait_names))
        places = self._index.table
        self._split = places["split"].to_pandas().to_numpy()
        self._shard, self._record = (places[name].to_numpy() for name in ("shard", "record"))
        # One that is dropped is closed when no thread reads from it any more.
        self._shard_of = functools.lru_cache(MAX_OPEN)(_open_shard)
        self._cache, self._cached_bytes, self._cache_bytes = collections.OrderedDict(), 0, cache_bytes
        self._lock = threading.Lock()

    @property
    def index(self) -> pd.DataFrame:
        """One row per record with all but the frames and their numbers."""
        return self._index.table.to_pandas()

    def records(self, i: int) -> range:
        """The rows of `index` that clip `i` is made of, in the order of time."""
        return range(self._index.first_record[i], self._index.first_record[i + 1])

    def encoded(self, i: int):
        """Iterates over the encoded images of clip `i`."""
        for row in self.records(i):
            yield from self._images(row)

    def _images(self, row):
        """The encoded images of a record, from the cache when they are there."""
        with self._lock:
            if row in self._cache:
                self._cache.move_to_end(row)
                return self._cache[row]
        images = images_of(self._read(row))
        with self._lock:
            if row not in self._cache:
                self._cache[row] = images
                self._cached_bytes += sum(map(len, images))
                while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
                    _, dropped = self._cache.popitem(last=False)
                    self._cached_bytes -= sum(map(len, dropped))
        return images

    def _read(self, row) -> bytes:
        """The serialised record of a row, from its shard, of which no more than MAX_OPEN stay open."""
        file = self.folder / SHARD.format(split=self._split[row], number=int(self._shard[row]))
        reader, lock = self._shard_of(file)
        try:
            with lock:
                return reader.read([int(self._record[row])])[0]
        except (RuntimeError, ValueError, IndexError) as error:
            raise InputError(
                f"The shard {file.name} of the dataset in {self.folder} is damaged; remove that folder and run prepare again."
            ) from error

    def frames(self, i: int, positions=None) -> np.ndarray:
        """Frames of clip `i`, uint8 [n, H, W, C]; `positions` (any order, may repeat) says which, None = all of them.

        Only the records that hold them are read, and of those only these frames decoded, each once.
        """
        rows = self.records(i)
        starts = self._index.first_frame[rows.start : rows.stop + 1] - self._index.first_frame[rows.start]
        positions = np.arange(starts[-1]) if positions is None else np.asarray(positions, np.int64)
        images = np.empty((len(positions), self.image_size, self.image_size, self.channels), np.uint8)
        before = part = None
        for place in np.argsort(positions, kind="stable"):
            if before is not None and positions[before] == positions[place]:
                images[place] = images[before]
            else:
                this = int(np.searchsorted(starts, positions[place], side="right")) - 1
                if this != part:
                    part, encoded = this, self._images(rows[this])
                images[place] = decode_image(encoded[positions[place] - starts[part]], self.channels)
            before = place
        return images


def _open_shard(file):
    """(reader of a shard, the lock of who reads from it)."""
    if not file.is_file():  # ArrayRecord would say so in many lines
        raise InputError(f"The dataset in {file.parent} lacks its shard {file.name}; run the stage prepare again.")
    return array_record_module.ArrayRecordReader(str(file), "readahead_buffer_size:0"), threading.Lock()


def images_of(serialised: bytes) -> list[bytes]:
    """The encoded images of a serialised record."""
    # Parsed here, not by TFDS: its features take several times as long as the reading, and only the images are wanted.
    return list(Example.FromString(serialised).features.feature["frames"].bytes_list.value)


def _clip_infos(index, trait_names):
    names = ("clip_id", "person_id", "task", "session", "split", "fps")
    firsts = index.table.take(index.first_record[:-1])
    columns = [firsts[name].to_pylist() for name in names]
    traits = np.stack([firsts[f"trait:{name}"].to_numpy() for name in trait_names], 1) if trait_names else []
    frames = index.first_frame[index.first_record]
    for i, values in enumerate(zip(*columns)):
        own = traits[i] if trait_names else np.zeros(0, np.float32)
        yield ClipInfo(*values, frame_indices=index.frame_numbers[frames[i] : frames[i + 1]], traits=own)


def older_formats(data_dir) -> list[pathlib.Path]:
    """Folders of datasets under `data_dir` that older versions made, the newest last."""
    places = sorted((pathlib.Path(data_dir) / NAME).glob("*"))
    return [place for place in places if place.name != VERSION and (place / "dataset_info.json").is_file()]


def open_face_clips(data_dir, cache_bytes: int = 512 << 20) -> FaceClipsReader:
    """The dataset under `data_dir`; raises InputError when there is none, it is unfinished, or of an older format."""
    folder = pathlib.Path(data_dir) / NAME / VERSION
    if not (folder / METADATA).is_file():
        if older := older_formats(data_dir):
            raise InputError(
                f"The dataset in {data_dir} has the format {older[-1].name} of an older facedyn, this one reads {VERSION}; "
                "run the stage prepare again."
            )
        raise InputError(f"There is no finished dataset of face clips in {data_dir}; run the stage prepare first.")
    if (folder / UNFINISHED).exists():
        stage = (folder / UNFINISHED).read_text(encoding="utf-8")
        raise InputError(f"The dataset in {data_dir} was being changed when {stage} stopped; run {stage} again.")
    try:
        return FaceClipsReader(folder, cache_bytes)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:  # of pyarrow and JSON, too
        reason = bounded.reason(error)
        raise InputError(
            f"The dataset in {folder} cannot be read ({reason}); remove that folder and run prepare again."
        ) from error

"""The TFDS dataset of face clips: ArrayRecord files that are written and read without TensorFlow.

A record is a stretch of a clip, short enough that a window costs little more than its own frames. Beside the records lies
`index.parquet`, a row a record with all but the frames. Frames stay encoded until the very ones asked for are decoded.
"""

import collections
import dataclasses
import functools
import io
import json
import os
import pathlib
import threading
from collections.abc import Callable

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import writer
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import beam_pipelines
from data_pipelines.errors import InputError
from data_pipelines.images import decode_image

NAME, VERSION, INDEX = "face_clips", "1.0.0", "index.parquet"
FIXED_COLUMNS = (
    "split",
    "record",
    "clip_id",
    "part",
    "person_id",
    "task",
    "session",
    "fps",
    "n_frames",
    "frame_indices",
    "key",
)


@dataclasses.dataclass(frozen=True)
class EncodedClip:
    """A record to be written: ids, the kept frames' numbers int32 [T] and as many encoded images."""

    clip_id: str
    part: int
    person_id: str
    task: str
    session: str
    split: str
    fps: float
    frame_indices: np.ndarray
    frames: list[bytes]
    traits: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a split, clip by clip: `expand(job)` gives those of a job. Iterated here, or expanded by Beam's workers.

    With Beam, jobs and `expand` are pickled.
    """

    jobs: tuple
    expand: Callable

    def examples(self):
        """Iterates over (key, TFDS example)."""
        for job in self.jobs:
            yield from _examples(job, self.expand)


def _examples(job, expand):
    for clip in expand(job):
        example = {f.name: getattr(clip, f.name) for f in dataclasses.fields(clip)}
        example["traits"] = np.asarray(clip.traits, np.float32)
        # A fresh stream an image: TFDS reads it to its end, and would import TensorFlow to encode an array.
        example["frames"] = [io.BytesIO(image) for image in clip.frames]
        yield f"{clip.clip_id}/{clip.part:06d}", example


class KeepEncoded(tfds.decode.SkipDecoding):
    """Hands the image bytes on; TFDS's own SkipDecoding does not cover a sequence of images without TensorFlow."""

    def decode_batch_example_np(self, example):
        return example

    def decode_example_np(self, example):
        return example


class LightlyCompressed(writer.ExampleWriter):
    """Writes ArrayRecord at zstd's level 1: on faces as small as the default level, written five times as fast, read twice."""

    def write(self, path, examples):
        file = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1,zstd:1")
        for _, serialized in examples:
            file.write(serialized)
        file.close()


class FaceClips(tfds.core.GeneratorBasedBuilder):
    """Face clips with person, task, session, split, rate, frame numbers and traits."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)
    code_path = None  # nothing is downloaded, so TFDS has no checksums to look for beside the code

    def __init__(self, *, records=None, beam=False, image_size=112, channels=3, image_format="png", metadata=None, **kwargs):
        """`records`: {split: Records}; `beam`: yield Beam transforms; `metadata`: JSON-able, with `trait_names`."""
        self._records, self._beam, self._image = records or {}, beam, (image_size, channels, image_format)
        self._metadata = metadata or {"trait_names": []}
        super().__init__(**kwargs)

    def _info(self):
        size, channels, image_format = self._image
        image = tfds.features.Image(shape=(size, size, channels), encoding_format=image_format)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "clip_id": tfds.features.Text(),
                    "part": np.int32,
                    "person_id": tfds.features.Text(),
                    "task": tfds.features.Text(),
                    "session": tfds.features.Text(),
                    "split": tfds.features.Text(),
                    "fps": np.float32,
                    "frame_indices": tfds.features.Sequence(np.int32),
                    "frames": tfds.features.Sequence(image),
                    "traits": tfds.features.Tensor(shape=(len(self._metadata["trait_names"]),), dtype=np.float32),
                }
            ),
            metadata=tfds.core.MetadataDict(self._metadata),
        )

    def _example_writer(self):
        return LightlyCompressed(self.info.file_format)

    def _split_generators(self, dl_manager):
        if self._beam:
            return {
                split: beam_pipelines.examples(records.jobs, functools.partial(_examples, expand=records.expand))
                for split, records in self._records.items()
            }
        return {split: records.examples() for split, records in self._records.items()}

    def _generate_examples(self, **kwargs):
        raise NotImplementedError  # the base class demands it; the splits' generators are given above


def sources(builder):
    decoders = {"frames": KeepEncoded()}
    return {split: builder.as_data_source(split=split, decoders=decoders) for split in builder.info.splits}


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


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


class FaceClipsReader:
    """Random access to the frames of a dataset's clips; safe to use from several threads. Made by `open_face_clips`.

    clips: a ClipInfo a clip, its records joined; trait_names; image_size (pixels); channels (3 = RGB, 1 = grey); metadata;
    index (DataFrame, a row a record).
    """

    def __init__(self, folder: pathlib.Path, cache_bytes: int = 512 << 20):
        builder = tfds.builder_from_directory(str(folder))
        self.folder, self.metadata = folder, dict(builder.info.metadata)
        self.image_size, _, self.channels = builder.info.features["frames"].feature.shape
        self.trait_names = tuple(self.metadata["trait_names"])
        self.index = pd.read_parquet(folder / INDEX)
        self._places = list(zip(self.index["split"], self.index["record"].tolist()))
        by_clip = {}
        for row, clip_id in enumerate(self.index["clip_id"]):
            by_clip.setdefault(clip_id, []).append(row)
        parts, lengths = self.index["part"].to_numpy(), self.index["n_frames"].to_numpy()
        self._rows = [sorted(rows, key=parts.__getitem__) for rows in by_clip.values()]
        self._starts = [np.cumsum([0, *lengths[rows]]) for rows in self._rows]
        self.clips = tuple(self._clip_infos())
        self._sources = sources(builder)
        self._cache, self._cached_bytes, self._cache_bytes = collections.OrderedDict(), 0, cache_bytes
        self._lock = threading.Lock()

    def _clip_infos(self):
        names = ("clip_id", "person_id", "task", "session", "split", "fps")
        firsts = self.index.iloc[[rows[0] for rows in self._rows]]
        traits = firsts[[f"trait:{name}" for name in self.trait_names]].to_numpy(np.float32)
        frame_indices = self.index["frame_indices"].tolist()
        for i, values in enumerate(firsts[list(names)].itertuples(index=False)):
            numbers = np.concatenate([frame_indices[row] for row in self._rows[i]]).astype(np.int32)
            yield ClipInfo(**values._asdict(), frame_indices=numbers, traits=traits[i])

    def encoded(self, i: int):
        """Iterates over the encoded images of clip `i`."""
        for row in self._rows[i]:
            yield from self._record(row)

    def _record(self, row):
        """The encoded images of a record, from the cache when they are there."""
        with self._lock:
            if row in self._cache:
                self._cache.move_to_end(row)
                return self._cache[row]
        split, record = self._places[row]
        # Parsed here, not by TFDS: its features take several times as long as the reading, and only the images are wanted.
        example = tf_example_pb2.Example.FromString(self._sources[split].data_source[record])
        frames = list(example.features.feature["frames"].bytes_list.value)
        with self._lock:
            if row not in self._cache:
                self._cache[row] = frames
                self._cached_bytes += sum(map(len, frames))
                while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
                    _, dropped = self._cache.popitem(last=False)
                    self._cached_bytes -= sum(map(len, dropped))
        return frames

    def frames(self, i: int, positions=None) -> np.ndarray:
        """Frames of clip `i`, uint8 [n, H, W, C]; `positions` (any order, may repeat) says which, None = all of them.

        Only the records that hold them are read, and of those only these frames decoded, each once.
        """
        starts = self._starts[i]
        positions = np.arange(starts[-1]) if positions is None else np.asarray(positions, np.int64)
        images = np.empty((len(positions), self.image_size, self.image_size, self.channels), np.uint8)
        before = part = None
        for place in np.argsort(positions, kind="stable"):
            if before is not None and positions[before] == positions[place]:
                images[place] = images[before]
            else:
                this = int(np.searchsorted(starts, positions[place], side="right")) - 1
                if this != part:
                    part, encoded = this, self._record(self._rows[i][this])
                images[place] = decode_image(encoded[positions[place] - starts[part]], self.channels)
            before = place
        return images


def open_face_clips(data_dir, cache_bytes: int = 512 << 20) -> FaceClipsReader:
    """The dataset under `data_dir`; raises InputError when there is none or it is unfinished."""
    folder = pathlib.Path(data_dir) / NAME / VERSION
    if not (folder / INDEX).is_file() or not (folder / "dataset_info.json").is_file():
        raise InputError(f"There is no finished dataset of face clips in {data_dir}; run the stage prepare first.")
    try:
        return FaceClipsReader(folder, cache_bytes)
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"The dataset in {folder} cannot be read ({error}); remove that folder and run prepare again."
        ) from error

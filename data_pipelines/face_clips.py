"""The TFDS dataset of face clips: ArrayRecord files that are written and read without TensorFlow.

One record is a clip, or a further part of a long one. Beside the records lies `index.parquet`, a row a record with all but
the frames, so that nobody decodes a frame to know what there is. Frames stay encoded until the very ones asked for are decoded.
"""

import collections
import contextlib
import dataclasses
import io
import json
import pathlib
import shutil
import tempfile
import threading

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from data_pipelines.errors import InputError
from data_pipelines.images import decode_image

NAME, VERSION, INDEX = "face_clips", "1.0.0", "index.parquet"
OLD, WRITING = ".old-face_clips", ".writing-"  # beside the dataset, while a new one takes its place
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
    """A record to be written: ids, the kept frames' numbers int32 [T] and as many encoded images.

    `key` names the input and the settings that the frames were made from.
    """

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
    key: str = ""


class KeepEncoded(tfds.decode.SkipDecoding):
    """Hands the image bytes on; TFDS's own SkipDecoding does not cover a sequence of images without TensorFlow."""

    def decode_batch_example_np(self, example):
        return example

    def decode_example_np(self, example):
        return example


class FaceClips(tfds.core.GeneratorBasedBuilder):
    """Face clips with person, task, session, split, rate, frame numbers and traits."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)
    code_path = None  # nothing is downloaded, so TFDS has no checksums to look for beside the code

    def __init__(self, *, records=None, image_size=112, channels=3, image_format="png", metadata=None, **kwargs):
        """`records`: {split: function that returns an iterator of EncodedClip}; `metadata`: JSON-able, with `trait_names`."""
        self._records, self._image = records or {}, (image_size, channels, image_format)
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

    def _split_generators(self, dl_manager):
        return {split: self._examples(records) for split, records in self._records.items()}

    def _generate_examples(self, **kwargs):
        raise NotImplementedError  # the base class demands it; the splits' generators are given above

    def _examples(self, records):
        for clip in records():
            example = {f.name: getattr(clip, f.name) for f in dataclasses.fields(clip) if f.name != "key"}
            example["traits"] = np.asarray(clip.traits, np.float32)
            # A fresh stream an image: TFDS reads it to its end, and would import TensorFlow to encode an array.
            example["frames"] = [io.BytesIO(image) for image in clip.frames]
            yield f"{clip.clip_id}/{clip.part:06d}", example


def write_face_clips(data_dir, records, *, image_size, channels, image_format, metadata, quality=None) -> pathlib.Path:
    """Writes the dataset under `data_dir` and puts it in the place of an older one only when it is whole; returns its folder.

    `records`: {split: function that returns an iterator of EncodedClip}, called once; `metadata` as in FaceClips; `quality`:
    DataFrame that is stored with it. The clips pass one at a time; TFDS orders them by a hash.
    """
    data_dir = pathlib.Path(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    keys = {}

    def noting_keys(function):
        def clips():
            for clip in function():
                keys[clip.clip_id] = clip.key
                yield clip

        return clips

    temporary = pathlib.Path(tempfile.mkdtemp(prefix=WRITING, dir=data_dir))
    try:
        builder = FaceClips(
            records={split: noting_keys(function) for split, function in records.items()},
            image_size=image_size,
            channels=channels,
            image_format="jpeg" if image_format in ("jpg", "jpeg") else image_format,
            metadata=metadata,
            data_dir=temporary,
            file_format="array_record",
        )
        with _quiet_tfds():
            builder.download_and_prepare()
        folder = temporary / NAME / VERSION
        # Read back rather than computed: TFDS chooses the order, and this is also the proof that every record can be read.
        rows = []
        for split, source in _sources(builder).items():
            for record in range(len(source)):
                rows.append(_index_row(source[record], record, keys, metadata["trait_names"], split))
        pd.DataFrame(rows).to_parquet(folder / INDEX, index=False)
        if quality is not None:
            quality.to_parquet(folder / "quality.parquet", index=False)
        temporary.chmod(0o755)
        return _swap_in(temporary / NAME, data_dir / NAME) / VERSION
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _index_row(example, record, keys, trait_names, split):
    clip_id = _text(example["clip_id"])
    row = {
        "split": split,
        "record": record,
        "clip_id": clip_id,
        "part": int(example["part"]),
        "person_id": _text(example["person_id"]),
        "task": _text(example["task"]),
        "session": _text(example["session"]),
        "fps": float(example["fps"]),
        "n_frames": len(example["frame_indices"]),
        "frame_indices": np.asarray(example["frame_indices"], np.int32),
        "key": keys[clip_id],
    }
    if len(example["frames"]) != row["n_frames"]:
        raise RuntimeError(f"record {record} of {split} lost frames on the way to the disk")
    return row | {f"trait:{name}": np.float32(value) for name, value in zip(trait_names, example["traits"])}


def _swap_in(new, place):
    """Renames `new` to `place`; an older `place` is moved aside first, so that there is never half a dataset in it."""
    if place.exists():
        old = place.with_name(OLD)
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
        new.rename(place)
        shutil.rmtree(old)
    else:
        new.rename(place)
    return place


def clean_up(data_dir) -> None:
    """Removes what a killed `write_face_clips` left in `data_dir`, and puts the older dataset back where it was moved aside."""
    data_dir = pathlib.Path(data_dir)
    for unfinished in data_dir.glob(f"{WRITING}*"):
        shutil.rmtree(unfinished)
    if (data_dir / OLD).exists():
        if (data_dir / NAME).exists():
            shutil.rmtree(data_dir / OLD)
        else:
            (data_dir / OLD).rename(data_dir / NAME)


@contextlib.contextmanager
def _quiet_tfds():
    """TFDS draws three bars a split and talks of downloads; what the user wants to know is said by prepare."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def _sources(builder):
    decoders = {"frames": KeepEncoded()}
    return {split: builder.as_data_source(split=split, decoders=decoders) for split in builder.info.splits}


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclasses.dataclass(frozen=True)
class ClipInfo:
    """What a record holds, but for its frames: `frame_indices` int32 [T], `traits` float32 [n], NaN where not known."""

    clip_id: str
    part: int
    person_id: str
    task: str
    session: str
    split: str
    fps: float
    frame_indices: np.ndarray
    traits: np.ndarray


class FaceClipsReader:
    """Random access to the frames of a dataset; safe to use from several threads. Made by `open_face_clips`.

    clips: a ClipInfo a record; trait_names; image_size (pixels); channels (3 = RGB, 1 = grey); metadata; index (DataFrame).
    """

    def __init__(self, folder: pathlib.Path, cache_bytes: int = 512 << 20):
        builder = tfds.builder_from_directory(str(folder))
        self.folder, self.metadata = folder, dict(builder.info.metadata)
        self.image_size, _, self.channels = builder.info.features["frames"].feature.shape
        self.trait_names = tuple(self.metadata["trait_names"])
        self.index = pd.read_parquet(folder / INDEX)
        traits = self.index[[f"trait:{name}" for name in self.trait_names]].to_numpy(np.float32)
        self.clips = tuple(
            ClipInfo(
                **{name: getattr(row, name) for name in ("clip_id", "part", "person_id", "task", "session", "split", "fps")},
                frame_indices=np.asarray(row.frame_indices, np.int32),
                traits=traits[i],
            )
            for i, row in enumerate(self.index.itertuples(index=False))
        )
        self._places = list(zip(self.index["split"], self.index["record"]))
        self._sources = _sources(builder)
        self._cache, self._cached_bytes, self._cache_bytes = collections.OrderedDict(), 0, cache_bytes
        self._lock = threading.Lock()

    def encoded(self, i: int) -> list[bytes]:
        """The encoded images of record `i`, from the cache when they are there."""
        with self._lock:
            if i in self._cache:
                self._cache.move_to_end(i)
                return self._cache[i]
        split, record = self._places[i]
        frames = [bytes(image) for image in self._sources[split][int(record)]["frames"]]
        with self._lock:
            if i not in self._cache:
                self._cache[i] = frames
                self._cached_bytes += sum(map(len, frames))
                while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
                    _, dropped = self._cache.popitem(last=False)
                    self._cached_bytes -= sum(map(len, dropped))
        return frames

    def frames(self, i: int, positions=None) -> np.ndarray:
        """Frames of record `i`, uint8 [n, H, W, C]; `positions` (any order, may repeat) says which, None = all of them."""
        encoded = self.encoded(i)
        positions = range(len(encoded)) if positions is None else np.asarray(positions).tolist()
        images = np.empty((len(positions), self.image_size, self.image_size, self.channels), np.uint8)
        decoded = {}
        for row, position in enumerate(positions):
            if position not in decoded:
                decoded[position] = row
                images[row] = decode_image(encoded[position], self.channels)
            else:
                images[row] = images[decoded[position]]
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

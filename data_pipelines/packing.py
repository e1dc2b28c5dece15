"""Writes the TFDS dataset of face clips: beside an older one, whose place it takes only when it is whole."""

import contextlib
import io
import pathlib
import shutil
import tempfile

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from data_pipelines import beam_pipelines
from data_pipelines.face_clips import INDEX, NAME, VERSION, FaceClips, sources, text
from data_pipelines.files import raise_if_full

OLD, WRITING = ".old-face_clips", ".writing-"  # beside the dataset, while a new one takes its place


def write_face_clips(
    data_dir, records, *, keys, image_size, channels, image_format, metadata, quality=None, beam_options=""
) -> pathlib.Path:
    """Writes the dataset under `data_dir` and puts it in the place of an older one only when it is whole; returns its folder.

    `records`, `metadata` as in FaceClips; `keys`: {clip_id: names the input and the settings its frames were made from};
    `quality`: DataFrame that is stored with it; `beam_options`: flags of Apache Beam, '' = without. The clips pass one at a
    time; TFDS orders them by a hash. Raises InputError when the disk is full.
    """
    data_dir = pathlib.Path(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=WRITING, dir=data_dir))
    try:
        builder = FaceClips(
            records=records,
            beam=bool(beam_options),
            image_size=image_size,
            channels=channels,
            image_format="jpeg" if image_format in ("jpg", "jpeg") else image_format,
            metadata=metadata,
            data_dir=temporary,
            file_format="array_record",
        )
        with _quiet_tfds():
            options = beam_pipelines.pipeline_options(beam_options) if beam_options else None
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_options=options))
        folder = temporary / NAME / VERSION
        # Read back rather than computed: TFDS chooses the order, and this is also the proof that every record can be read.
        rows = []
        for split, source in sources(builder).items():
            for record in range(len(source)):
                rows.append(_index_row(source[record], record, keys, metadata["trait_names"], split))
        pd.DataFrame(rows).to_parquet(folder / INDEX, index=False)
        if quality is not None:
            quality.to_parquet(folder / "quality.parquet", index=False)
        temporary.chmod(0o755)
        return _swap_in(temporary / NAME, data_dir / NAME) / VERSION
    except (OSError, RuntimeError) as error:
        raise_if_full(error, data_dir / NAME)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _index_row(example, record, keys, trait_names, split):
    clip_id = text(example["clip_id"])
    row = {
        "split": split,
        "record": record,
        "clip_id": clip_id,
        "part": int(example["part"]),
        "person_id": text(example["person_id"]),
        "task": text(example["task"]),
        "session": text(example["session"]),
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

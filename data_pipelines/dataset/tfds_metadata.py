"""What TFDS has to know of the dataset of face clips: its features, and the files that say which shards there are."""

import contextlib
import dataclasses
import io
import pathlib

import numpy as np
import pyarrow.parquet as pq
import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.dataset.face_clips import NAME, UNFINISHED
from data_pipelines.dataset.packing import Format, read_parts


def finish(folder, layout: Format, fingerprint: str) -> None:
    """Writes what TFDS and `open_face_clips` read first, and with it declares the dataset whole.

    fingerprint: names the manifest and the settings that it was made from.
    """
    folder, lengths, sizes = pathlib.Path(folder), {}, {}
    for part in read_parts(folder):
        for shard in pq.read_table(part.file, columns=["shard"])["shard"].to_pylist():
            of_split = lengths.setdefault(part.split, {})
            of_split[shard] = of_split.get(shard, 0) + 1
        sizes[part.split] = sizes.get(part.split, 0) + part.bytes
    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(folder),
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
        dataset_name=NAME,
        filetype_suffix="array_record",
    )
    # A number that is free again has no records: TFDS then looks for no file.
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[of_split.get(number, 0) for number in range(max(of_split) + 1)],
            num_bytes=sizes[split],
            filename_template=template.replace(split=split),
        )
        for split, of_split in sorted(lengths.items())
    ]
    metadata = dataclasses.asdict(layout) | {"trait_names": list(layout.trait_names), "fingerprint": fingerprint}
    with contextlib.redirect_stdout(io.StringIO()):  # what the user wants to know is said by prepare
        tfds.folder_dataset.write_metadata(
            data_dir=folder,
            features=tfds_features(layout),
            split_infos=splits,
            filename_template=template,
            check_data=False,  # with TensorFlow
            description="Face clips with person, task, session, split, rate, frame numbers and traits.",
            metadata=tfds.core.MetadataDict(metadata),
        )
    (folder / UNFINISHED).unlink(missing_ok=True)


def tfds_features(layout: Format):
    """The features of a record, as TFDS knows them."""
    shape = (layout.image_size, layout.image_size, layout.channels)
    if layout.channels == 2:  # side by side in a grey image, see `images.encode_image`
        shape = (layout.image_size, 2 * layout.image_size, 1)
    image = tfds.features.Image(shape=shape, encoding_format=layout.image_format)
    texts = {name: tfds.features.Text() for name in ("clip_id", "person_id", "task", "session", "split")}
    return tfds.features.FeaturesDict(
        texts
        | {
            "part": np.int32,
            "fps": np.float32,
            "frame_indices": tfds.features.Sequence(np.int32),
            "frames": tfds.features.Sequence(image),
            "traits": tfds.features.Tensor(shape=(len(layout.trait_names),), dtype=np.float32),
        }
    )

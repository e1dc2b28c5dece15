"""What several stages need of a config: the U-net, the rank loss, where the data lies."""

import pathlib

import jax
import jax.numpy as jnp

from data_pipelines.dataset.face_clips import FaceClipsReader, open_face_clips
from data_pipelines.errors import InputError
from facedyn.core.rank_loss import RankLoss
from facedyn.core.unet import UNet, init
from facedyn.stages.runtime.data_settings import data_dir, pretrain_data_dir

# Encoded frames that a reader keeps: a stage that passes through a data set once would only fill it.
READER_BYTES = 2**26


def rank_loss_settings(config) -> RankLoss:
    """The section rank_loss, but for the scales."""
    names = ("half_length", "direction", "kind", "margin", "l2", "frame_features", "normalise")
    return RankLoss(**{name: config.rank_loss[name] for name in names})


def unet(config) -> UNet:
    """The U-net of the config."""
    return UNet(
        channels=tuple(config.model.channels),
        groups=config.model.groups,
        maps=rank_loss_settings(config).maps,
        image_channels=config.data.channels,
        dtype=jnp.dtype(config.model.dtype),
    )


def parameter_shapes(config):
    """Structure, shapes and types of the U-net's parameters."""
    return jax.eval_shape(lambda: init(unet(config), jax.random.key(0), config.data.image_size))


def scales(config) -> tuple[int, ...]:
    """The frame strides."""
    return tuple(config.rank_loss.scales)


def generic_dir(workdir, scale: int) -> pathlib.Path:
    """Where the generic model of a scale lies."""
    return pathlib.Path(workdir) / "generic" / f"scale_{scale}"


def records_of(face_clips: FaceClipsReader, splits) -> list[int]:
    """Numbers of the records whose clip belongs to one of the splits (all, when none is named)."""
    present = {clip.split for clip in face_clips.clips}
    for split in splits:
        if split not in present:
            raise InputError(f"The dataset has no split {split!r}; it has {', '.join(sorted(present))}.")
    return [i for i, clip in enumerate(face_clips.clips) if not splits or clip.split in splits]


def open_data(directory, config) -> FaceClipsReader:
    """The prepared dataset, checked against the config's image size, channels and appearance."""
    face_clips = open_face_clips(directory, cache_bytes=READER_BYTES)
    if (face_clips.image_size, face_clips.channels) != (config.data.image_size, config.data.channels):
        raise InputError(
            f"The dataset in {directory} has faces of {face_clips.image_size} pixels and {face_clips.channels} channels, "
            f"the config asks for {config.data.image_size} and {config.data.channels}: prepare it again, or change the config."
        )
    if face_clips.appearance != config.data.appearance:
        raise InputError(
            f"The dataset in {directory} was prepared with config.data.appearance={face_clips.appearance!r}, the config asks "
            f"for {config.data.appearance!r}: prepare it again, or change the config."
        )
    return face_clips


def dataset_fingerprint(config, workdir) -> str:
    """Names the content of the prepared dataset, and of the generic model's own where it has one."""
    places = sorted({data_dir(config, workdir), pretrain_data_dir(config, workdir)})
    return "+".join(open_face_clips(place).metadata["fingerprint"] for place in places)


def steps_per_call(setting: int) -> int:
    """0 means: one on CPU, where a convolution inside a compiled loop is several times slower, ten elsewhere."""
    return setting or (1 if jax.default_backend() == "cpu" else 10)

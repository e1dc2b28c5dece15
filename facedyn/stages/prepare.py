"""Videos -> dataset of face clips: finds out which videos, then leaves the work to data_pipelines."""

import pathlib

from data_pipelines.errors import InputError
from data_pipelines.manifest import read_manifest
from data_pipelines.prepare import PrepareSettings, prepare_face_clips
from facedyn.stages import common


def run(config, workdir) -> dict:
    """Prepares the dataset (and the generic model's own, where config.data.pretrain_manifest names one)."""
    workdir = pathlib.Path(workdir)
    summary = _prepare(
        config,
        manifest(config, workdir),
        common.data_dir(config, workdir),
        workdir / "quality.parquet",
        tuple(config.data.traits),
    )
    if config.data.pretrain_manifest:
        place = common.pretrain_data_dir(config, workdir)
        summary["pretrain"] = _prepare(config, config.data.pretrain_manifest, place, workdir / "pretrain_quality.parquet", ())
    return summary


def manifest(config, workdir) -> pathlib.Path:
    """The manifest that the config means; the synthetic faces are made first. Raises InputError when there is none."""
    data = config.data
    if data.dataset == "synthetic":
        from data_pipelines.synthetic.bench import SyntheticSettings, write_bench

        settings = SyntheticSettings(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in data.synthetic.items()}, seed=config.seed
        )
        return write_bench(workdir / "synthetic", settings, workers=data.workers)
    if data.dataset != "manifest":
        raise InputError(f"config.data.dataset is {data.dataset!r}; it must be manifest or synthetic.")
    if not data.manifest:
        raise InputError("No videos are named: give --config.data.manifest=FILE.csv with the columns clip_id,person_id,path.")
    return pathlib.Path(data.manifest)


def _prepare(config, manifest_path, data_dir, quality_path, traits) -> dict:
    names = (
        *("image_size", "channels", "image_format", "fps", "detector", "yunet_model", "detect_every", "crop_scale"),
        *("smoothing_seconds", "min_face_pixels", "main_person", "max_frames_per_record", "workers", "beam_options"),
    )
    settings = PrepareSettings(
        **{name: config.data[name] for name in names},
        split_fractions=tuple(config.data.split_fractions),
        seed=config.seed,
        min_frames=2 * config.rank_loss.half_length * min(common.scales(config)) + 1,
        trait_names=traits,
    )
    return prepare_face_clips(read_manifest(manifest_path, traits), data_dir, settings, quality_path)

"""Videos -> dataset of face clips: finds out which videos, then leaves the work to data_pipelines."""

import contextlib
import pathlib
from typing import Any

from data_pipelines.manifest import read_manifest
from data_pipelines.prepare import prepare_face_clips
from data_pipelines.sources import SOURCES, add_left_out
from facedyn.stages.runtime import common
from facedyn.stages.runtime.data_settings import check_people, check_splits, list_source, manifest_of_user, prepare_settings
from facedyn.store import lock


def run(config, workdir) -> dict:
    """Prepares the dataset (and the generic model's own, where config.data.pretrain_manifest names one)."""
    workdir, traits = pathlib.Path(workdir), tuple(config.data.traits)
    # Both are read before the first video is decoded: what is wrong with the second would be said hours later.
    entries = read_manifest(manifest(config, workdir), traits)
    pool = read_manifest(config.data.pretrain_manifest) if config.data.pretrain_manifest else None
    check_people(entries, pool)
    check_splits(config, entries, pool)
    place = common.data_dir(config, workdir)
    # A dataset elsewhere may be that of several workdirs; they prepare one after the other.
    outside = not place.absolute().is_relative_to(workdir.absolute())
    with lock.held(place, wait=True) if outside else contextlib.nullcontext():
        summary = _prepare(config, entries, place, workdir / "quality.parquet", traits)
    if config.data.dataset in SOURCES:
        summary["files_left_out"] = add_left_out(workdir / "manifest.json", workdir / "quality.parquet")
    if pool is not None:
        place = common.pretrain_data_dir(config, workdir)
        summary["pretrain"] = _prepare(config, pool, place, workdir / "pretrain_quality.parquet", ())
    return summary


def manifest(config, workdir) -> pathlib.Path:
    """The manifest that the config means; the synthetic faces are made first. Raises InputError when there is none."""
    data = config.data
    if data.dataset == "synthetic":
        from data_pipelines.synthetic.bench import SyntheticSettings, write_bench

        # Any: as the config holds them, which `check` has compared with settings_schema.
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.synthetic.items()}
        settings = SyntheticSettings(**values, seed=config.seed)
        return write_bench(workdir / "synthetic", settings, workers=data.workers)
    return manifest_of_user(config) if data.dataset == "manifest" else list_source(config, workdir)


def _prepare(config, entries, data_dir, quality_path, traits) -> dict:
    settings = prepare_settings(config, traits, min(common.scales(config)))
    return prepare_face_clips(entries, data_dir, settings, quality_path)

"""What the config says about the data, for the stages that must not wait for JAX: where it lies, how it is prepared."""

import dataclasses
import pathlib
from typing import Any

from data_pipelines.dataset.splits import clip_splits
from data_pipelines.doctor.check_people import count_defects
from data_pipelines.doctor.defects import ERROR
from data_pipelines.errors import InputError
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.remote import refuse_url
from data_pipelines.setting import nearest_of
from data_pipelines.sources import SourceSettings, make_manifest
from facedyn.settings_schema import SETTINGS
from facedyn.stages.runtime import messages


def data_dir(config, workdir) -> pathlib.Path:
    """Where the dataset of the scored people lies. Raises InputError for a bucket."""
    refuse_url(config.data.data_dir, "config.data.data_dir")
    return pathlib.Path(config.data.data_dir) if config.data.data_dir else pathlib.Path(workdir) / "data"


def pretrain_data_dir(config, workdir) -> pathlib.Path:
    """Where the generic model's dataset lies: its own, when `data.pretrain_manifest` names one."""
    return pathlib.Path(workdir) / "pretrain_data" if config.data.pretrain_manifest else data_dir(config, workdir)


def prepare_settings(config, trait_names, smallest_scale: int) -> PrepareSettings:
    """The section data as prepare takes it; a clip must hold one window of the smallest scale."""
    names = {field.name for field in dataclasses.fields(PrepareSettings)} & set(config.data.keys())
    # Any: as the config holds them, which `check` has compared with settings_schema.
    values: dict[str, Any] = {name: tuple(v) if isinstance(v := config.data[name], list | tuple) else v for name in names}
    min_frames = 2 * config.rank_loss.half_length * smallest_scale + 1
    return PrepareSettings(**values, seed=config.seed, min_frames=min_frames, trait_names=tuple(trait_names))


def manifest_place(config, workdir) -> pathlib.Path:
    """The manifest that the config means, or where it will lie: the user's own, '.' for none, or one in WORKDIR."""
    workdir = pathlib.Path(workdir)
    own = {"synthetic": workdir / "synthetic" / "manifest.csv", "manifest": pathlib.Path(config.data.manifest)}
    return own.get(config.data.dataset, workdir / "manifest.csv")


def manifest_of_user(config) -> pathlib.Path:
    """The manifest that the config names. Raises InputError where it names none."""
    if not config.data.manifest:
        raise InputError("No videos are named: give --config.data.manifest=FILE.csv with the columns clip_id,person_id,path.")
    return pathlib.Path(config.data.manifest)


def list_source(config, workdir) -> pathlib.Path:
    """Lists a known data set's local copy into WORKDIR/manifest.csv; messages say what the user should know of it."""
    data, place = config.data, pathlib.Path(workdir) / "manifest.csv"
    if not data.source:
        raise InputError(f"config.data.dataset is {data.dataset!r}, but no folder is named: give --config.data.source=DIR.")
    settings = SourceSettings(
        source=pathlib.Path(data.source).expanduser().absolute(),
        **{name: data[name] for name in ("split_protocol", "source_fps", "person_pattern")},
    )
    for note in make_manifest(data.dataset, settings, place).notes:
        messages.info(note)
    return place


def check_people(entries, pool=None) -> None:
    """Raises InputError where there are too few people to learn anything from; a line warns of few.

    entries: ClipEntry of the manifest; pool: those of the generic model's own, where it has one.
    """
    for defect in count_defects(entries, pool):
        if defect.severity == ERROR:
            raise InputError(f"{defect.what} {defect.fix}")
        messages.warning(f"{defect.severity}: {defect.what} {defect.fix}")


def check_splits(config, entries, pool=None) -> None:
    """Raises InputError where a setting names a split that none of the clips will be in.

    entries: ClipEntry of the manifest; pool: those of the generic model's own, where it has one. The default, train, may lack:
    not everybody who prepares clips trains on them.
    """
    of_clips, of_pool = (
        sorted(set(clip_splits(some, config.data.split_fractions, config.seed))) for some in (entries, pool or entries)
    )
    for section, there in (("pretrain", of_pool), ("fit", of_clips), ("traits", of_clips)):
        name = f"{section}.splits"
        for split in config[section].splits if tuple(config[section].splits) != SETTINGS[name].default else ():
            if split not in there:
                raise InputError(
                    f"config.{name} names {split!r}; the splits of the manifest are {', '.join(there)}; the nearest to it is "
                    f"{nearest_of(split, there)!r}."
                )

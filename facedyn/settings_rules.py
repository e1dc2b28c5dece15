"""What settings must be together, and of what surrounds them: files that are named, packages that are asked for.

Each rule yields sentences, for settings of which each by itself is as `settings_schema` says. Nothing here looks at the data.
"""

import importlib.util
import os
import pathlib

from data_pipelines import settings
from data_pipelines.errors import InputError
from data_pipelines.setting import nearest_of

# Stages that read the files of each setting; the others go on where those are no longer there.
READS = {
    "prepare": ("data.manifest", "data.pretrain_manifest", "data.yunet_model", "data.sface_model", "data.landmarks"),
    "pretrain": ("pretrain.init_from",),
    "embed": ("data.yunet_model", "data.sface_model"),
    "traits": ("data.landmarks",),
}
READS["run"] = READS["doctor"] = tuple(dict.fromkeys((*READS["prepare"], *READS["pretrain"], *READS["traits"])))
# Stages that make a dataset, and that write what TensorBoard shows.
PREPARING, LOGGING = ("prepare", "doctor", "run"), ("pretrain", "fit", "doctor", "run")


def faults(config, stage: str | None = None):
    """Yields a sentence for each rule that is broken; `stage` leaves out what does not concern it, None nothing."""
    for rule in (_model, _rank_loss, _filters, _pretrain, _traits, _data):
        yield from rule(config)
    if config.data.dataset == "synthetic" and stage in (None, *PREPARING):
        yield from _synthetic(config)


def missing(config, stage: str | None = None):
    """Yields a sentence for each file, package or process that `stage` (any, for None) needs and that is not there."""
    try:
        address(config.distributed)
    except InputError as error:
        yield str(error)
    yield from _files(config, READS["run"] if stage is None else READS.get(stage, ()))
    yield from _packages(config, stage)


def _model(config):
    channels, groups, size = config.model.channels, config.model.groups, config.data.image_size
    levels = len(channels)
    if levels < 2:
        yield f"config.model.channels is {tuple(channels)}; a U-net needs at least two levels, for example 8,16."
    elif size % 2 ** (levels - 1):
        yield (
            f"config.data.image_size={size} cannot be halved {levels - 1} times, as the {levels} levels of "
            f"config.model.channels require: use a multiple of {2 ** (levels - 1)}, or fewer levels."
        )
    wrong = [c for c in channels if c % groups]
    if wrong:
        fitting = [g for g in range(groups, 0, -1) if not any(c % g for c in channels)]
        yield (
            f"config.model.groups is {groups}, which does not divide {wrong[0]} of config.model.channels={tuple(channels)}; "
            f"the nearest that divides all of them is {fitting[0]}."
        )


def _rank_loss(config):
    if config.fit.solver == "least_squares" and config.rank_loss.direction != "two_maps":
        yield (
            f"config.rank_loss.direction={config.rank_loss.direction} cannot be combined with config.fit.solver=least_squares, "
            "which needs two_maps; use two_maps or another solver."
        )


def site_names(levels: int) -> list[str]:
    """Where filters can be in a U-net of so many levels: names for config.fit.filter_sites."""
    of_levels = [f"skip{i}" for i in range(levels - 1)] + ["bottleneck"] + [f"decoder{i}" for i in range(levels - 1)]
    return [*of_levels, "dynamic_representation"]


def _filters(config):
    fit = config.fit
    if (fit.solver == "least_squares") != (fit.filter_kind == "low_rank"):
        yield (
            f"config.fit.solver={fit.solver} and config.fit.filter_kind={fit.filter_kind} do not go together: "
            "least_squares is the solver of low_rank filters, and of no others; pointwise goes with the others."
        )
    if fit.blocks[0] != "filters":
        yield f"config.fit.blocks={','.join(fit.blocks)} must begin with filters, from which the fit's quality is computed."
    if tuple(fit.blocks) != ("filters",) and fit.solver != "least_squares":
        yield f"config.fit.solver={fit.solver} finds only filters: set config.fit.blocks=filters, or use least_squares."
    if fit.basis != "principal" and fit.solver != "least_squares":
        yield f"config.fit.basis={fit.basis} needs config.fit.solver=least_squares, not {fit.solver}; leave it out."
    if "swapped_dynamics" in fit.controls and fit.solver != "least_squares":
        yield f"config.fit.controls=swapped_dynamics needs config.fit.solver=least_squares, not {fit.solver}; leave it out."
    if fit.solver == "gauss_newton" and not fit.ridge:
        yield "config.fit.ridge=0 is for config.fit.solver=least_squares; gauss_newton needs one above 0, for example 20."
    known = site_names(len(config.model.channels))
    for name in fit.filter_sites.split(","):
        if name.strip() not in ("connections", "all", *known):
            yield (
                f"config.fit.filter_sites names {name.strip()!r}; it must be connections, all, or some of {', '.join(known)}, "
                f"as config.model.channels has {len(config.model.channels)} levels."
            )


def _pretrain(config):
    if not config.pretrain.steps and not config.pretrain.init_from:
        yield "config.pretrain.steps=0 uses a generic model unchanged: name it with config.pretrain.init_from."
    if "validation" in config.pretrain.splits and not config.data.pretrain_manifest:
        yield (
            f"config.pretrain.splits={tuple(config.pretrain.splits)} must not name validation, whose people decide when "
            "training stops; the usual value is train."
        )


def _traits(config):
    traits, unit = config.traits, config.fit.unit
    if len(traits.seeds) > 1 and traits.protocol != "k_fold":
        yield (
            f"config.traits.seeds={tuple(traits.seeds)} ask for several repeats of the folds, but {traits.protocol!r} has only "
            "one way to make folds: give one seed, or use k_fold."
        )
    if traits.aggregate != "person" and unit == "person":
        yield (
            f"config.traits.aggregate={traits.aggregate!r} needs several units per person: fit with config.fit.unit='clip' or"
            " 'session'."
        )


def _data(config):
    data = config.data
    yield from settings.faults(data)
    if "://" in data.data_dir:
        yield f"config.data.data_dir={data.data_dir} is a URL, but must be a folder: mount the bucket and name it there."
    if data.person_pattern:
        from data_pipelines.sources.people_of_clips import Namer

        try:
            Namer(data.person_pattern)
        except InputError as error:
            yield str(error)


def _synthetic(config):
    from data_pipelines.synthetic.dynamics import TRAITS

    unknown = [name for name in config.data.traits if name not in TRAITS]
    if unknown:
        yield f"config.data.traits names {unknown[0]!r}; with synthetic faces it may name only {', '.join(TRAITS)}."
    yield from settings.synthetic_faults(config.data.synthetic)


def address(distributed) -> tuple[str, int, int] | None:
    """(address, processes, process) of `config.distributed`; None for one process; ('auto', 0, -1).

    Raises InputError for settings that do not go together.
    """
    coordinator, processes, process = distributed.coordinator, distributed.processes, distributed.process
    name = "config.distributed"
    if coordinator in ("", "auto"):
        if (processes, process) != (0, -1):
            needs = "needs" if not coordinator else "is for"
            raise InputError(
                f"{name}.processes={processes}, {name}.process={process} {needs} {name}.coordinator=HOST:PORT, "
                f"the address where process 0 listens; it is {coordinator!r}."
            )
        return ("auto", 0, -1) if coordinator else None
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise InputError(f"{name}.coordinator={coordinator!r} must be HOST:PORT, for example 10.0.0.1:9911, or 'auto'.")
    if processes < 1:
        raise InputError(f"{name}.processes={processes} must say how many processes there are, at least 1.")
    if not 0 <= process < processes:
        raise InputError(f"{name}.process={process} must be from 0 to {processes - 1}, a different one in every process.")
    return coordinator, processes, process


# What a setting names: in a word, and how it must be.
COLUMNS = "a CSV with the columns clip_id,person_id,path"
WHAT = {
    "data.manifest": ("manifest", COLUMNS),
    "data.pretrain_manifest": ("manifest", COLUMNS),
    "data.yunet_model": ("YuNet model", "its ONNX file"),
    "data.sface_model": ("SFace model", "its ONNX file"),
    "pretrain.init_from": ("generic model", "a folder `generic` of another run or a file of `facedyn export`"),
}


def _files(config, names):
    for name in names:
        section, leaf = name.split(".")
        place = config[section][leaf]
        detects = config.data.detector != "haar"
        if not place or "://" in place or (name == "data.yunet_model" and not detects):
            continue
        if name == "data.landmarks":
            if not pathlib.Path(place).expanduser().is_dir():
                yield f"There is no folder {place}; config.{name} must name one with a file CLIP_ID.npz or CLIP_ID.csv a clip."
            continue
        if name == "data.manifest" and config.data.dataset != "manifest":
            continue
        path = pathlib.Path(place).expanduser()
        if not path.is_file() and not (leaf == "init_from" and path.is_dir()):
            thing, form = WHAT[name]
            why = ", which is a folder" if path.is_dir() else _beside(path)
            yield f"There is no {thing} at {place}{why}; config.{name} must name {form}."
        elif path.is_file() and not os.access(path, os.R_OK):
            yield f"config.{name} is {place!r}, which your user may not read; allow it (chmod), or name another file."
        elif path.is_dir():
            missing = [scale for scale in config.rank_loss.scales if not (path / f"scale_{scale}" / "best").is_dir()]
            if missing:
                yield f"config.{name} is {place!r}, which has no model of scale {missing[0]} (scale_{missing[0]}/best)."


def _beside(path) -> str:
    """The nearest name in the folder where the file should be."""
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix == path.suffix and p.is_file()]
    except OSError:
        return f" (there is no folder {path.parent})"
    return f" (the nearest there is {nearest_of(path.name, names)!r})" if names else ""


def _packages(config, stage):
    if config.tensorboard and stage in (None, *LOGGING) and importlib.util.find_spec("tensorboardX") is None:
        yield "config.tensorboard needs the extra: pip install 'facedyn[tensorboard]', or set it to False."
    if config.data.beam_options and stage in (None, *PREPARING):
        from data_pipelines.dataset.beam_pipelines import pipeline_options

        try:
            pipeline_options(config.data.beam_options)
        except InputError as error:
            yield str(error)

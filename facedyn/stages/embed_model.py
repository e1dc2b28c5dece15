"""The model that new videos are embedded by: of a trained WORKDIR, of an exported file, or the one in the package."""

import contextlib
import importlib.resources
import pathlib
from typing import Any, NamedTuple

import numpy as np

from data_pipelines import content
from data_pipelines.errors import InputError
from facedyn.config import WITHOUT_EFFECT, check, config_hash, effective, expand_home, from_flat, with_home
from facedyn.config_files import override
from facedyn.stages import embed_rates
from facedyn.stages.fit import closed_form, shared
from facedyn.stages.fit.closed_form import Shared
from facedyn.stages.runtime import common
from facedyn.stages.traits import saved_heads
from facedyn.store import portable, stamps

# What may differ from the run that made the model: who is shown, how the face is found, how fast it goes.
FREE = (*WITHOUT_EFFECT, "data.person_pattern", "data.yunet_model", "data.sface_model", "data.detector", "data.detect_every")
FREE += ("data.main_person", "data.min_face_pixels", "data.min_confidence", "fit.min_frames")
# The model in the package; `python benchmarks/train_generic.py` makes it.
SHIPPED = "models/generic.safetensors"
# The settings that embedding needs, and what of them is about a run's own data.
EXPORTED = ("seed", "data.", "model.", "rank_loss.", "fit.")
NOT_EXPORTED = ("data.dataset", "data.synthetic.", "data.traits", "data.person_pattern", "data.split_")
# Of what `fit` has learnt for everyone, new videos do not need what pictures and identification are made of.
LEFT_OUT = ("params", "basis", "readout")


class Model(NamedTuple):
    """What embeds new videos.

    Attributes:
      name: of the workdir or file, for messages.
      config: the settings it was made with, and those that were changed.
      settings: the hash that the tables' column config_hash has.
      generic: {scale: what the fit needs}.
      heads: {name: SavedHead}.
      fps: frames per second that the generic model was trained at, 0 where nothing tells.
      heads_hash: names the heads.
      note: who must be named for the data it was trained on.
    """

    name: str
    config: Any  # a ConfigDict, whose annotations do not know that its sections have settings
    settings: str
    generic: dict
    heads: dict
    fps: float
    heads_hash: str = ""
    note: str = ""

    def scaling(self) -> dict | None:
        """{scale: mean and standard deviation [2, D]} over the generic model's people; None where it was not learnt."""
        found = {scale: getattr(of_scale, "scaling", None) for scale, of_scale in self.generic.items()}
        return found if all(of is not None and of.shape[1] for of in found.values()) else None


def load(model=None, settings: dict | None = None) -> Model:
    """The model of a trained workdir (a folder) or of a file of `facedyn export`; None: the one in the package.

    settings: changes {name: value}, only those of FREE. Raises InputError when there is no such model, it was not trained to
    the end, or a setting is none of FREE.
    """
    if model is None:
        with _shipped() as path:
            return from_file(path, settings, "the model in the package")
    path = pathlib.Path(with_home(str(model), "The model"))
    if path.is_dir():
        return from_workdir(path, settings)
    if path.suffix == portable.SUFFIX:
        return from_file(path, settings, str(path))
    raise InputError(f"There is no model {path}; name the --workdir of a finished run, or a file of `facedyn export`.")


@contextlib.contextmanager
def _shipped():
    place = importlib.resources.files("facedyn").joinpath(SHIPPED)
    if not place.is_file():
        raise InputError(
            "The package holds no model: train it by `python benchmarks/train_generic.py`, or name one of yours (--model)."
        )
    with importlib.resources.as_file(place) as path:
        yield path


def from_workdir(workdir, settings: dict | None = None) -> Model:
    """The models and heads of a workdir whose stages pretrain and fit are done. Raises InputError where they are not."""
    config = stamps.stamped_config(workdir, "fit", "pretrain")
    hashed = config_hash(_changed(config, settings, workdir))
    generic = shared.load_models(config, workdir)
    folder = pathlib.Path(workdir) / saved_heads.FOLDER
    there = (folder / saved_heads.DESCRIPTION).is_file()
    heads, heads_hash = (saved_heads.load_heads(workdir), content.of_place(folder)) if there else ({}, "")
    fps = embed_rates.training_fps(config, workdir)
    return Model(str(workdir), config, hashed, generic, heads, fps, heads_hash)


def from_file(path, settings: dict | None = None, name: str = "") -> Model:
    """The model of a file of `facedyn export`, which has no heads. Raises InputError."""
    metadata, learnt = portable.read_model(path)
    described = metadata["embed"]
    config, _ = from_flat(described["config"])
    _changed(config, settings, name or path)
    like = common.parameter_shapes(config)
    generic = {scale: portable.read_generic(path, config, like, scale) for scale in common.scales(config)}
    if shared.is_closed_form(config):
        generic = {scale: _shared(config, params, learnt[scale], path) for scale, params in generic.items()}
    hashed = str(described["config_hash"])
    changed = [[of, str(value)] for of, value in sorted((settings or {}).items()) if of not in WITHOUT_EFFECT]
    if changed:
        hashed = content.named([hashed, changed])[:12]
    fps, note = float(described["fps"]), str(described.get("note", ""))
    return Model(name or str(path), config, hashed, generic, {}, fps, note=note)


def _changed(config, settings, made_by):
    """The config, in which the settings are changed and checked."""
    for name, value in ({"data.workers": 1} | (settings or {})).items():
        if not name.startswith(FREE):
            raise InputError(
                f"embed cannot change {name}, as the model of {made_by} was made with it; it can change "
                f"{', '.join(name.removesuffix('.') for name in FREE)}."
            )
        override(config, name, str(value))
    check(expand_home(config), "embed")
    return config


def _shared(config, params, arrays: dict, path) -> Shared:
    """What `fit` needs of a scale, of the arrays of an exported file."""
    names, nothing = [site.name for site in closed_form.sites_of(config)], np.zeros(0, np.float32)
    width = sum(slot.size for slot in shared.layout(config))
    try:
        basis = tuple(portable.unrounded(arrays[f"basis/{name}/values"], arrays[f"basis/{name}/step"]) for name in names)
        kept = {name: arrays.get(name, nothing) for name in Shared._fields if name not in LEFT_OUT}
        fits = kept["scaling"].shape in ((2, width), (2, 0))
        fits &= all(of.shape[1] == config.fit.rank for of in basis)
    except (KeyError, ValueError, IndexError):
        fits = False
    if not fits:
        raise InputError(f"{path} was exported by another version: its filters do not fit this one; export it again.")
    return Shared(params=params, basis=basis, readout=nothing, **kept)


def refuse_landmarks(config) -> None:
    """Raises InputError where the model knows only pictures that videos alone do not give."""
    if config.data.landmarks and config.data.appearance != "own":
        raise InputError(
            "This model was learnt from a face that moves by landmarks (config.data.landmarks), which videos alone do not "
            "have: put the landmarks of all people into one folder, and fit them together with `facedyn run`."
        )


def exported(model: Model, note: str = "") -> tuple[dict, dict, dict]:
    """({scale: parameters}, {scale: {name: array}}, metadata) as `portable.write_generic` takes them.

    Raises InputError for a model that embeds no videos.
    """
    config = model.config
    refuse_landmarks(config)
    flat = {name: value for name, value in effective(config).items() if name.startswith(EXPORTED)}
    flat = {name: value for name, value in flat.items() if not name.startswith(NOT_EXPORTED)}
    slots = [[slot.site, list(slot.shape), slot.offset, slot.size] for slot in shared.layout(config)]
    described = {"config": flat, "config_hash": model.settings, "fps": model.fps, "layout": slots, "note": note}
    if not shared.is_closed_form(config):
        return model.generic, {}, {"embed": described}
    learnt = {scale: _arrays(config, of_scale) for scale, of_scale in model.generic.items()}
    return {scale: of_scale.params for scale, of_scale in model.generic.items()}, learnt, {"embed": described}


def _arrays(config, of_scale: Shared) -> dict:
    found = {name: np.asarray(getattr(of_scale, name)) for name in Shared._fields if name not in LEFT_OUT}
    for site, basis in zip(closed_form.sites_of(config), of_scale.basis):
        found |= {f"basis/{site.name}/{part}": array for part, array in portable.rounded(np.asarray(basis)).items()}
    return found

"""Which engine a fit uses, and what the engine needs of the generic model: read from WORKDIR, or learnt there once."""

import functools
import json
import pathlib

import jax
import numpy as np

from data_pipelines.errors import InputError
from facedyn.config import effective
from facedyn.core import person_filters, unet
from facedyn.stages.fit import closed_form, site_models
from facedyn.stages.fit.iterative import Engine
from facedyn.stages.fit.pool import generic_pool
from facedyn.stages.fit.units import TimeShuffled
from facedyn.stages.pretrain import load_generic
from facedyn.stages.runtime import common, processes
from facedyn.store import portable, representations, site_files

LEAST_SQUARES, LOW_RANK = "least_squares", "low_rank"
# Settings that what is learnt for everybody depends on, beside the generic model and the people; a dot ends a whole section.
LEARNT_FROM = ("seed", "data.image_size", "data.channels", "model.", "rank_loss.half_length", "rank_loss.direction")
LEARNT_FROM += ("fit.rank", "fit.filter_sites", "fit.innovations", "fit.step_correlations")
LEARNT_FROM += ("fit.ridge", "fit.max_frames", "fit.held_back")


def make_engine(config, face_clips):
    """The engine for the config's solver. Raises InputError for settings that it cannot use."""
    c = config.fit
    if (c.solver == LEAST_SQUARES) != (c.filter_kind == LOW_RANK):
        raise InputError(
            f"config.fit.solver={c.solver} and config.fit.filter_kind={c.filter_kind} do not go together: "
            f"{LEAST_SQUARES} is the solver of {LOW_RANK} filters, and of no others."
        )
    for name in ("innovations", "step_correlations"):
        if c[name] and c.solver != LEAST_SQUARES:
            raise InputError(f"config.fit.{name}=True needs config.fit.solver={LEAST_SQUARES}, not {c.solver}.")
    return (closed_form.SiteEngine if c.solver == LEAST_SQUARES else Engine)(config, face_clips)


class Models:
    """(scale, control) -> what the engine needs: the generic model, or the untrained one, with its sites' patterns."""

    def __init__(self, config, workdir, engine, face_clips):
        self._config, self._workdir, self._engine, self._face_clips = config, pathlib.Path(workdir), engine, face_clips
        self._of, self._pool = functools.cache(self._find), functools.cache(self._find_pool)

    def __call__(self, scale: int, control: str = ""):
        return self._of(scale, control)

    def others(self) -> list[str]:
        """People from whom something was learnt for everybody though the generic model has not seen them."""
        if not isinstance(self._engine, closed_form.SiteEngine):
            return []
        reader, records = self._pool()
        return sorted({reader.clips[i].person_id for i in records}) if self._pool_is_own() else []

    def _find(self, scale, control):
        c, by_site = self._config, isinstance(self._engine, closed_form.SiteEngine)
        if control == "untrained":
            params = unet.init(self._engine.unet, jax.random.key(c.seed + 1), c.data.image_size)
        else:
            params = load_generic(c, self._workdir, scale)
        if not by_site:
            return params
        path = site_files.path(self._workdir, scale, control)
        # A control is the same computation throughout: what holds for everybody is that of shuffled frames, too.
        ordered = self(scale) if control == "time_shuffled" else None

        def learn():
            reader, records = self._pool()
            wanted = self._learnt_from(params, control)
            if not self._is_to_be_learnt(path, wanted, scale, control):
                return
            if ordered is None:
                found = self._engine.learn(params, scale, reader, records)
            else:
                found = self._engine.learn_population(ordered, scale, TimeShuffled(reader, c.seed), records)
            # Before the patterns: a kill in between names people from whom nothing was learnt yet, not the other way round.
            site_files.write_people(self._workdir, self.others())
            site_models.save(path, site_names(c), found, wanted)

        processes.on_main_process(learn)
        found = _load(c, path, params)
        # The very same patterns: states that were computed for one are known to the other.
        return found if ordered is None else found._replace(basis=ordered.basis, readout=ordered.readout)

    def _learnt_from(self, params, control: str) -> dict:
        """All that what is learnt for everybody depends on, flat."""
        own = f"fit.splits={','.join(self._config.fit.splits)}"
        return learnt_from_settings(self._config, params, control) | {
            "dataset": self._pool()[0].metadata["fingerprint"],
            "people": own if self._pool_is_own() else "the generic model's",
        }

    def _pool_is_own(self) -> bool:
        """Whether the people are those that are fitted, as the generic model's are not there."""
        reader, records = self._pool()
        return reader is self._face_clips and records == self._records()

    def _is_to_be_learnt(self, path, wanted: dict, scale: int, control: str) -> bool:
        """False where it is kept. Raises InputError where there are representations, but not what they were made by."""
        kept, folder = site_files.learnt_from(path), self._workdir / representations.FOLDER
        if kept == wanted:
            return False
        rows = representations.read_rows(folder / control)
        if (rows["scale"] == scale).any():
            other = "is missing, or of an older version"
            why = f"was learnt from something else ({differences(kept, wanted)})" if kept else other
            raise InputError(
                f"{path}, by which the representations of scale {scale} were made, {why}: "
                f"delete the folder {folder} and run fit again."
            )
        if kept is not None:
            processes.log(f"fit: what people of scale {scale} have in common is learnt again: {differences(kept, wanted)}")
        return True

    def _records(self):
        return common.records_of(self._face_clips, self._config.fit.splits)

    def _find_pool(self):
        return generic_pool(self._config, self._workdir, self._face_clips, self._records())


def site_names(config) -> list[str]:
    """Of the sites that have filters, in the order of the representation."""
    return [site.name for site in person_filters.sites(tuple(config.model.channels), config.fit.filter_sites)]


def layout(config):
    """The layout record of the representation under this config: where each site's weights lie in the vector."""
    sites = person_filters.sites(tuple(config.model.channels), config.fit.filter_sites)
    if config.fit.filter_kind == LOW_RANK:
        return site_models.layout(sites, config.fit)
    return person_filters.layout(sites, config.fit.filter_kind)


def part_sizes(config) -> list[int]:
    """Numbers of features of the parts of a representation in closed form: filters, innovations, step correlations."""
    if config.fit.filter_kind != LOW_RANK:
        return [sum(slot.size for slot in layout(config))]
    sites = person_filters.sites(tuple(config.model.channels), config.fit.filter_sites)
    return [sum(slot.size for slot in part) for part in site_models.parts(sites, config.fit) if part[0].size]


def learnt_from_settings(config, params, control: str = "") -> dict:
    """The settings of LEARNT_FROM, as JSON gives them back, and which generic model."""
    kept = {name: value for name, value in effective(config).items() if name.startswith(LEARNT_FROM)}
    # The untrained one is told by the seed: its numbers may differ in the last place on another machine.
    generic = control if control == "untrained" else portable.tensors_hash(portable.tensors(params))
    return json.loads(json.dumps(kept, default=list)) | {"generic": generic}


def differences(kept: dict, wanted: dict) -> str:
    """'fit.held_back was 0.2, is 0.1; ...'."""
    names = [name for name in sorted(kept.keys() | wanted.keys()) if kept.get(name) != wanted.get(name)]
    return "; ".join(f"{name} was {kept.get(name)!r}, is {wanted.get(name)!r}" for name in names)


def identification_weights(config, workdir, control: str = "") -> dict[int, np.ndarray] | None:
    """{scale: what weights of the representation count by when people are told apart}; None where the fit learns none.

    Directions [D, M] that tell the generic model's people apart, or where those are fewer than that takes, how reliable each
    weight is, [D]; the same of both for all scales.
    """
    if config.fit.solver != LEAST_SQUARES:
        return None
    paths = {scale: site_files.path(workdir, scale, control) for scale in common.scales(config)}
    found = {scale: site_models.load_identification_weights(path) for scale, path in paths.items()}
    # All ones where the generic model's people were too few to tell.
    if any(of_scale is None or (of_scale[0] == 1).all() for of_scale in found.values()):
        return None
    enough = all(directions.shape[1] for _, directions in found.values())
    return {scale: of_scale[1] if enough else of_scale[0] for scale, of_scale in found.items()}


def load_models(config, workdir) -> dict:
    """{scale: what the engine needs} of a workdir whose fit is done. Raises InputError where something is missing."""
    found = {}
    for scale in common.scales(config):
        found[scale] = load_generic(config, workdir, scale)
        if config.fit.solver == LEAST_SQUARES:
            path, wanted = site_files.path(workdir, scale), learnt_from_settings(config, found[scale])
            kept = site_files.learnt_from(path)
            if kept is None:
                raise InputError(f"{path} is missing: run the stage `fit` on {workdir} first.")
            if wanted != {name: kept.get(name) for name in wanted}:
                raise InputError(f"{path} was learnt from something else than {workdir} holds now: run the stage `fit` there.")
            found[scale] = _load(config, path, found[scale])
    return found


def _load(config, path, params):
    return site_models.load(path, site_names(config), sum(slot.size for slot in layout(config)), params)

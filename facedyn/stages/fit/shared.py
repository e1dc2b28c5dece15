"""What is the same for everyone in a fit: the way to fit, the generic model and, for the closed form, what learning.py finds.

The latter lies in WORKDIR/representations/shared, with all that it was learnt from.
"""

import functools
import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from data_pipelines import bounded
from data_pipelines.errors import InputError
from facedyn.config import check, default_config, effective
from facedyn.core import bases, blocks, person_filters, unet
from facedyn.stages import shards
from facedyn.stages.fit import closed_form, iterative, swapped
from facedyn.stages.fit.batching import Fitting
from facedyn.stages.fit.closed_form import Shared
from facedyn.stages.fit.learning import SHUFFLED, generic_pool, learn
from facedyn.stages.pretrain import load_generic
from facedyn.stages.runtime import common, processes
from facedyn.store import portable, representations, site_files

LEAST_SQUARES, LOW_RANK = "least_squares", "low_rank"
UNTRAINED = "untrained"
# Settings that what is learnt depends on, beside the generic model and the people; a dot ends a whole section.
LEARNT_FROM = ("seed", "data.image_size", "data.channels", "data.appearance", "model.", "rank_loss.half_length")
LEARNT_FROM += ("rank_loss.direction", "fit.rank", "fit.basis", "fit.filter_sites", "fit.blocks", "fit.whiten")
LEARNT_FROM += ("fit.ridge", "fit.max_frames", "fit.held_back")


def is_closed_form(config) -> bool:
    """Whether the settings ask for the closed form."""
    return config.fit.solver == LEAST_SQUARES


def make_fitting(config) -> Fitting:
    """The way to fit that the settings ask for. Raises InputError for settings that it cannot use."""
    check(config, "fit", files=False)
    return (closed_form if is_closed_form(config) else iterative).make_fitting(config)


def layout(config) -> tuple[person_filters.Slot, ...]:
    """The layout record of the representation under this config: where each site's weights lie in the vector."""
    sites = closed_form.sites_of(config)
    if config.fit.filter_kind == LOW_RANK:
        return blocks.layout(config.fit.blocks, sites, config.fit.rank)
    return person_filters.layout(sites, config.fit.filter_kind)


class Features(NamedTuple):
    """What the numbers of a representation are.

    Attributes:
      names: of its blocks.
      bands: of which block each number is, int [D].
      weights: what standardised numbers count by in a head, [D] (`blocks.weights`); None where all count the same.
    """

    names: tuple[str, ...]
    bands: np.ndarray
    weights: np.ndarray | None


def features(config) -> Features:
    """Under this config."""
    if config.fit.filter_kind != LOW_RANK:  # one block
        return Features(("filters",), np.zeros(sum(slot.size for slot in layout(config)), int), None)
    what = config.fit.blocks, closed_form.sites_of(config), config.fit.rank
    return Features(config.fit.blocks, blocks.bands(*what), blocks.weights(*what))


def save(path, names: list[str], shared: Shared, learnt_from: dict | None = None) -> None:
    """Keeps a Shared with the sites of these names, but for the U-net's parameters; `learnt_from` as site_files has it."""
    arrays = {name: getattr(shared, name) for name in Shared._fields if name not in ("params", "basis")}
    site_files.write(path, arrays | dict(zip(names, shared.basis)) | {"sites": names}, learnt_from or {})


def load(path, names: list[str], length: int, params) -> Shared | None:
    """What was kept in `path`; None where nothing is, or where it is of other sites or another length of representation."""
    if not path.is_file():
        return None
    bounded.check_arrays(path)
    with np.load(path) as stored:
        if stored["sites"].tolist() != names or stored["scaling"].shape not in ((2, length), (2, 0)):
            return None
        arrays = {name: stored[name] for name in Shared._fields if name not in ("params", "basis")}
        return Shared(params, tuple(stored[name] for name in names), **arrays)


def learnt_from_settings(config, params, control: str = "") -> dict:
    """The settings of LEARNT_FROM, as JSON gives them back, and which generic model."""
    kept = {name: value for name, value in effective(config).items() if name.startswith(LEARNT_FROM)}
    # The untrained one is told by the seed: its numbers may differ in the last place on another machine.
    generic = control if control == UNTRAINED else portable.tensors_hash(portable.tensors(params))
    return json.loads(json.dumps(kept, default=list)) | {"generic": generic}


def kept_settings(path) -> dict | None:
    """As `site_files.learnt_from`; a setting younger than the file had what is now its default."""
    kept = site_files.learnt_from(path)
    if not kept:
        return kept
    younger = {name: value for name, value in effective(default_config()).items() if name.startswith(LEARNT_FROM)}
    return json.loads(json.dumps(younger, default=list)) | kept


def differences(kept: dict, wanted: dict) -> str:
    """'fit.held_back was 0.2, is 0.1; ...'."""
    names = [name for name in sorted(kept.keys() | wanted.keys()) if kept.get(name) != wanted.get(name)]
    return "; ".join(f"{name} was {kept.get(name)!r}, is {wanted.get(name)!r}" for name in names)


def _load(config, path, params):
    slots = layout(config)
    return load(path, [site.name for site in closed_form.sites_of(config)], sum(slot.size for slot in slots), params)


def load_models(config, workdir) -> dict:
    """{scale: what the fit needs} of a workdir whose fit is done. Raises InputError where something is missing."""
    found = {}
    for scale in common.scales(config):
        found[scale] = load_generic(config, workdir, scale)
        if is_closed_form(config):
            path, wanted = site_files.path(workdir, scale), learnt_from_settings(config, found[scale])
            kept = kept_settings(path)
            if kept is None:
                raise InputError(f"{path} is missing: run the stage `fit` on {workdir} first.")
            if wanted != {name: kept.get(name) for name in wanted}:
                raise InputError(f"{path} was learnt from other data than {workdir} holds now: run the stage `fit` there.")
            found[scale] = _load(config, path, found[scale])
    return found


class Models:
    """(scale, control) -> what the fit needs: read from WORKDIR, or learnt there once.

    A control is the same computation throughout: `untrained` has another U-net, `time_shuffled` learns from shuffled frames
    on the basis of ordered ones.
    """

    def __init__(self, config, workdir, fitting: Fitting, face_clips):
        self._config, self._workdir, self._fitting, self._face_clips = config, pathlib.Path(workdir), fitting, face_clips
        self._records = common.records_of(face_clips, config.fit.splits)
        self._of, self._params = functools.cache(self._find), functools.cache(self._find_params)
        self._pool = functools.cache(lambda: generic_pool(config, self._workdir, face_clips, self._records))

    def __call__(self, scale: int, control: str = ""):
        return self._of(scale, "" if control in (swapped.NAME, representations.REVERSED) else control)

    def others(self) -> list[str]:
        """People from whom something was learnt for all people though the generic model has not seen them."""
        if not is_closed_form(self._config) or not self._pool_is_own():
            return []
        reader, records = self._pool()
        return sorted({reader.clips[i].person_id for i in records})

    def _find_params(self, scale, untrained):
        c = self._config
        if untrained:
            return unet.init(common.unet(c), jax.random.key(c.seed + 1), c.data.image_size)
        return load_generic(c, self._workdir, scale)

    def _find(self, scale, control):
        params = self._params(scale, control == UNTRAINED)
        if not is_closed_form(self._config):
            return params
        with shards.learning(self._workdir):
            processes.on_main_process(functools.partial(self._learn, params, scale, control))
        found = _load(self._config, site_files.path(self._workdir, scale, control), params)
        if found is None or control != SHUFFLED:
            return found
        # The very same arrays, which go to the devices once.
        return found._replace(basis=self(scale).basis, readout=self(scale).readout)

    def _learn(self, params, scale, control) -> None:
        """Learns what is not kept of this control, and with what is ordered of shuffled frames too, where that is wanted."""
        c = self._config
        wanted = (control, SHUFFLED) if not control and SHUFFLED in c.fit.controls else (control,)
        paths = {name: site_files.path(self._workdir, scale, name) for name in wanted}
        learnt_from = {name: self._learnt_from(params, name) for name in wanted}
        missing = [name for name in wanted if self._is_to_be_learnt(paths[name], learnt_from[name], scale, name)]
        if not missing:
            return
        if control == UNTRAINED:
            # Of all scales the same U-net, so the basis of the first is that of every other, too, unless it looks at a scale.
            first = site_files.path(self._workdir, common.scales(c)[0], control)
            same = site_files.learnt_from(first) == learnt_from[control] and not bases.BASES[c.fit.basis].needs_pairs
            known = _load(c, first, params) if same else None
        else:
            ordered = paths.get("", site_files.path(self._workdir, scale))
            known = _load(c, ordered, params) if "" not in missing else None
        found = learn(c, self._fitting, params, scale, *self._pool(), missing, known)
        # Before the basis: a kill in between names people from whom nothing was learnt yet, not the other way round.
        site_files.write_people(self._workdir, self.others())
        names = [site.name for site in closed_form.sites_of(c)]
        for name, of_control in found.items():
            save(paths[name], names, of_control, learnt_from[name])

    def _learnt_from(self, params, control: str) -> dict:
        """All that what is learnt depends on, flat."""
        own = f"fit.splits={','.join(self._config.fit.splits)}"
        return learnt_from_settings(self._config, params, control) | {
            "dataset": self._pool()[0].metadata["fingerprint"],
            "people": own if self._pool_is_own() else "the generic model's",
        }

    def _pool_is_own(self) -> bool:
        """Whether the people are those that are fitted, as the generic model's are not there."""
        reader, records = self._pool()
        return reader is self._face_clips and records == self._records

    def _is_to_be_learnt(self, path, wanted: dict, scale: int, control: str) -> bool:
        """False where it is kept. Raises InputError where there are representations, but not what they were made by."""
        kept, folder = kept_settings(path), self._workdir / representations.FOLDER
        if kept == wanted:
            return False
        rows = representations.read_rows(folder / control)
        if scale in set(rows["scale"]):
            other = "is missing, or of an older version"
            why = f"was learnt from something else ({differences(kept, wanted)})" if kept else other
            raise InputError(
                f"{path}, by which the representations of scale {scale} were made, {why}: "
                f"delete the folder {folder} and run fit again."
            )
        if kept is not None:
            processes.log(
                f"fit: components and population filters of scale {scale} are learnt again: {differences(kept, wanted)}"
            )
        return True

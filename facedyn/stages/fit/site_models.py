"""What filters in closed form need beside the generic model, as one pytree and as one file."""

from typing import NamedTuple

import numpy as np

from facedyn.core import innovations, low_rank, person_filters
from facedyn.store import site_files


class SiteModel(NamedTuple):
    """The frozen generic model of a scale and what is shared between people; a pytree.

    Attributes:
      params: of the U-net.
      patterns: of each site, [h * w * c, K].
      common: filters that hold for everybody, [S, 2, K, K].
      damping: of each site's filters, with which those people's held-back frames were said best, [S].
      readout: what a state looks like in pixels, [S, K, H * W * C].
      reliability: how much of each weight's spread is between people, in [0, 1]; all ones where too few people tell. [D].
      discriminants: directions that tell people apart, [D, M]; M = 0 where too few people tell.
    """

    params: dict
    patterns: tuple
    common: np.ndarray
    damping: np.ndarray
    readout: np.ndarray
    reliability: np.ndarray
    discriminants: np.ndarray


def parts(sites, fit) -> list[tuple[person_filters.Slot, ...]]:
    """The layout record part by part, for the section `fit` of the config: filters, innovations, co-movement; of every site."""
    found = [low_rank.layout(sites, fit.rank)]
    for wanted, make in ((fit.innovations, innovations.layout), (fit.co_movement, innovations.co_movement_layout)):
        if wanted:
            found.append(make(sites, fit.rank, found[-1][-1].offset + found[-1][-1].size))
    return found


def layout(sites, fit) -> tuple[person_filters.Slot, ...]:
    """The layout record for the section `fit` of the config."""
    return tuple(slot for part in parts(sites, fit) for slot in part)


def save(path, names: list[str], model: SiteModel, learnt_from: dict | None = None) -> None:
    """Keeps a SiteModel with the sites of these names, but for the U-net's parameters; `learnt_from` as site_files has it."""
    arrays = dict(
        sites=names,
        common=model.common,
        damping=model.damping,
        readout=model.readout,
        reliability=model.reliability,
        discriminants=model.discriminants,
    )
    site_files.write(path, arrays | dict(zip(names, model.patterns)), learnt_from or {})


def load(path, names: list[str], length: int, params) -> SiteModel | None:
    """What was kept in `path`; None where nothing is, or where it is of other sites or another length of representation."""
    if not path.is_file():
        return None
    with np.load(path) as stored:
        # Files of before there was a reliability have nothing but filters.
        reliability = stored.get("reliability", np.ones(stored["common"].size, np.float32))
        discriminants = stored.get("discriminants", np.zeros((len(reliability), 0), np.float32))
        if stored["sites"].tolist() != names or len(reliability) != length:
            return None
        patterns = tuple(stored[name] for name in names)
        return SiteModel(params, patterns, stored["common"], stored["damping"], stored["readout"], reliability, discriminants)


def load_telling(path) -> tuple[np.ndarray, np.ndarray] | None:
    """(reliability, discriminants) of `path` alone; None where no reliability is kept."""
    if not path.is_file():
        return None
    with np.load(path) as stored:
        reliability = stored.get("reliability")
        if reliability is None:
            return None
        return reliability, stored.get("discriminants", np.zeros((len(reliability), 0), np.float32))

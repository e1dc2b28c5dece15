"""What filters in closed form need beside the generic model, as one pytree and as one file."""

from typing import NamedTuple

import numpy as np

from facedyn.core import innovations, low_rank, person_filters
from facedyn.store import site_files


class SiteModel(NamedTuple):
    """The frozen generic model of a scale and what is shared between people; a pytree.

    Attributes:
      params: of the U-net.
      basis: of each site, [h * w * c, K].
      population: filters that hold for everybody, [S, 2, K, K].
      ridge: of each site's filters, with which those people's held-back frames were said best, [S].
      readout: what a state looks like in pixels, [S, K, H * W * C].
      reliability: how much of each weight's spread is between people, in [0, 1]; all ones where too few people tell. [D].
      discriminants: directions that tell people apart, [D, M]; M = 0 where too few people tell.
    """

    params: dict
    basis: tuple
    population: np.ndarray
    ridge: np.ndarray
    readout: np.ndarray
    reliability: np.ndarray
    discriminants: np.ndarray


def parts(sites, fit) -> list[tuple[person_filters.Slot, ...]]:
    """The layout record block by block, for the section `fit` of the config: filters, innovations, step correlations."""
    found = [low_rank.layout(sites, fit.rank)]
    for wanted, make in ((fit.innovations, innovations.layout), (fit.step_correlations, innovations.step_correlations_layout)):
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
        population=model.population,
        ridge=model.ridge,
        readout=model.readout,
        reliability=model.reliability,
        discriminants=model.discriminants,
    )
    site_files.write(path, arrays | dict(zip(names, model.basis)), learnt_from or {})


def load(path, names: list[str], length: int, params) -> SiteModel | None:
    """What was kept in `path`; None where nothing is, or where it is of other sites or another length of representation."""
    if not path.is_file():
        return None
    with np.load(path) as stored:
        # Files of before there was a reliability have nothing but filters.
        reliability = stored.get("reliability", np.ones(stored["population"].size, np.float32))
        discriminants = stored.get("discriminants", np.zeros((len(reliability), 0), np.float32))
        if stored["sites"].tolist() != names or len(reliability) != length:
            return None
        basis = tuple(stored[name] for name in names)
        return SiteModel(params, basis, stored["population"], stored["ridge"], stored["readout"], reliability, discriminants)


def load_identification_weights(path) -> tuple[np.ndarray, np.ndarray] | None:
    """(reliability, discriminants) of `path` alone; None where no reliability is kept."""
    if not path.is_file():
        return None
    with np.load(path) as stored:
        reliability = stored.get("reliability")
        if reliability is None:
            return None
        return reliability, stored.get("discriminants", np.zeros((len(reliability), 0), np.float32))

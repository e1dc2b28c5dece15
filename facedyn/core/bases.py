"""Bases of a site: in which few coordinates its feature map is described, learnt once from the pool's frames.

The principal components say where a map varies most. Two others turn them: `predictable`, towards what can best be predicted
over time; `independent`, towards what moves by itself. All three are fixed for everyone, so filters of two people are of the
same coordinates, and all are ordered: the basis of a smaller rank is the leading part of that of a larger one.

Arrays: R frames (rows), D numbers of a map, K coordinates. Pure functions on the host, float64 inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Float32, Float64, Int

from facedyn.core import low_rank
from facedyn.core.shapes import AnyArray

# Principal components that `predictable` and `independent` turn, where the rank is not larger. They are the same whatever the
# rank, so that ranks are nested; many independent components of some thousand frames would be single outliers (J. Sarela and
# R. Vigario, "Overlearning in marginal distribution-based ICA", JMLR 4, 2003).
TURNED_TO_PREDICT, TURNED_TO_SEPARATE = 64, 32
# Share of the mean variance that is added to every variance before it is divided by: rounding and camera noise predict nothing.
SHRINKAGE = low_rank.SHRINKAGE
# Steps of FastICA at most, and how far its directions may still turn in the last of them.
STEPS, TOLERANCE = 500, 1e-6


def principal(maps: Float[AnyArray, "R D"], pairs: Int[np.ndarray, "N 2"] | None, rank: int) -> Float32[np.ndarray, "D {rank}"]:
    """`low_rank.basis`: the principal components, the one of the largest variance first. Shapes as `predictable`."""
    return low_rank.basis(maps, rank)


def predictable(
    maps: Float[AnyArray, "R D"], pairs: Int[np.ndarray, "N 2"] | None, rank: int
) -> Float32[np.ndarray, "D {rank}"]:
    r"""The directions whose value some frames later is best predicted by their value now, the best first.

    Time-structure independent component analysis, TICA (L. Molgedey and H. G. Schuster, "Separation of a mixture of
    independent signals using time delayed correlations", Phys. Rev. Lett. 72, 1994), in the leading principal components y:

    $$ C_\tau v = \lambda\,(C_0 + \epsilon\,\mathrm{tr}(C_0)/M\; 1)\,v, \quad
       C_\tau = \tfrac12 \langle y_t y_{t+\tau}' + y_{t+\tau} y_t' \rangle, \quad
       C_0 = \tfrac12 \langle y_t y_t' + y_{t+\tau} y_{t+\tau}' \rangle $$

    Args:
      maps: [R, D], clip means subtracted.
      pairs: [N, 2] int, rows of a frame and of the one `tau` later in the same clip.
      rank: K.

    Returns: float32 [D, K], falling in lambda; each coordinate `maps @ basis` has mean square one; zeros for directions that
    there are not.
    """
    components, coordinates = _leading(maps, max(rank, TURNED_TO_PREDICT))
    size = np.linalg.norm(components, axis=0)  # one over the standard deviation
    y = coordinates / size
    now, later = (y[rows] for rows in np.asarray(pairs).T)
    lagged, instantaneous = now.T @ later, now.T @ now + later.T @ later
    ridge = SHRINKAGE * np.trace(instantaneous) / max(1, len(instantaneous)) * np.eye(len(instantaneous))
    values, vectors = scipy.linalg.eigh(lagged + lagged.T, instantaneous + ridge)
    chosen = np.argsort(values)[::-1][:rank]
    return _of_unit_spread(maps, (components / size) @ vectors[:, chosen], rank)


def independent(
    maps: Float[AnyArray, "R D"], pairs: Int[np.ndarray, "N 2"] | None, rank: int
) -> Float32[np.ndarray, "D {rank}"]:
    """The most independent directions, the one that explains most of the variance first.

    Symmetric FastICA with the nonlinearity tanh (A. Hyvarinen, "Fast and robust fixed-point algorithms for independent
    component analysis", IEEE Trans. Neural Networks 10, 1999), from the leading principal components as its start:
    W <- E[g(W z) z'] - E[g'(W z)] W, then W <- (W W')^(-1/2) W. Deterministic. Shapes as `predictable`; order does not matter
    to it, so `pairs` are not used.
    """
    components, z = _leading(maps, max(rank, TURNED_TO_SEPARATE))
    turn = np.eye(z.shape[1])
    for _ in range(STEPS):
        g = np.tanh(z @ turn.T)
        left, _, right = np.linalg.svd(g.T @ z / len(z) - (1 - g**2).mean(0)[:, None] * turn)
        new = left @ right  # the nearest orthogonal matrix, (W W')^(-1/2) W
        turned = 1 - np.abs((new * turn).sum(1))
        turn = new
        if turned.max(initial=0) < TOLERANCE:
            break
    # maps are z / size in the components: what component i adds to their variance is the sum of its squared shares.
    explained = np.square(turn / np.linalg.norm(components, axis=0)).sum(1)
    return _of_unit_spread(maps, components @ turn[np.argsort(-explained, kind="stable")[:rank]].T, rank)


def _leading(maps: Float[AnyArray, "R D"], count: int) -> tuple[Float64[np.ndarray, "D M"], Float64[np.ndarray, "R M"]]:
    """(leading principal components [D, M], coordinates in them [R, M] of mean square one); M <= count, as there are."""
    components = np.asarray(low_rank.basis(maps, count), np.float64)
    components = components[:, np.abs(components).max(0) > 0]
    return components, np.asarray(maps, np.float64) @ components


def _of_unit_spread(maps: Float[AnyArray, "R D"], directions: Float64[np.ndarray, "D M"], rank: int) -> np.ndarray:
    """Directions [D, M] scaled and signed as `low_rank.basis` does it, and padded: float32 [D, rank]."""
    spread = np.sqrt(np.square(np.asarray(maps, np.float64) @ directions).mean(0))
    found = directions / np.where(spread > 0, spread, 1)
    signs = np.sign(found[np.abs(found).argmax(0), np.arange(found.shape[1])]) if found.size else 1.0
    return np.pad(found * signs, ((0, 0), (0, rank - found.shape[1]))).astype(np.float32)


class Basis(NamedTuple):
    """A kind of basis.

    Attributes:
      learn: (maps [R, D], pairs [N, 2], rank) -> [D, rank].
      needs_pairs: whether its frames come in pairs, some frames apart.
    """

    learn: Callable[..., np.ndarray]
    needs_pairs: bool = False


# {name for config.fit.basis: Basis}
BASES = {
    "principal": Basis(principal),
    "predictable": Basis(predictable, needs_pairs=True),
    "independent": Basis(independent),
}

"""Where in the representation a linear head reads its trait: its weights pushed back through the layout record.

A head's weights are of z-scored features (principal components are folded in when it is fitted, see
`cross_validation.fit_ridge`), so a stretch of the feature vector, a site of a scale and task, has a share in them. Host,
float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from facedyn.core.pca import standardise
from facedyn.core.person_filters import Slot
from facedyn.core.shapes import Features, Head


class Part(NamedTuple):
    """A stretch of the feature vector: features [offset : offset + size], all weights of one site, for one scale and task."""

    scale: int
    task: str
    site: str
    offset: int
    size: int


def parts(blocks: Sequence[tuple[int, str]], slots: Sequence[Slot]) -> tuple[Part, ...]:
    """The stretches of features made of `blocks` (scale, task) side by side, each with the layout `slots`."""
    width = sum(slot.size for slot in slots)
    return tuple(
        Part(scale, task, slot.site, i * width + slot.offset, slot.size)
        for i, (scale, task) in enumerate(blocks)
        for slot in slots
    )


def weight_shares(
    head: Head, x: Features, stretches: Sequence[Part | Slot]
) -> tuple[Float64[np.ndarray, "T G"], Float64[np.ndarray, "T G"]]:
    """How much of each trait's head lies in each stretch.

    The share of the prediction is cov(c, y) / var(y) for a stretch's contribution c to the predictions y of the rows: it says
    what the head uses. The share of the squared weights says what it could use; it grows with the number of weights. Both
    are 0 for a head that predicts the same for everyone.

    Args:
      head: T stacked linear heads, {"mean": [T, D], "sd": [T, D], "layers": [{"weights": [T, D, 1], ...}]}.
      x: features of the rows that the head was fitted to; NaN counts as the mean.
      stretches: parts, or the slots of a layout, which together cover each feature once.
    Returns: (share of the squared weights, share of the predictions' variance); a row sums to 1. The
      second may be negative where a stretch offsets what another adds.
    """
    weights = np.asarray(head["layers"][0]["weights"], float)[..., 0]
    moments = [np.asarray(head[name], float) for name in ("mean", "sd")]
    squared = np.zeros((len(weights), len(stretches)))
    contributions = np.zeros((len(weights), len(stretches), len(x)))
    for g, stretch in enumerate(stretches):
        chosen = slice(stretch.offset, stretch.offset + stretch.size)
        own = np.asarray(x[:, chosen], float)
        for t, (w, mean, sd) in enumerate(zip(weights[:, chosen], *(m[:, chosen] for m in moments))):
            w = np.where(sd > 0, w, 0.0)  # a constant feature says nothing, whatever its weight
            squared[t, g] = w @ w
            contributions[t, g] = standardise(own, mean, sd) @ w
    contributions -= contributions.mean(-1, keepdims=True)
    predictions = contributions.sum(1, keepdims=True)  # [T, 1, N]
    return _shares(squared), _shares((contributions * predictions).sum(-1))


def _shares(values):
    """Rows divided by their sums; 0 where the sum is 0."""
    total = values.sum(1, keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)

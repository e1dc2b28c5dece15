"""Stacking: predictions of several heads weighed by how well each predicts the training people inside a fold.

Only a fold's training rows decide its weights, through predictions by inner folds that had not seen them, so nothing of
the people predicted leaks in. D. Wolpert, "Stacked generalization", Neural Networks 5, 1992; convex weights as in M. van der
Laan, E. Polley, A. Hubbard, "Super learner", 2007.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.optimize import nnls

from facedyn.core.shapes import Folds, Labels

# How much heavier the weights' sum weighs than the predictions; large enough to bring it to 1.
SUM_WEIGHT = 1e3


def stack(
    inner: Float[np.ndarray, "M K N T"], out: Float[np.ndarray, "M N T"], y: Labels, fold: Folds
) -> Float32[np.ndarray, "N T"]:
    """Weighted means of M members' predictions, the weights (>= 0, sum 1) a fold's and trait's own.

    A member's prediction that is NaN counts as the training people's mean. Weights that could all vanish would make the
    size of the predictions differ between folds by chance; their sum is 1 for that reason.

    Args:
      inner: predictions of each fold's training rows by inner folds, NaN elsewhere.
      out: out-of-fold predictions.
      y: labels, NaN = missing.
      fold: -1 for rows in training only.
    Returns: predictions, NaN where no member has a prediction.
    """
    stacked = np.full(out.shape[1:], np.nan, np.float32)
    for k, t in np.ndindex(inner.shape[1], y.shape[1]):
        seen, test = inner[:, k, :, t], fold == k
        train = (fold != k) & np.isfinite(y[:, t]) & np.isfinite(seen).any(0)
        weights, means = convex_weights(seen[:, train], y[train, t])
        predicted = out[:, test, t]
        filled = np.where(np.isfinite(predicted), predicted, means[:, None]) - means[:, None]
        stacked[test, t] = y[train, t].mean() + weights @ filled
    stacked[np.isnan(out).all((0, 2))] = np.nan
    return stacked


def convex_weights(
    predictions: Float[np.ndarray, "M N"], y: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """(weights >= 0 of sum 1 that bring the centred predictions nearest to the centred y, the predictions' means)."""
    known = np.isfinite(predictions)
    means = np.where(known, predictions, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    centred = np.where(known, predictions - means[:, None], 0.0).T.astype(float)
    scale = max(np.abs(centred).max(), np.abs(y - y.mean()).max(), 1e-30)
    a = np.concatenate([centred / scale, np.full((1, len(means)), SUM_WEIGHT)])
    weights, _ = nnls(a, np.append((y - y.mean()) / scale, SUM_WEIGHT))
    return weights / weights.sum(), means


def choose(inner: Float[np.ndarray, "M K N T"], y: Labels, fold: Folds, worst: bool = False) -> Int[np.ndarray, " K"]:
    """Which of M members has the smallest (or largest) squared error on each fold's training rows.

    In units of each trait's variance, summed over the traits; over the rows that every member predicts. Arguments as of
    `stack`.
    """
    number = np.zeros(inner.shape[1], int)
    for k in range(inner.shape[1]):
        seen = inner[:, k]  # [M, N, T]
        rows = np.isfinite(seen).all(0) & np.isfinite(y) & (fold != k)[:, None]
        count = np.maximum(rows.sum(0), 1)
        centred = np.where(rows, y - np.where(rows, y, 0.0).sum(0) / count, 0.0)
        variance = (centred**2).sum(0)
        errors = np.where(rows, (seen - np.where(rows, y, 0.0)) ** 2, 0.0).sum(1) / np.where(variance > 0, variance, 1.0)
        number[k] = (errors.sum(1).argmax if worst else errors.sum(1).argmin)()
    return number

"""The ridges of one training set: penalty and number of components by inner folds, then the fit to all of its rows.

All traits, permuted labels among them, share what is computed of the features: the inner products of the rows or, where those
are fewer, the z-scores, once for a training set. Inner folds are parts of them: they have means of their own, and the standard
deviations of the whole training set. On the host, float64; memory holds the products and one inner fold's part.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Float32, Float64

from facedyn.core import trait_heads
from facedyn.core.pca import Products, coordinates, normal_matrix
from facedyn.core.shapes import Labels, Rows

# The strongest penalty worth having, in units of the mean curvature (squared singular value) of the training features: it
# leaves a quarter of an average direction. Stronger ones differ in the size of the predictions only; choosing among them makes
# that size differ from fold to fold, by chance, which costs correlation (-0.06 without any signal, 96 people).
MAX_SHRINKAGE = 3.0
# Of the final fit, on orthogonal coordinates.
SOLVERS = {"lbfgs": trait_heads.ridge_lbfgs_rotated, "closed_form": trait_heads.ridge_closed_form_rotated}
# Curvature below this share of the largest is rounding; a penalty below it needs the eigenvectors.
NO_CURVATURE, SMALLEST_PENALTY = 1e-12, 1e-10


class Fitted(NamedTuple):
    """Ridges of T traits on a training set."""

    out: Float32[np.ndarray, "N T"]  # predictions of all rows
    chosen: Float32[np.ndarray, "T 2"]  # components and penalty, as they were used
    duals: Float64[np.ndarray, "N T"]  # the weights of the z-scores z are z^T duals; 0 for rows that are not in training


def choose(
    products: Products,
    y: Labels,
    splits: Bool[np.ndarray, "splits N"],
    grid: Sequence[tuple[int | np.integer, float]],
    columns: int,
) -> tuple[Float[np.ndarray, "T 2"], Float32[np.ndarray, "N T"]]:
    """The candidate with the smallest squared error over all inner validation rows, for each trait.

    Args:
      products: of the features z-scored by all training rows; y: labels, finite in the rows of `splits`.
      splits: the training rows less one inner fold each, and last all of them.
      grid: L candidates (components, penalty); `columns` components are all there are.
    Returns: the choices; what they predict for each training row in its inner fold, else NaN.
    """
    rows, predicted = splits[-1], np.full((len(grid), *y.shape), np.nan, np.float32)
    for fit in splits[:-1]:
        test = rows & ~fit
        predicted[:, test] = _predict(products, y, fit, test, grid, columns)
    errors = ((predicted[:, rows] - y[rows]) ** 2).sum(1, dtype=float)  # [L, T]
    best = errors.argmin(0)
    return np.array(grid, float)[best], np.take_along_axis(predicted, best[None, None], 0)[0]


def fit(products: Products, y: Labels, rows: Rows, choices: Float[np.ndarray, "T 2"], columns: int, solver: str) -> Fitted:
    """The ridge of each trait with its choice (components, penalty), fitted to the rows."""
    if solver == "closed_form" and (choices[:, 0] >= columns).all():
        matrix, left = normal_matrix(products, rows, np.ones(len(y), bool))
        if choices[:, 1].min() >= SMALLEST_PENALTY * _bound(matrix):
            return _fit_directly(products, matrix, left, y, rows, choices, columns)
    found, basis = coordinates(products, rows, columns)
    arrays = (np.asarray(a, np.float32) for a in (found, y, choices))
    out, chosen, weights = map(np.asarray, _fit(*map(jnp.asarray, arrays), jnp.asarray(rows), solver=solver))
    return Fitted(out, chosen, basis @ weights.T.astype(float))


def _fit_directly(products, matrix, left, y, rows, choices, columns) -> Fitted:
    """`fit` on all components, without any eigenvectors, which would take thirty times as long as a Cholesky factor."""
    mean, total, rank = y[rows].mean(0) if rows.any() else np.zeros(y.shape[1]), np.trace(matrix), _rank(matrix)
    centred, duals = y[rows] - mean, np.zeros(y.shape)
    held = np.array([held_penalty(penalty, total, max(1, rank)) for penalty in choices[:, 1]])
    out = np.zeros(y.shape)
    for penalty in np.unique(held):
        own = held == penalty
        right = left[rows].T @ centred[:, own] if products.gram is None else centred[:, own]
        solved = _solve(matrix, penalty, right)
        out[:, own] = left @ solved
        # Of weights w the residuals divided by the penalty are the duals, which the rows' own products solve for at once.
        duals[np.ix_(rows, own)] = (centred[:, own] - out[np.ix_(rows, own)]) / penalty if products.gram is None else solved
    chosen = np.stack([np.full(len(held), columns), held], 1)
    return Fitted((out + mean).astype(np.float32), chosen.astype(np.float32), duals)


def held_penalty(penalty: float, total: float, count: int | np.integer) -> float:
    """The penalty, at most MAX_SHRINKAGE times the mean of `count` curvatures that add up to `total`."""
    return min(penalty, float(MAX_SHRINKAGE * total / count)) if total > 0 else penalty


def _predict(products, y, fit, test, grid, columns):
    """Predictions of the rows `test` by ridges fitted to the rows `fit`, with every candidate: [L, rows, T]."""
    mean = y[fit].mean(0) if fit.any() else np.zeros(y.shape[1])
    centred = y[fit] - mean
    if any(components < columns for components, _ in grid):
        return mean + _by_components(products, centred, fit, test, grid, columns)
    matrix, left = normal_matrix(products, fit, test)
    if min(penalty for _, penalty in grid) < SMALLEST_PENALTY * _bound(matrix):
        return mean + _by_components(products, centred, fit, test, grid, columns)
    if products.gram is None:
        own = products.scores[fit]
        right = (own - own.mean(0)).T @ centred
    else:
        right = centred
    total, rank, found = np.trace(matrix), _rank(matrix), {}
    for _, penalty in grid:
        held = held_penalty(penalty, total, max(1, rank))
        if held not in found:
            found[held] = left @ _solve(matrix, held, right)
    return mean + np.stack([found[held_penalty(penalty, total, max(1, rank))] for _, penalty in grid])


def _by_components(products, centred, fit, test, grid, columns):
    """The same without the mean, on the leading principal components of the rows `fit`."""
    found = coordinates(products, fit, columns)[0].astype(float)
    curvature, right, predicted = (found[fit] ** 2).sum(0), found[fit].T @ centred, []
    for components, penalty in grid:
        kept = curvature[: int(components)]
        held = held_penalty(penalty, kept.sum(), max(1, (kept > 0).sum()))
        predicted.append(found[test, : len(kept)] @ (right[: len(kept)] / (kept + held)[:, None]))
    return np.stack(predicted)


def _solve(matrix, penalty, right):
    """(matrix + penalty)^-1 right, by Cholesky's factor; the matrix [n, n] stays as it is."""
    penalised = np.array(matrix, order="F")
    penalised.flat[:: len(penalised) + 1] += penalty
    factor = scipy.linalg.cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
    return scipy.linalg.cho_solve(factor, right, check_finite=False)


def _bound(matrix) -> float:
    """At least the largest curvature."""
    return np.abs(matrix).sum(0).max(initial=0.0)


def _rank(matrix) -> int:
    """Number of curvatures that are more than rounding, by a Cholesky factorisation with pivots."""
    largest = _bound(matrix)
    if not largest:
        return 0
    (pstrf,) = scipy.linalg.get_lapack_funcs(("pstrf",), (matrix,))
    _, _, rank, _ = pstrf(matrix, tol=NO_CURVATURE * largest, lower=1)
    return int(rank)


@functools.partial(jax.jit, static_argnames="solver")
def _fit(coordinates, y, choices, rows, *, solver):
    """(predictions [N, T], components and penalty as used [T, 2], weights [T, R]); arguments as of `fit`."""
    mean = jnp.sum(jnp.where(rows[:, None], y, 0.0), 0) / jnp.maximum(jnp.sum(rows), 1)
    centred = jnp.where(rows[:, None], y - mean[None], 0.0)
    of_rows = jnp.where(rows[:, None], coordinates, 0.0)
    curvature = jnp.sum(of_rows**2, 0)

    def solve(target, choice):
        keep = (jnp.arange(len(curvature)) < choice[0]).astype(curvature.dtype)
        kept = keep * curvature
        limit = MAX_SHRINKAGE * jnp.sum(kept) / jnp.maximum(jnp.sum(kept > 0), 1)
        penalty = jnp.where(limit > 0, jnp.minimum(choice[1], limit), choice[1])
        weights = SOLVERS[solver](of_rows, target, penalty, keep)
        return weights, jnp.stack([jnp.sum(keep), penalty])

    weights, chosen = jax.vmap(solve)(centred.T, choices)
    return mean[None] + jnp.matmul(coordinates, weights.T, precision="highest"), chosen, weights

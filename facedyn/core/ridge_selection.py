"""The ridges of one training set: penalty and number of components by inner folds, then the fit to all of its rows.

All traits, and permuted labels as further traits, share what is computed from the features. The choice is made on the host
(float64) from the inner products of the rows or, where those are fewer, of the features; memory holds those of one inner fold.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from facedyn.core import trait_heads
from facedyn.core.pca import gram_matrix, moments, principal_coordinates, standardise, weighted

# The strongest penalty worth having, in units of the mean curvature (squared singular value) of the training features: it
# leaves a quarter of an average direction. Stronger ones differ in the size of the predictions only; choosing among them makes
# that size differ from fold to fold, by chance, which costs correlation (-0.06 without any signal, 96 people).
MAX_SHRINKAGE = 3.0
# Of the final fit, on orthogonal coordinates.
SOLVERS = {"lbfgs": trait_heads.ridge_lbfgs_rotated, "closed_form": trait_heads.ridge_closed_form_rotated}
# Curvature below this share of the largest is rounding; a penalty below it needs the eigenvectors.
NO_CURVATURE, SMALLEST_PENALTY = 1e-12, 1e-10


class Fitted(NamedTuple):
    """Ridges of T traits on a training set, float32."""

    out: np.ndarray  # [N, T] predictions of all rows
    chosen: np.ndarray  # [T, 2] components and penalty, as they were used
    weights: np.ndarray  # [T, R] of the coordinates
    basis: np.ndarray  # float64 [N, R], see coordinates.principal_coordinates


def choose(x, y, splits, grid, columns: int, weights=None) -> tuple[np.ndarray, np.ndarray]:
    """The candidate with the smallest squared error over all inner validation rows, for each trait.

    Args:
      x: [N, D] features; y: [N, T] labels, finite in the rows of `splits`; weights as in coordinates.principal_coordinates.
      splits: bool [I + 1, N], the training rows less one inner fold each, and last all of them.
      grid: L candidates (components, penalty); `columns` components are all there are.
    Returns: the choices, float [T, 2]; float32 [N, T], what they predict for each training row in its inner fold, else NaN.
    """
    rows, predicted = splits[-1], np.full((len(grid), *y.shape), np.nan, np.float32)
    for fit in splits[:-1]:
        test = rows & ~fit
        predicted[:, test] = _predict(x, y, fit, test, grid, columns, weights)
    errors = ((predicted[:, rows] - y[rows]) ** 2).sum(1, dtype=float)  # [L, T]
    best = errors.argmin(0)
    return np.array(grid, float)[best], np.take_along_axis(predicted, best[None, None], 0)[0]


def fit(x, y, rows, choices, columns: int, weights, solver: str) -> Fitted:
    """The ridge of each trait with its choice (components, penalty) [T, 2], fitted to the rows (bool [N])."""
    coordinates, basis = principal_coordinates(x, rows, columns, weights)
    arrays = (np.asarray(a, np.float32) for a in (coordinates, y, choices))
    out, chosen, found = _fit(*map(jnp.asarray, arrays), jnp.asarray(rows), solver=solver)
    return Fitted(*map(np.asarray, (out, chosen, found)), basis)


def held_penalty(penalty, total, count) -> float:
    """The penalty, at most MAX_SHRINKAGE times the mean of `count` curvatures that add up to `total`."""
    return min(penalty, MAX_SHRINKAGE * total / count) if total > 0 else penalty


def _predict(x, y, fit, test, grid, columns, weights):
    """Predictions of the rows `test` by ridges fitted to the rows `fit`, with every candidate: [L, rows, T]."""
    mean = y[fit].mean(0) if fit.any() else np.zeros(y.shape[1])
    centred = y[fit] - mean
    if any(components < columns for components, _ in grid):
        return mean + _by_components(x, centred, fit, test, grid, columns, weights)
    own = np.concatenate([np.flatnonzero(fit), np.flatnonzero(test)])
    x, n = x[own], len(centred)
    train = np.arange(len(own)) < n
    if x.shape[1] < n:
        z = standardise(x, *weighted(moments(x, train), weights))
        products, right, left = z[:n].T @ z[:n], z[:n].T @ centred, z[n:]
    else:
        gram = gram_matrix(x, train, weights)
        products, right, left = gram[:n, :n], centred, gram[n:, :n]
    largest = np.abs(products).sum(0).max(initial=0.0)  # at least the largest curvature
    if min(penalty for _, penalty in grid) < SMALLEST_PENALTY * largest:
        return mean + _by_components(x, centred, train, ~train, grid, columns, weights)
    total, rank = np.trace(products), _rank(products, largest)
    found = {}
    for _, penalty in grid:
        held = held_penalty(penalty, total, max(1, rank))
        if held not in found:
            factor = scipy.linalg.cho_factor(products + held * np.eye(len(products)), lower=True, check_finite=False)
            found[held] = left @ scipy.linalg.cho_solve(factor, right, check_finite=False)
    return mean + np.stack([found[held_penalty(penalty, total, max(1, rank))] for _, penalty in grid])


def _by_components(x, centred, fit, test, grid, columns, weights):
    """The same without the mean, on the leading principal components of the rows `fit`."""
    coordinates = principal_coordinates(x, fit, columns, weights)[0].astype(float)
    curvature, products = (coordinates[fit] ** 2).sum(0), coordinates[fit].T @ centred
    found = []
    for components, penalty in grid:
        kept = curvature[: int(components)]
        held = held_penalty(penalty, kept.sum(), max(1, (kept > 0).sum()))
        found.append(coordinates[test, : len(kept)] @ (products[: len(kept)] / (kept + held)[:, None]))
    return np.stack(found)


def _rank(products, largest) -> int:
    """Number of curvatures that are more than rounding, by a Cholesky factorisation with pivots."""
    if not largest:
        return 0
    _, _, rank, _ = scipy.linalg.lapack.dpstrf(products, tol=NO_CURVATURE * largest, lower=1)
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

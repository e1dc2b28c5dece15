"""Banded ridge: a ridge that finds for each block of features (a band) how much it is to count.

The prediction is a sum of one function for each band, and each has a penalty of its own. With the inner products K_b of the
rows' features in band b that is kernel ridge regression with the kernel sum_b exp(s_b) K_b and a penalty of one; the log
strengths s are those with which every training person is predicted best by the others, which has a closed form. Descent is by
`optax.lbfgs`, trait by trait. (T. Dupre la Tour, M. Eickenberg, A. Nunez-Elizalde and J. Gallant, "Feature-space selection with
banded ridge regression", NeuroImage 264, 2022.)

N rows, T traits, B bands, D features.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
from jaxtyping import Array, Float, Float32, Int

from facedyn.core import low_rank
from facedyn.core.cross_validation import fewest_people
from facedyn.core.pca import feature_blocks, gram_matrix, moments, standardise, usable_rows
from facedyn.core.shapes import AnyArray, Features, FeatureWeights, Folds, Head, Labels, People, Rows

# Equal log strengths (of all bands together) that the search starts from the best of.
STARTS = tuple(np.arange(-6.0, 4.0))
# A strength is kept within these; kernels have a mean diagonal of one.
LOWEST, HIGHEST = -9.0, 5.0
STEPS, TOLERANCE = 30, 1e-3  # of L-BFGS, at most; fall of the log of the error that is worth another step
# How much the log of the error may rise for the variance of the log strengths: with few people equal ones are the better guess.
# From 0.005 to 0.2 it hardly matters on either bench (docs/method.md).
PRIOR = 0.02
# The intercept is one more band, of equal features, with so much strength that it is as good as free.
INTERCEPT = 100.0
PADDED_TO = 32
# More rows than that do not choose better, and the work grows with their third power.
MAX_ROWS = 512
# So many traits' kernels of all rows, of permuted labels as a rule, are in memory at once.
TRAITS_AT_ONCE = 5


class Fitted(NamedTuple):
    """Banded ridges of T traits.

    Attributes:
      predictions: of all rows; NaN where a trait has too few labels.
      log_strengths: of the bands.
      errors: mean squared error of the training people, each predicted by the others, in units of the labels' variance.
      duals: what each row's features count in the weights, 0 for rows that are not in training.
    """

    predictions: Float32[np.ndarray, "N T"]
    log_strengths: Float32[np.ndarray, "T B"]
    errors: Float32[np.ndarray, " T"]
    duals: Float32[np.ndarray, "N T"]


def kernels(
    x: Features, train: Rows, bands: Int[np.ndarray, " D"], weights: FeatureWeights | None = None
) -> Float32[np.ndarray, "B N N"]:
    """Inner products of all rows in each band's features, z-scored by the training rows.

    Of a mean diagonal of one over the training rows; zeros for a band of constant features.
    Args: x: a NaN counts as the mean; bands: of each feature; weights: of the z-scores, None for ones.
    """
    found = np.zeros((bands.max() + 1, len(x), len(x)), np.float32)
    for band in range(len(found)):
        chosen = bands == band
        products = gram_matrix(x[:, chosen], train, None if weights is None else weights[chosen])
        size = np.diagonal(products)[train].mean() if train.any() else 0.0
        if size > 0:
            np.divide(products, size, out=found[band], casting="same_kind")
    return found


def fit(
    x: Features, y: Labels, people: People, train: Rows, bands: Int[np.ndarray, " D"], weights: FeatureWeights | None = None
) -> Fitted:
    """Fits to the rows `train` and predicts all.

    Arguments as of `kernels`; y: labels, NaN = missing; people: whose the rows are.
    """
    predicted, strengths, errors = (
        np.full(shape, np.nan, np.float32) for shape in (y.shape, (y.shape[1], bands.max() + 1), y.shape[1:])
    )
    found = Fitted(predicted, strengths, errors, np.zeros(y.shape, np.float32))
    usable = usable_rows(x, y)
    # Traits with labels for the same people share their kernels; as a rule that is one group.
    patterns, group = np.unique(usable.T, axis=0, return_inverse=True)
    for number, rows in enumerate(patterns):
        traits, rows = np.flatnonzero(group.reshape(-1) == number), rows & train
        if rows.sum() < 2 or fewest_people(people, [rows]) < 2:
            continue
        own = kernels(x, rows, bands, weights)
        mean, std = y[rows][:, traits].mean(0), y[rows][:, traits].std(0)
        target = (y[rows][:, traits] - mean) / np.where(std > 0, std, 1.0)
        count = int(rows.sum())
        chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_ROWS)).round().astype(int))
        of_chosen = np.flatnonzero(rows)[chosen]
        members = members_of(np.asarray(people)[of_chosen])
        strengths, errors = choose(*_padded(own[:, of_chosen[:, None], of_chosen], target[chosen], members))
        found.log_strengths[traits], found.errors[traits] = strengths, errors
        predicted, duals = _predict(own, np.exp(np.asarray(strengths)), target, rows)
        found.predictions[:, traits], found.duals[np.ix_(rows, traits)] = predicted * std + mean, duals * std
    found.predictions[np.isnan(x).all(1)] = np.nan
    return found


def _predict(kernels, strengths, target, rows):
    """Kernel ridges of all traits: predictions [N, T] and duals [n, T]; kernels [B, N, N], strengths [T, B], target [n, T]."""
    duals, predicted = np.zeros(target.shape), np.zeros((len(rows), target.shape[1]))
    for first in range(0, len(strengths), TRAITS_AT_ONCE):
        for t, summed in enumerate(np.tensordot(strengths[first : first + TRAITS_AT_ONCE], kernels, 1), first):
            columns = summed[:, rows].astype(float) + INTERCEPT
            matrix = columns[rows].T  # symmetric: as LAPACK wants it, without another copy
            matrix.flat[:: len(matrix) + 1] += 1.0
            factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            duals[:, t] = scipy.linalg.cho_solve(factor, target[:, t], check_finite=False)
            predicted[:, t] = columns @ duals[:, t]
    return predicted, duals


def cross_validate(
    x: Features, y: Labels, people: People, fold: Folds, bands: Int[np.ndarray, " D"], weights: FeatureWeights | None = None
) -> Float32[np.ndarray, "N T"]:
    """Out-of-fold predictions; NaN for rows of fold -1, which are always in training."""
    found = np.full(y.shape, np.nan, np.float32)
    for k in range(fold.max() + 1):
        found[fold == k] = fit(x, y, people, fold != k, bands, weights).predictions[fold == k]
    return found


def fit_head(
    x: Features, y: Labels, people: People, bands: Int[np.ndarray, " D"], weights: FeatureWeights | None = None
) -> tuple[Head, Fitted]:
    """(head, Fitted) of all rows; the head, stacked over the traits, is of the features themselves (`trait_heads.predict`)."""
    everyone = np.ones(len(x), bool)
    fitted, usable, heads = fit(x, y, people, everyone, bands, weights), usable_rows(x, y), []
    weights = np.ones(x.shape[1]) if weights is None else np.asarray(weights)
    duals = np.nan_to_num(fitted.duals.astype(float))
    patterns, group = np.unique(usable.T, axis=0, return_inverse=True)
    of_group = [_weights_of_features(x, rows, duals, weights) for rows in patterns]
    for t, number in enumerate(group.reshape(-1)):
        rows, (mean, std, curvature, found) = patterns[number], of_group[number]
        of_band = np.bincount(bands, curvature)
        share = np.where(of_band > 0, np.exp(fitted.log_strengths[t]) / np.where(of_band > 0, of_band, 1.0), 0.0)[bands]
        label_mean = y[rows, t].mean() if rows.any() else np.nan
        layer = {
            "weights": (share * weights * found[:, t])[:, None].astype(np.float32),
            "bias": np.array([label_mean + INTERCEPT * duals[:, t].sum()], np.float32),
        }
        heads.append({"mean": mean.astype(np.float32), "sd": std.astype(np.float32), "layers": [layer]})
    return jax.tree.map(lambda *leaves: np.stack(leaves), *heads), fitted


def _weights_of_features(x, rows, duals, weights):
    """Mean and sd [D] of the rows' features, mean square [D] of the weighted z-scores, their products with duals [D, T]."""
    mean, std = moments(x, rows)
    curvature, found = np.zeros(x.shape[1]), np.zeros((x.shape[1], duals.shape[1]))
    for some in feature_blocks(x):
        z = standardise(x[:, some], mean[some], std[some])
        z *= weights[some]
        curvature[some] = (z[rows] ** 2).sum(0) / max(1, rows.sum())
        found[some] = z.T @ duals
    return mean, std, curvature, found


def members_of(people: People) -> Int[np.ndarray, "P M"]:
    """Rows of each person, at most M; -1 where there is no further row."""
    _, index, counts = np.unique(people, return_inverse=True, return_counts=True)
    found = np.full((len(counts), counts.max()), -1)
    for person in range(len(counts)):
        found[person, : counts[person]] = np.flatnonzero(index == person)
    return found


@jax.jit
def choose(
    kernels: Float[AnyArray, "B N N"], y: Float[AnyArray, "N T"], members: Int[AnyArray, "P M"]
) -> tuple[Float[Array, "T B"], Float[Array, " T"]]:
    """(log strengths, errors) by which people are predicted best by each other.

    Args: kernels and y, of mean 0 and variance 1, of training rows; members as of `members_of`, where a row
      that is nobody's does not count.
    """
    bands = len(kernels)
    starts = jnp.asarray(STARTS)[:, None] - jnp.log(bands) * jnp.ones(bands)[None]
    of_starts = jax.lax.map(lambda start: jnp.log(errors(start, kernels, y, members)).mean(), starts)
    start = starts[jnp.argmin(of_starts)]

    def of_trait(target):
        def loss(free):
            strengths = jnp.clip(start + free, LOWEST, HIGHEST)
            return jnp.log(errors(strengths, kernels, target[:, None], members)[0]) + PRIOR * jnp.sum(
                (strengths - strengths.mean()) ** 2
            )

        found = jnp.clip(start + _minimise(loss, jnp.zeros(bands)), LOWEST, HIGHEST)
        return found, errors(found, kernels, target[:, None], members)[0]

    # One trait after the other: each step takes a matrix product with all processors anyway.
    return jax.lax.map(of_trait, y.T)


def errors(
    log_strengths: Float[AnyArray, " B"],
    kernels: Float[AnyArray, "B N N"],
    y: Float[AnyArray, "N T"],
    members: Int[AnyArray, "P M"],
) -> Float[Array, " T"]:
    """Mean squared error of each trait when every person's rows are predicted from all others'.

    Of a kernel ridge with inverse A of (kernel + 1) and dual weights A y, the residuals of rows S that were left out are
    A_SS^-1 (A y)_S.
    """
    there = members >= 0  # [P, M]
    counts = jnp.zeros(len(y)).at[jnp.where(there, members, 0)].max(there.astype(jnp.float32))
    constant = INTERCEPT * counts[:, None] * counts[None]
    summed = jnp.tensordot(jnp.exp(log_strengths), kernels, 1, precision="highest")
    inverse = inverse_positive_definite(summed + constant + jnp.eye(len(y)))
    dual = jnp.matmul(inverse, y, precision="highest")
    if members.shape[1] == 1:  # one row per person
        residuals = jnp.where(there, dual[members[:, 0]] / jnp.diagonal(inverse)[members[:, 0]][:, None], 0.0)
        return jnp.sum(residuals**2, 0) / jnp.sum(there)
    both = there[:, :, None] & there[:, None, :]
    own = jnp.where(both, inverse[members[:, :, None], members[:, None, :]], jnp.eye(members.shape[1])[None])
    residuals = jax.vmap(low_rank.solve_positive_definite)(own, jnp.where(there[..., None], dual[members], 0.0))
    return jnp.sum(residuals**2, (0, 1)) / jnp.sum(there)


@jax.custom_vjp
def inverse_positive_definite(a: Float[AnyArray, "N N"]) -> Float[Array, "N N"]:
    """The inverse of a symmetric positive definite matrix, by Cholesky's factor and matrix products.

    A triangular solve of jaxlib 0.10 takes a hundred times as long as the factor on CPU.
    """
    n = len(a)
    size = 1 << (n - 1).bit_length()
    padded = jnp.eye(size).at[:n, :n].set(a)
    factor = jnp.linalg.cholesky(padded)
    # Inverses of the diagonal blocks of twice the size, from those of the size before: [[A, 0], [B, C]] has
    # [[1/A, 0], [-1/C B 1/A, 1/C]].
    blocks, side = (1 / jnp.diagonal(factor))[:, None, None], 1
    while side < size:
        first, second = blocks[::2], blocks[1::2]
        between = factor.reshape(size // side, side, size // side, side).swapaxes(1, 2)
        pairs = jnp.arange(size // side // 2)
        below = -_product(second, between[2 * pairs + 1, 2 * pairs], first)
        upper = jnp.concatenate([first, jnp.zeros_like(first)], 2)
        blocks, side = jnp.concatenate([upper, jnp.concatenate([below, second], 2)], 1), 2 * side
    return _product(blocks[0].T, blocks[0])[:n, :n]


def _inverse_forward(a):
    inverse = inverse_positive_definite(a)
    return inverse, inverse


def _inverse_backward(inverse, gradient):
    return (-_product(inverse, gradient.T, inverse),)


inverse_positive_definite.defvjp(_inverse_forward, _inverse_backward)


def _product(*factors):
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), factors)


def _minimise(loss, start):
    """The point [B] that `optax.lbfgs` finds, in STEPS steps or when the loss falls by less than TOLERANCE."""
    solver = optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(max_backtracking_steps=10, store_grad=True))
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry) -> Any:
        point, state, _, before = carry
        value, grad = value_and_grad(point, state=state)
        updates, state = solver.update(grad, state, point, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(point, updates), state, before, value

    def unfinished(carry):
        _, state, before, last = carry
        steps = optax.tree.get(state, "count")
        return (steps < 2) | ((steps < STEPS) & (before - last > TOLERANCE))

    return jax.lax.while_loop(unfinished, step, (start, solver.init(start), jnp.inf, jnp.inf))[0]


def _padded(kernels, y, members):
    """The same with zeros behind, so that folds whose sizes differ a little share one compilation."""
    rows = -(-len(y) // PADDED_TO) * PADDED_TO - len(y)
    people = -(-len(members) // PADDED_TO) * PADDED_TO - len(members)
    return (
        np.pad(kernels, ((0, 0), (0, rows), (0, rows))),
        np.pad(y, ((0, rows), (0, 0))).astype(np.float32),
        np.pad(members, ((0, people), (0, 0)), constant_values=-1),
    )

"""Person-disjoint cross-validation of trait heads, with the ridge penalty chosen inside the training people only.

One training set at a time, so that memory holds the products of one; how a ridge is chosen and fitted there is in
ridge_selection.py. Features are z-scored by the training rows of an outer fold, in its inner folds, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32

from facedyn.core import ridge_selection
from facedyn.core.pca import coordinate_columns, has_features, products_of, unproject_head, usable_rows
from facedyn.core.shapes import Features, FeatureWeights, Folds, Head, Labels, People, Rows

# Folds are balanced by at most so many swaps of two people, each the best of so many drawn at random.
SWAPS, SWAP_CANDIDATES = 400, 4000
SOLVERS = ridge_selection.SOLVERS


@dataclasses.dataclass(frozen=True)
class RidgeSettings:
    """How a ridge is chosen and judged; folds are of people. Penalty and components are chosen together, trait by trait."""

    penalties: tuple[float, ...]
    folds: int = 10
    inner_folds: int = 5
    components: int | tuple[int, ...] = 0  # candidates of how many principal components are kept, 0 = all
    seed: int = 0
    solver: str = "closed_form"  # of the outer fit, or 'lbfgs'


@dataclasses.dataclass(frozen=True)
class CrossValidated:
    """Out-of-fold predictions and what led to them; K outer folds."""

    predictions: Float32[np.ndarray, "N T"]  # NaN where the row has no features or is in no fold
    penalties: Float32[np.ndarray, "K T"]  # the choice in each fold, held at ridge_selection.MAX_SHRINKAGE
    components: Float32[np.ndarray, "K T"]  # likewise, the number of coordinates where all are kept
    scored: Bool[np.ndarray, "N T"]  # rows with features and a label
    inner: Float32[np.ndarray, "K N T"]  # what the choice predicts for each fold's training rows in the inner folds, else NaN


def person_folds(person_ids: People, folds: int, seed: int, labels: Float[np.ndarray, "N T"] | None = None) -> Folds:
    """Fold of each row, in 0 .. folds - 1; a person is never in two, and folds differ by one person at most.

    A function of the set of people and the seed alone, whatever the order of the rows. With `labels` (NaN = missing),
    people are also exchanged between folds until the folds' mean labels are nearly equal. Without that, the mean of the
    training people is lower exactly where the fold's is higher, and a head that has learnt nothing scores a PCC near
    -1/sqrt(people per fold) instead of 0.

    Raises ValueError when there are fewer people than folds.

    >>> person_folds(["ann", "ann", "ben", "cleo", "dan"], folds=2, seed=0)
    array([1, 1, 0, 0, 1])
    """
    people, index = np.unique(np.asarray(person_ids).astype(str), return_inverse=True)
    if not 2 <= folds <= len(people):
        raise ValueError(f"{len(people)} people cannot be dealt out to {folds} folds.")
    rng = np.random.default_rng(seed)
    fold = np.empty(len(people), int)
    fold[rng.permutation(len(people))] = np.arange(len(people)) % folds
    if labels is not None:
        fold = _balance(fold, _person_means(np.asarray(labels, float), index, len(people)), folds, rng)
    return fold[index]


def cross_validate_ridge(
    x: Features,
    y: Labels,
    person_ids: People,
    settings: RidgeSettings,
    fold: Folds | None = None,
    weights: FeatureWeights | None = None,
) -> CrossValidated:
    """Out-of-fold ridge predictions of each trait, its penalty and number of components chosen by inner person-disjoint folds.

    Each trait's head, normalisation included, is fitted to the training rows that have features and a label for it. The
    candidate with the smallest squared error over all inner validation rows is chosen. An inner fold's ridge has an intercept
    of its own and the standard deviations of the outer fold's training rows, so that one product of the features serves all.

    Args:
      x: a row of NaN only has no features and is left out; a single NaN counts as the training mean.
      y: labels, NaN = missing.
      person_ids: all rows of a person are in the same fold.
      fold: to be used instead of `person_folds(person_ids, settings.folds, settings.seed, y)`; rows of fold -1 are
        always in training and never predicted.
      weights: that the z-scored features are multiplied with; None for ones.
    """
    fold = person_folds(person_ids, settings.folds, settings.seed, y) if fold is None else np.asarray(fold)
    usable, known = usable_rows(x, y), has_features(x)
    folds = range(fold.max() + 1)
    trains, seeds = [fold != k for k in folds], [settings.seed + 1 + k for k in folds]
    predictions, inner, chosen = np.full(y.shape, np.nan, np.float32), [], []
    for k, (fitted, of_inner) in enumerate(_ridges(x, y, person_ids, trains, usable, settings, seeds, weights)):
        test = known & (fold == k)
        predictions[test] = fitted.out[test]
        inner.append(of_inner)
        chosen.append(fitted.chosen)
    components, penalties = np.moveaxis(np.stack(chosen), 2, 0)
    return CrossValidated(predictions, penalties, components, usable, np.stack(inner))


def fit_ridge(
    x: Features, y: Labels, person_ids: People, settings: RidgeSettings, weights: FeatureWeights | None = None
) -> tuple[Head, Float32[np.ndarray, " T"], Float32[np.ndarray, " T"]]:
    """Ridge heads of all traits, fitted to all rows as an outer fold of `cross_validate_ridge` would be.

    Returns: (head, penalties, components): stacked heads for `trait_heads.predict`, whose weights are of the features
    themselves (the principal components are folded in).
    """
    usable = usable_rows(x, y)
    ((found, _),) = _ridges(x, y, person_ids, [np.ones(len(y), bool)], usable, settings, [settings.seed], weights)
    heads = []
    for t in range(y.shape[1]):
        bias = np.array([y[usable[:, t], t].mean()], np.float32)
        layer = {"weights": found.duals[:, t : t + 1], "bias": bias}
        heads.append(unproject_head(x, usable[:, t], [layer], weights))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *heads), found.chosen[:, 1], found.chosen[:, 0]


def predict_mean(y: Labels, fold: Folds) -> Float32[np.ndarray, "N T"]:
    """The mean-predictor baseline: each row gets its training people's mean label.

    NaN for the rows of fold -1, which are in training only.
    """
    means = np.stack([np.nanmean(y[fold != k], 0) for k in range(fold.max() + 1)])
    return np.where(fold[:, None] >= 0, means[fold], np.nan).astype(np.float32)


def inner_splits(person_ids: People, train: Rows, inner_folds: int, seed: int) -> list[Rows]:
    """The training rows less one inner fold each, and all of them last: inner_folds + 1 masks."""
    inner = np.full(len(train), -1)
    inner[train] = person_folds(np.asarray(person_ids)[train], inner_folds, seed)
    return [*(train & (inner != k) for k in range(inner_folds)), train]


def fewest_people(person_ids: People, trains: Sequence[Rows]) -> int:
    """People in the smallest of the training sets; no more inner folds than that can be dealt out."""
    return min(len(np.unique(np.asarray(person_ids)[train])) for train in trains)


def _ridges(x, y, person_ids, trains, usable, settings, seeds, weights):
    """Chooses within each training set (bool [N], a seed each for its inner folds) and fits.

    Iterates over (ridge_selection.Fitted, predictions [N, T] of the training rows in the inner folds, NaN elsewhere).
    """
    columns, (n, t) = coordinate_columns(x), y.shape
    inner_folds = min(settings.inner_folds, fewest_people(person_ids, trains))
    components = [c or columns for c in np.atleast_1d(settings.components)]
    grid = [(c, p) for c in components for p in settings.penalties]
    # Traits with labels for the same people share their products; as a rule that is one group.
    patterns, group = np.unique(usable.T, axis=0, return_inverse=True)
    for train, seed in zip(trains, seeds):
        splits = np.stack(inner_splits(person_ids, train, inner_folds, seed))
        found = ridge_selection.Fitted(np.zeros((n, t), np.float32), np.zeros((t, 2), np.float32), np.zeros((n, t)))
        of_inner = np.zeros((n, t), np.float32)
        for g, rows in enumerate(patterns):
            traits = np.flatnonzero(group.reshape(-1) == g)
            target = np.where(np.isfinite(y[:, traits]), y[:, traits], 0.0)
            products = products_of(x, train & rows, weights)
            best, inner = ridge_selection.choose(products, target, splits & rows, grid, columns)
            fitted = ridge_selection.fit(products, target, train & rows, best, columns, settings.solver)
            found.out[:, traits], of_inner[:, traits] = fitted.out, inner
            found.chosen[traits], found.duals[:, traits] = fitted.chosen, fitted.duals
        yield found, of_inner


def _person_means(labels, index, people):
    """Mean label of each person, standardised over the people; 0 where there is none. [N, T] -> [P, T]"""
    finite = np.isfinite(labels)
    total, count = np.zeros((people, labels.shape[1])), np.zeros((people, labels.shape[1]))
    np.add.at(total, index, np.where(finite, labels, 0.0))
    np.add.at(count, index, finite)
    known = count > 0
    means = total / np.maximum(count, 1)
    centre = (means * known).sum(0) / np.maximum(known.sum(0), 1)
    means = np.where(known, means - centre, 0.0)
    spread = np.sqrt((means**2).mean(0))
    return means / np.where(spread > 0, spread, 1.0)


def _balance(fold, labels, folds, rng):
    """Swaps pairs of people between folds, the best of many at a time, while that brings the folds' label sums nearer."""
    sums = np.zeros((folds, labels.shape[1]))
    np.add.at(sums, fold, labels)
    for _ in range(SWAPS):
        a, b = rng.integers(0, len(fold), (2, SWAP_CANDIDATES))
        change = labels[b] - labels[a]  # added to the fold of a, taken from that of b
        # |s_a + d|^2 + |s_b - d|^2 - |s_a|^2 - |s_b|^2, halved
        gain = np.where(fold[a] == fold[b], 0.0, (change * (sums[fold[a]] - sums[fold[b]] + change)).sum(1))
        best = gain.argmin()
        if gain[best] >= -1e-9:
            break
        one, other = a[best], b[best]
        sums[fold[one]] += change[best]
        sums[fold[other]] -= change[best]
        fold[one], fold[other] = fold[other], fold[one]
    return fold

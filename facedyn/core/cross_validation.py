"""Person-disjoint cross-validation of trait heads, with the ridge penalty chosen inside the training people only.

A ridge sees features only through inner products with its training rows. So each training set's z-scored features are
turned, exactly, into principal coordinates of at most as many columns as there are rows (host, float64); all fits then run
on arrays whose shape does not depend on the number of features, and one compilation serves every feature set.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from facedyn.core import trait_heads

# A feature whose spread over the training people is below this share of its magnitude is rounding, not signal.
CONSTANT = 1e-6
# Folds are balanced by at most so many swaps of two people, each the best of so many drawn at random.
SWAPS, SWAP_CANDIDATES = 400, 4000
# Up to this many rows the coordinates are padded to one column a row, so that small feature sets share the compilation.
PAD_ROWS = 512


@dataclasses.dataclass(frozen=True)
class RidgeSettings:
    """How a ridge is chosen and judged; all counts are of people."""

    penalties: tuple[float, ...]
    folds: int = 10
    inner_folds: int = 5
    components: int = 0  # principal components kept, 0 = all
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class CrossValidated:
    """Out-of-fold predictions and what led to them."""

    predictions: np.ndarray  # float32 [N, T], NaN where the row has no features
    penalties: np.ndarray  # float32 [K, T], the choice in each fold
    scored: np.ndarray  # bool [N, T], rows with features and a label


def person_folds(person_ids, folds: int, seed: int, labels=None) -> np.ndarray:
    """Fold of each row: int [N] in 0 .. folds - 1; a person is never in two, and folds differ by one person at most.

    A function of the set of people and the seed alone, whatever the order of the rows. With `labels` [N, T] (NaN = missing),
    people are also exchanged between folds until the folds' mean labels are nearly equal. Without that, the mean of the
    training people is lower exactly where the fold's is higher, and a head that has learnt nothing scores a PCC near
    -1/sqrt(people a fold) instead of 0.

    Raises ValueError when there are fewer people than folds.
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


def cross_validate_ridge(x, y, person_ids, settings: RidgeSettings, fold=None) -> CrossValidated:
    """Out-of-fold ridge predictions of each trait, the penalty of each trait chosen by inner person-disjoint folds.

    Each trait's head, normalisation included, is fitted to the training rows that have features and a label for it. The
    penalty with the smallest squared error over all inner validation rows is chosen; the head of the outer fold is
    then fitted by L-BFGS.

    Args:
      x: float [N, D]; a row of NaN only has no features and is left out; a single NaN counts as the training mean.
      y: float [N, T] labels, NaN = missing.
      person_ids: [N]; all rows of a person are in the same fold.
      fold: int [N] to be used instead of `person_folds(person_ids, settings.folds, settings.seed, y)`.
    """
    fold = person_folds(person_ids, settings.folds, settings.seed, y) if fold is None else np.asarray(fold)
    usable = usable_rows(x, y)
    predictions = np.full(y.shape, np.nan, np.float32)
    penalties = np.full((fold.max() + 1, y.shape[1]), np.nan, np.float32)
    for k in range(fold.max() + 1):
        train, test = fold != k, fold == k
        out, penalties[k] = _ridge_fold(x, y, person_ids, train, usable, settings, settings.seed + 1 + k)[:2]
        predictions[test] = out[test]
    predictions[~has_features(x)] = np.nan
    return CrossValidated(predictions, penalties, usable)


def fit_ridge(x, y, person_ids, settings: RidgeSettings):
    """Ridge heads of all traits, fitted to all rows as an outer fold of `cross_validate_ridge` would be.

    Returns: (head, penalties [T]): stacked heads for `trait_heads.predict`, whose weights are of the features themselves
    (the principal components, where settings.components asks for them, are folded in).
    """
    usable = usable_rows(x, y)
    _, penalties, weights, bases = _ridge_fold(x, y, person_ids, np.ones(len(y), bool), usable, settings, settings.seed)
    heads = []
    for t in range(y.shape[1]):
        bias = np.array([y[usable[:, t], t].mean()], np.float32)
        heads.append(_head(x, usable[:, t], [{"weights": bases[t] @ weights[t][:, None], "bias": bias}]))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *heads), penalties


def cross_validate_mlp(x, y, fold, key, *, components=0, **settings):
    """Out-of-fold predictions of an MLP for all traits, and the head fitted to all rows; one vmapped call fits them all.

    Args: x, y, fold as in `cross_validate_ridge`; components: principal components kept, 0 = all; settings: of `fit_mlp`.
    Returns: (predictions float32 [N, T], head for `trait_heads.predict`, whose first layer is in terms of the features).
    """
    usable, columns = usable_rows(x, y), coordinate_columns(x)
    trains = [usable & (fold != k)[:, None] for k in range(fold.max() + 1)] + [usable]
    z = []
    for train in trains:
        coordinates, basis = principal_coordinates(x, train.any(1), columns, components)
        scaled, factor = unit_scale(coordinates, train.any(1))
        z.append(scaled)
    keys = jax.random.split(key, len(trains))
    out, layers = _fit_mlps(
        keys, jnp.asarray(np.stack(z)), jnp.asarray(y, jnp.float32), jnp.asarray(np.stack(trains)), **settings
    )
    predictions = np.asarray(out)[fold, np.arange(len(fold))]  # [N, T], each row from the fold that held it out
    first, last = jax.tree.map(lambda leaf: np.asarray(leaf[-1]), layers)
    head = _head(x, usable.any(1), [first | {"weights": factor * (basis @ first["weights"].astype(float))}, last])
    return np.where(has_features(x)[:, None], predictions, np.nan).astype(np.float32), head


def predict_mean(y, fold) -> np.ndarray:
    """The mean-predictor baseline: each row gets its training people's mean label. y [N, T] -> float32 [N, T]."""
    means = np.stack([np.nanmean(y[fold != k], 0) for k in range(fold.max() + 1)])
    return means[fold].astype(np.float32)


def has_features(x) -> np.ndarray:
    """Rows that are not NaN all over: bool [N]."""
    return ~np.isnan(x).all(1)


def usable_rows(x, y) -> np.ndarray:
    """Rows with features and a label, per trait: bool [N, T]."""
    return np.isfinite(y) & has_features(x)[:, None]


def coordinate_columns(x) -> int:
    """Columns of the principal coordinates: one a row, unless there are many rows and fewer features."""
    return len(x) if len(x) <= PAD_ROWS else min(x.shape)


def principal_coordinates(x, train, columns: int, components: int = 0):
    """Principal coordinates of the features z-scored by the training rows, in falling order of spread.

    Training rows have uncorrelated, centred columns, and inner products with any training row are those of the z-scored
    features (of their leading components where `components` is not 0), so a ridge on them is the ridge on the features.

    Args: x [N, D]; train bool [N]; columns: width R of the result, padded with zeros.
    Returns: (coordinates float32 [N, R], basis float64 [N, R]): for z-scores z, coordinates = z (z^T basis).
    """
    z = standardise(x, *moments(x, train))
    gram = z @ z.T
    values, vectors = np.linalg.eigh(gram[np.ix_(train, train)])
    largest = values[-1] if len(values) else 0.0
    rank = int((values > 1e-12 * largest).sum()) if largest > 0 else 0  # the null space is left out
    rank = min(rank, components) if components else rank
    basis = np.zeros((len(x), columns))
    kept = slice(len(values) - rank, None)
    basis[train, :rank] = (vectors[:, kept] / np.sqrt(values[kept]))[:, ::-1]
    return (gram @ basis).astype(np.float32), basis


def moments(x, train):
    """Mean and standard deviation of each feature over the training rows, NaN left out; sd = 0 for a constant feature."""
    x = np.asarray(x[train], float)
    missing = np.isnan(x)
    count = np.maximum((~missing).sum(0), 1)
    x[missing] = 0.0
    mean = x.sum(0) / count
    x -= mean
    x[missing] = 0.0
    sd = np.sqrt((x * x).sum(0) / count)
    return mean, np.where(sd > CONSTANT * np.abs(mean), sd, 0.0)


def standardise(x, mean, sd) -> np.ndarray:
    """float64 [N, D] z-scores; 0 for constant features and for NaN."""
    z = x - mean
    z *= np.where(sd > 0, 1.0 / np.where(sd > 0, sd, 1.0), 0.0)
    z[np.isnan(z)] = 0.0
    return z


def unit_scale(coordinates, train):
    """Coordinates times one factor that brings their mean variance over the training rows to 1, and that factor."""
    total = float((coordinates[train] ** 2).mean(0).sum())
    used = int((coordinates[train] != 0).any(0).sum())
    factor = np.float32(np.sqrt(used / total)) if total else np.float32(1.0)
    return coordinates * factor, factor


def _head(x, train, layers):
    """A head for `predict` from layers whose first weights are [N, .] in terms of the training rows' z-scores."""
    mean, sd = moments(x, train)
    first = {"weights": (standardise(x, mean, sd).T @ layers[0]["weights"]).astype(np.float32), "bias": layers[0]["bias"]}
    return {"mean": mean.astype(np.float32), "sd": sd.astype(np.float32), "layers": [first, *layers[1:]]}


def _ridge_fold(x, y, person_ids, train, usable, settings, seed):
    """Chooses the penalties within the training rows and fits.

    Returns: predictions [N, T], penalties [T], weights [T, R], and each trait's basis [N, R] (see principal_coordinates).
    """
    person_ids, columns = np.asarray(person_ids), coordinate_columns(x)
    inner = np.full(len(y), -1)
    people = len(np.unique(person_ids[train]))
    inner[train] = person_folds(person_ids[train], min(settings.inner_folds, people), seed)
    splits = [train & (inner != k) for k in range(inner.max() + 1)]
    target = jnp.asarray(y, jnp.float32)
    out = np.zeros(y.shape, np.float32)
    penalties, weights = np.zeros(y.shape[1], np.float32), np.zeros((y.shape[1], columns), np.float32)
    bases = [None] * y.shape[1]
    # Traits with labels for the same people share their coordinates; as a rule that is one group.
    patterns, group = np.unique(usable[train].T, axis=0, return_inverse=True)
    for g in range(len(patterns)):
        traits = np.flatnonzero(group.reshape(-1) == g)
        rows = usable[:, traits[0]]
        coordinates = []
        for split in [*splits, train]:
            found, basis = principal_coordinates(x, split & rows, columns, settings.components)
            coordinates.append(found)
        fits = jnp.asarray(np.stack([s & rows for s in [*splits, train]]))
        tests = jnp.asarray(np.stack([train & ~s & rows for s in splits]))
        fitted = _select_and_fit(jnp.asarray(np.stack(coordinates)), target, fits, tests, jnp.asarray(settings.penalties))
        fitted_out, chosen, fitted_weights = map(np.asarray, fitted)
        out[:, traits], penalties[traits], weights[traits] = fitted_out[:, traits], chosen[traits], fitted_weights[traits]
        for t in traits:
            bases[t] = basis  # of the last split, the whole training set
    return out, penalties, weights, bases


@jax.jit
def _select_and_fit(coordinates, y, fits, tests, penalties):
    """Inner selection in closed form over splits x penalties x traits, then the outer fit by L-BFGS over traits.

    Args: coordinates [I + 1, N, R], the last of the outer fold; y [N, T]; fits bool [I + 1, N] training rows; tests bool
      [I, N] rows to judge the penalty on; penalties [L].
    Returns: predictions [N, T], chosen penalties [T], weights [T, R].
    """
    y = jnp.where(jnp.isfinite(y), y, 0.0)

    def target(fit):
        mean = jnp.sum(jnp.where(fit[:, None], y, 0.0), 0) / jnp.maximum(jnp.sum(fit), 1)  # [T]
        return mean, jnp.where(fit[:, None], y - mean[None], 0.0)

    def inner(c, fit, test):  # -> squared errors [L, T]
        mean, centred = target(fit)
        c_fit = jnp.where(fit[:, None], c, 0.0)
        curvature, slope = jnp.sum(c_fit**2, 0), jnp.matmul(c_fit.T, centred, precision="highest")  # [R], [R, T]
        weights = slope[None] / (curvature[None, :, None] + penalties[:, None, None])  # [L, R, T]
        error = mean[None, None] + jnp.matmul(c[None], weights, precision="highest") - y[None]  # [L, N, T]
        return jnp.sum(jnp.where(test[None, :, None], error**2, 0.0), 1)

    errors = jnp.sum(jax.vmap(inner)(coordinates[:-1], fits[:-1], tests), 0)  # [L, T]
    chosen = penalties[jnp.argmin(errors, 0)]  # [T]
    mean, centred = target(fits[-1])
    c_fit = jnp.where(fits[-1][:, None], coordinates[-1], 0.0)
    weights = jax.vmap(functools.partial(trait_heads.ridge_lbfgs_rotated, c_fit))(centred.T, chosen)  # [T, R]
    return mean[None] + jnp.matmul(coordinates[-1], weights.T, precision="highest"), chosen, weights


@functools.partial(jax.jit, static_argnames=("hidden", "steps"))
def _fit_mlps(keys, z, y, where, **settings):
    """An MLP a training set. keys [K]; z [K, N, R]; y [N, T]; where [K, N, T] -> predictions of all rows [K, N, T], layers."""

    def one(key, z, where):
        layers, _ = trait_heads.fit_mlp(key, z, y, where, **settings)
        return trait_heads.apply_layers(layers, z), layers

    return jax.vmap(one)(keys, z, where)


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

"""Principal component analysis, the only one of the package (host, float64), and the principal coordinates of features.

Principal coordinates are features z-scored by the training rows, turned into at most one column a training row. A linear
head sees features only through inner products with its training rows, so it loses nothing. All fits then run on arrays whose
shape does not depend on the number of features, and one compilation serves every feature set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from jaxtyping import Bool, Float, Float32, Float64

from facedyn.core.shapes import Features, FeatureWeights, Head, Labels, Layers, Rows

# A feature whose spread over the training people is below this share of its magnitude is rounding, not signal.
CONSTANT = 1e-6
# Up to this many rows the coordinates are padded to one column a row, so that small feature sets share the compilation;
# with more rows, to one of a few shares of the rows.
PAD_ROWS, SHARES = 512, (0.125, 0.25, 0.5)
# Features are standardised (float64) so many numbers at a time, not all at once.
NUMBERS_AT_ONCE = 2**22
# Eigenvalues below this share of the largest are rounding.
ROUNDING = 1e-12
# The side of a matrix up to which all of its components are computed.
ALL_COMPONENTS = 1024
# Of a larger one with so many times as many rows as components wanted, Lanczos' method finds these in a fifteenth of the time.
FEW = 32
# Up to so many rows their inner products are float64 throughout; of more, float32 products of some features at a time are
# summed in float64, which takes half the time. What that rounds off is far below the smallest penalty.
DOUBLE_ROWS = 512

# Mean and standard deviation of each feature.
Moments: TypeAlias = tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]


class Products(NamedTuple):
    """What a linear head needs of features z-scored by its training rows: one of the two.

    Attributes:
      scores: the z-scores, where there are fewer features than training rows; else None.
      gram: inner products of the rows' z-scores; else None.
    """

    scores: Float64[np.ndarray, "N D"] | None
    gram: Float64[np.ndarray, "N N"] | None


def eigenvectors(
    products: Float[np.ndarray, "N N"], most: int | None = None, min_share: float | None = ROUNDING
) -> tuple[Float64[np.ndarray, " R"], Float64[np.ndarray, "N R"]]:
    """Of a symmetric matrix without negative eigenvalues: eigenvalues and eigenvectors, largest first.

    Args:
      most: R at most.
      min_share: those below this share of the largest eigenvalue are left out; None keeps all.
    """
    products = np.asarray(products, np.float64)
    found = _leading_by_lanczos(products, most) if most and FEW * most <= len(products) > ALL_COMPONENTS else None
    if found is not None:
        values, vectors = found
    elif most and 2 * most < len(products) > ALL_COMPONENTS:
        subset = (len(products) - most, len(products) - 1)
        values, vectors = scipy.linalg.eigh(products, subset_by_index=subset, check_finite=False)
    else:
        values, vectors = np.linalg.eigh(products)
    values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
    if min_share is not None and len(values):
        kept = values > max(min_share * values[0], 0.0)
        values, vectors = values[kept], vectors[:, kept]
    return values, vectors


def _leading_by_lanczos(
    products: Float64[np.ndarray, "N N"], count: int
) -> tuple[Float64[np.ndarray, " R"], Float64[np.ndarray, "N R"]] | None:
    """The `count` largest eigenvalues, ascending, with their vectors, to rounding; None where the method fails.

    The start has a part in every direction: that of equal numbers would have none in those of centred rows.
    """
    start = np.random.default_rng(0).standard_normal(len(products))
    try:
        values, vectors = scipy.sparse.linalg.eigsh(products, count, v0=start, tol=0)
    except scipy.sparse.linalg.ArpackError:  # a matrix of zeros, for one
        return None
    order = np.argsort(values)
    return values[order], vectors[:, order]


def leading_scores(x: Features, count: int) -> Float[np.ndarray, "N R"]:
    """Rows, centred already, in their leading principal components, at most `count`; one of zeros where nothing varies.

    From the products of the rows or of the features, whichever are fewer; where both are many, by Lanczos' method.
    """
    x = np.asarray(x)
    if min(x.shape) > ALL_COMPONENTS:
        left, values, _ = map(np.asarray, scipy.sparse.linalg.svds(x, k=count, v0=np.ones(min(x.shape), x.dtype)))
        found = (left * values)[:, ::-1]
    elif len(x) <= x.shape[1]:
        values, vectors = eigenvectors(x @ x.T, count)
        found = vectors * np.sqrt(values)
    else:
        found = x @ eigenvectors(x.T @ x, count)[1]
    return found if found.shape[1] else np.zeros((len(x), 1))


def has_features(x: Features) -> Rows:
    """Rows that are not NaN all over."""
    return ~np.all(np.isnan(x), axis=1)


def usable_rows(x: Features, y: Labels) -> Bool[np.ndarray, "N T"]:
    """Rows with features and a label, per trait."""
    return np.isfinite(y) & has_features(x)[:, None]


def coordinate_columns(x: Features) -> int:
    """Columns of the principal coordinates: one a row, or where there are many rows and few features, a share of that."""
    rows, features = x.shape
    shares = [] if rows <= PAD_ROWS else [int(share * rows) for share in SHARES]
    return next((columns for columns in shares if columns >= min(x.shape)), rows)


def products_of(x: Features, train: Rows, weights: FeatureWeights | None = None) -> Products:
    """Of x, z-scored by the rows train; weights that z-scores are multiplied with, None for ones."""
    if x.shape[1] < train.sum():
        return Products(standardise(x, *weighted(moments(x, train), weights)), None)
    return Products(None, gram_matrix(x, train, weights))


def normal_matrix(
    products: Products, fit: Rows, other: Rows
) -> tuple[Float64[np.ndarray, "R R"], Float64[np.ndarray, "others R"]]:
    """The matrix of a ridge on the rows fit, about their mean, and what predicts the rows other: (A, left).

    R: with gram the fitted rows, with scores the features.
    """
    if products.scores is not None:
        own = products.scores[fit]
        mean = own.mean(0)
        own -= mean
        return own.T @ own, products.scores[other] - mean
    assert products.gram is not None, "Products hold one of both"
    columns = products.gram[:, fit]
    mean = columns.mean(1)
    own, left = columns[fit], columns[other]
    of_fit = mean[fit] - mean[fit].mean()
    own -= mean[fit][:, None]
    own -= of_fit[None]
    left -= mean[other][:, None]
    left -= of_fit[None]
    return own, left


def principal_coordinates(
    x: Features, train: Rows, columns: int, weights: FeatureWeights | None = None
) -> tuple[Float32[np.ndarray, "N {columns}"], Float64[np.ndarray, "N {columns}"]]:
    """`coordinates` of the features z-scored by the training rows; weights as of `products_of`.

    Inner products of the coordinates with any training row are those of the z-scored features, so a ridge on them is the ridge
    on the features, and one on the first c of them that on c principal components.
    """
    return coordinates(products_of(x, train, weights), train, columns)


def coordinates(
    products: Products, fit: Rows, columns: int
) -> tuple[Float32[np.ndarray, "N {columns}"], Float64[np.ndarray, "N {columns}"]]:
    """Principal coordinates of the rows fit, about their mean, in falling order of spread.

    Args: columns: width of the result, padded with zeros, or the leading ones where there are more.
    Returns: (coordinates, basis): for centred z-scores z, coordinates = z (z^T basis).
    """
    everyone = np.ones(len(fit), bool)
    matrix, left = normal_matrix(products, fit, everyone)
    values, vectors = eigenvectors(matrix, columns)
    rank = len(values)
    found, basis = np.zeros((len(fit), columns), np.float32), np.zeros((len(fit), columns))
    if products.scores is not None:
        found[:, :rank] = left @ vectors
        basis[fit, :rank] = left[fit] @ vectors / values
    else:
        basis[fit, :rank] = vectors / np.sqrt(values)
        found[:, :rank] = left @ basis[fit, :rank]
    return found, basis


def gram_matrix(x: Features, train: Rows, weights: FeatureWeights | None = None) -> Float64[np.ndarray, "N N"]:
    """Inner products of all rows' features, z-scored by the training rows.

    Arguments as in `products_of`. The z-scores are made some features at a time.
    """
    gram, dtype = np.zeros((len(x), len(x))), np.float64 if len(x) <= DOUBLE_ROWS else np.float32
    for some in feature_blocks(x):
        own = x[:, some]
        z = standardise(own, *weighted(moments(own, train), None if weights is None else weights[some])).astype(
            dtype, copy=False
        )
        gram += z @ z.T
    return gram


def feature_blocks(x: Features) -> list[slice]:
    """Slices of the features: no more than NUMBERS_AT_ONCE numbers of all rows each."""
    width = max(1, NUMBERS_AT_ONCE // max(1, len(x)))
    return [slice(first, first + width) for first in range(0, x.shape[1], width)]


def leading_coordinates(
    blocks: Sequence[Float[np.ndarray, "N _"]], components: int = 2
) -> tuple[Float64[np.ndarray, "N {components}"], Float64[np.ndarray, " {components}"]]:
    """Rows in the plane (or line, ...) of the leading principal components of the z-scored features of all rows.

    The sign of a component, which is arbitrary, makes the row farthest from the middle positive.

    Args: blocks: arrays that side by side are the features; a NaN counts as the mean.
    Returns: (coordinates, 0 beyond the rank; each component's share of the variance).
    """
    gram = np.sum([gram_matrix(x, np.ones(len(x), bool)) for x in blocks], 0)
    values, vectors = eigenvectors(gram)
    coordinates = (vectors * np.sqrt(values))[:, :components]
    coordinates = np.pad(coordinates, ((0, 0), (0, components - coordinates.shape[1])))
    farthest = coordinates[np.abs(coordinates).argmax(0), np.arange(components)]
    shares = np.pad(values, (0, components))[:components] / (values.sum() or 1.0)
    return coordinates * np.where(farthest < 0, -1.0, 1.0), shares


def moments(x: Features, train: Rows) -> Moments:
    """Mean and standard deviation of each feature over the training rows, NaN left out; sd = 0 for a constant feature."""
    if not x.shape[1]:
        return np.zeros(0), np.zeros(0)
    mean, sd = (np.concatenate(parts) for parts in zip(*(_moments(x[train, some]) for some in feature_blocks(x))))
    return mean, sd


def _moments(x: Features) -> Moments:
    x = np.array(x, float)
    missing = np.isnan(x)
    count = np.maximum((~missing).sum(0), 1)
    x[missing] = 0.0
    mean = x.sum(0) / count
    x -= mean
    x[missing] = 0.0
    sd = np.sqrt((x * x).sum(0) / count)
    return mean, np.where(sd > CONSTANT * np.abs(mean), sd, 0.0)


def weighted(of: Moments, weights: FeatureWeights | None) -> Moments:
    """Moments (mean, sd) by which `standardise` gives z-scores times weights; None for ones."""
    return of if weights is None else (of[0], of[1] / weights)


def standardise(x: Features, mean: Float[np.ndarray, " D"], sd: Float[np.ndarray, " D"]) -> Float64[np.ndarray, "N D"]:
    """Z-scores; 0 for constant features and for NaN."""
    z = x - mean
    z *= np.where(sd > 0, 1.0 / np.where(sd > 0, sd, 1.0), 0.0)
    z[np.isnan(z)] = 0.0
    return z


def unproject_head(x: Features, train: Rows, layers: Layers, weights: FeatureWeights | None = None) -> Head:
    """A head for `trait_heads.predict` from layers whose first weights are [N, .] in terms of the training rows' z-scores.

    weights: those of `principal_coordinates`; the head's sd is divided by them.
    """
    mean, sd = weighted(moments(x, train), weights)
    of_features = [standardise(x[:, some], mean[some], sd[some]).T @ layers[0]["weights"] for some in feature_blocks(x)]
    first = {"weights": np.concatenate(of_features).astype(np.float32), "bias": layers[0]["bias"]}
    return {"mean": mean.astype(np.float32), "sd": sd.astype(np.float32), "layers": [first, *layers[1:]]}

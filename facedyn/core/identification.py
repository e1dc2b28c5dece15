"""Who is who: the rank of a person's other measurement among everybody's.

Representations are z-scored over all measurements and compared by their cosine. No directions are learnt in which people
differ: those learnt from halves of the same clips depend on looks, and identify people worse across clips (docs/method.md).

On the host: there is one product of matrices for each set of features, of which each would be compiled by itself.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Shaped

from facedyn.core import pca
from facedyn.core.metrics import CONSTANT, deviations, masked_rows, weighted_mean
from facedyn.core.shapes import AnyArray, Scalar

# Queries that are compared with the gallery at once.
QUERIES_AT_ONCE = 1024


# A measurement of each person, and weights of its standardised features (None for ones).
Measured: TypeAlias = Float[AnyArray, "N D"]
Weights: TypeAlias = Float[AnyArray, " D"] | None


def standardised(queries: Measured, gallery: Measured) -> tuple[Float32[np.ndarray, "N D"], Float32[np.ndarray, "N D"]]:
    """Features z-scored over gallery and queries together, 0 where constant: (queries, gallery)."""
    both = np.concatenate([np.asarray(gallery, np.float32), np.asarray(queries, np.float32)])
    largest, share = _largest(both), np.full(len(both), 1 / len(both), np.float32)
    for _ in range(2):  # a second pass, because float32 loses digits in the first
        both -= share @ both
    size = _largest(both)
    varies = size > CONSTANT * largest
    both /= np.where(varies, size, np.inf)  # squares of what is large would overflow
    both /= np.where(varies, np.sqrt(np.einsum("nd,nd->d", both, both) / len(both)), 1)
    return both[len(gallery) :], both[: len(gallery)]


def _largest(x: Float32[np.ndarray, "N D"]) -> Float32[np.ndarray, " D"]:
    """The largest size of each feature."""
    return np.maximum(x.max(0), -x.min(0))


def similarities(queries: Measured, gallery: Measured, weights: Weights = None) -> Float[np.ndarray, "N N"]:
    """Cosine between each query and each gallery row, `standardised`; 0 for a zero row."""
    queries, gallery = _directions(queries, gallery, weights)
    return queries @ gallery.T


def match_ranks(queries: Measured, gallery: Measured, weights: Weights = None) -> Int[np.ndarray, " N"]:
    """Rank of each query's true match in the gallery, 1 = nearest; the match of query i is gallery row i.

    Features are z-scored over gallery and queries together (constant ones count for nothing), then compared by cosine
    distance. Ties are counted against the method, so representations that are all equal score nothing.

    Args: queries, gallery: finite.
    Returns: ranks in 1 .. N. Top-1 is the share of ones, the mean reciprocal rank the mean of 1 / rank.
    """
    return look_up(queries, gallery, weights)[0]


def distances(
    queries: Measured, gallery: Measured, weights: Weights = None
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Cosine distance of each query to its match, and the mean one to other gallery rows, in [0, 2]."""
    return look_up(queries, gallery, weights)[1:]


def look_up(
    queries: Measured, gallery: Measured, weights: Weights = None
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """`match_ranks` and both `distances`, from one comparison."""
    directions, among = _directions(queries, gallery, weights)

    def of_some(first):
        similarity = directions[first : first + QUERIES_AT_ONCE] @ among.T
        own = similarity[np.arange(len(similarity)), first + np.arange(len(similarity))]
        total = (1.0 - similarity).sum(1)
        others = (total - (1.0 - own)) / max(similarity.shape[1] - 1, 1)
        return (similarity >= own[:, None]).sum(1), 1.0 - own, others  # the count includes the match itself

    ranks, within, between = map(np.concatenate, zip(*map(of_some, range(0, len(directions), QUERIES_AT_ONCE))))
    return ranks, within, between


def leading_components(
    queries: Measured, gallery: Measured, components: int
) -> tuple[Float32[np.ndarray, "N K"], Float32[np.ndarray, "N K"]]:
    """The leading principal components of both, `standardised` and taken as one: (queries, gallery)."""
    both = np.concatenate(standardised(queries, gallery))
    found = pca.leading_scores(both, components).astype(np.float32)
    return found[: len(queries)], found[len(queries) :]


def _directions(
    queries: Measured, gallery: Measured, weights: Weights
) -> tuple[Float32[np.ndarray, "N D"], Float32[np.ndarray, "N D"]]:
    """Rows of unit length, `standardised` and weighted; a zero row stays one."""
    found = []
    for x in standardised(queries, gallery):
        own = x if weights is None else x * np.asarray(weights, np.float32)
        length = np.linalg.norm(own, axis=1, keepdims=True)
        found.append(own / np.where(length > 0, length, 1))
    return found[0], found[1]


def icc(
    first: Float[AnyArray, " N"], second: Float[AnyArray, " N"], where: Shaped[AnyArray, " N"] | None = None
) -> Float[Array, ""]:
    """Intraclass correlation ICC(1, 1) of two measurements of each person, in [-1, 1]; 0 where nothing varies.

    (MSB - MSW) / (MSB + MSW), mean squares between and within people. P. Shrout and J. Fleiss, "Intraclass correlations: uses
    in assessing rater reliability", Psychological Bulletin 86, 1979.
    """
    first, second, weights = masked_rows(first, second, where)
    deviation, _ = deviations((first + second) / 2, weights)
    between = 2 * jnp.sum(weights * deviation**2) / jnp.maximum(jnp.sum(weights) - 1, 1.0)
    within = weighted_mean((first - second) ** 2, weights) / 2
    total = between + within
    return jnp.where(total > 0, (between - within) / jnp.where(total > 0, total, 1.0), 0.0)


def mean_icc(first: Float[AnyArray, "N K"], second: Float[AnyArray, "N K"], where: Shaped[AnyArray, "N K"]) -> Float[Array, ""]:
    """Mean `icc` of K measurements."""
    return jnp.mean(jax.vmap(icc, 1)(first, second, where))


def spearman_brown(
    reliability: Scalar | Float[AnyArray, "*numbers"], length: Scalar | int | Float[AnyArray, "*numbers"]
) -> Scalar | Float[np.ndarray, "*numbers"]:
    """Predicted reliability of a measurement `length` times as long as the one that has `reliability`; arrays or scalars.

    length r / (1 + (length - 1) r), which holds where the added part is like the measured one. A reliability below 0 counts
    as 0. W. Brown, "Some experimental results in the correlation of mental abilities", and C. Spearman, "Correlation
    calculated from faulty data", both British Journal of Psychology 3, 1910.

    >>> print(f"{spearman_brown(0.5, 2):.3f}")
    0.667
    """
    r = np.maximum(reliability, 0.0)
    return length * r / (1 + (length - 1) * r)


def length_for(reliability: float, wanted: float) -> float:
    """How many times as long a measurement must be for the reliability `wanted`, by `spearman_brown`; inf for none at all.

    >>> print(f"{length_for(0.5, 0.8):.1f}")
    4.0
    """
    if reliability >= 1:
        return 0.0
    return wanted * (1 - reliability) / (reliability * (1 - wanted)) if reliability > 0 else np.inf


def top1_and_mrr(queries: Measured, gallery: Measured) -> tuple[float, float]:
    """(top-1, mean reciprocal rank) of `match_ranks`, in [0, 1].

    >>> halves = np.random.default_rng(0).normal(size=(5, 3))  # five people, equal in both halves
    >>> top1_and_mrr(halves, halves)
    (1.0, 1.0)
    """
    ranks = match_ranks(queries, gallery)
    return float(np.mean(ranks == 1)), float(np.mean(1.0 / ranks))

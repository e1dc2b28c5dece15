"""Who is who: the rank of a person's other measurement among everybody's.

Representations are z-scored over all measurements and compared by their cosine. No directions are learnt in which people
differ: those learnt from halves of the same clips depend on looks, and identify people worse across clips (docs/method.md).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Shaped

from facedyn.core import pca
from facedyn.core.metrics import deviations, masked_rows, weighted_mean
from facedyn.core.shapes import AnyArray, Scalar

# Queries that are compared with the gallery at once.
QUERIES_AT_ONCE = 1024


@jax.jit
def standardised(
    queries: Float[AnyArray, "N D"], gallery: Float[AnyArray, "N D"]
) -> tuple[Float32[Array, "N D"], Float32[Array, "N D"]]:
    """Features z-scored over gallery and queries together, 0 where constant: (queries, gallery)."""
    queries, gallery = jnp.asarray(queries, jnp.float32), jnp.asarray(gallery, jnp.float32)
    both = jnp.concatenate([gallery, queries])
    centred, constant = jax.vmap(deviations, (1, None), (1, 0))(both, jnp.ones(len(both)))  # [2N, D], [D]
    centred = jnp.where(constant[None], 0.0, centred / jnp.where(constant, 1.0, jnp.max(jnp.abs(centred), 0))[None])
    both = centred / jnp.where(constant, 1.0, jnp.sqrt(jnp.mean(centred**2, 0)))[None]
    return both[len(gallery) :], both[: len(gallery)]


@jax.jit
def similarities(
    queries: Float[AnyArray, "N D"], gallery: Float[AnyArray, "N D"], weights: Float[AnyArray, " D"] | None = None
) -> Float[Array, "N N"]:
    """Cosine between each query and each gallery row, `standardised`; 0 for a zero row.

    weights: of the standardised features; ones without them.
    """
    queries, gallery = _directions(queries, gallery, weights)
    return jnp.matmul(queries, gallery.T, precision="highest")


@jax.jit
def match_ranks(
    queries: Float[AnyArray, "N D"], gallery: Float[AnyArray, "N D"], weights: Float[AnyArray, " D"] | None = None
) -> Int[Array, " N"]:
    """Rank of each query's true match in the gallery, 1 = nearest; the match of query i is gallery row i.

    Features are z-scored over gallery and queries together (constant ones count for nothing), then compared by cosine
    distance. Ties are counted against the method, so representations that are all equal score nothing.

    Args: queries, gallery: finite; weights as of `similarities`.
    Returns: ranks in 1 .. N. Top-1 is the share of ones, the mean reciprocal rank the mean of 1 / rank.
    """
    # The count includes the match itself.
    return _each_query(lambda similarity, own: jnp.sum(similarity >= own[:, None], 1), queries, gallery, weights)


@jax.jit
def distances(
    queries: Float[AnyArray, "N D"], gallery: Float[AnyArray, "N D"], weights: Float[AnyArray, " D"] | None = None
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Cosine distance of each query to its match, and the mean one to other gallery rows, in [0, 2]."""

    def of_query(similarity, own):
        total = jnp.sum(1.0 - similarity, 1)
        return 1.0 - own, (total - (1.0 - own)) / jnp.maximum(similarity.shape[1] - 1, 1)

    return _each_query(of_query, queries, gallery, weights)


def leading_components(
    queries: Float[AnyArray, "N D"], gallery: Float[AnyArray, "N D"], components: int
) -> tuple[Float32[np.ndarray, "N K"], Float32[np.ndarray, "N K"]]:
    """The leading principal components of both, `standardised` and taken as one: (queries, gallery)."""
    both = np.concatenate([np.asarray(x) for x in standardised(queries, gallery)])
    found = pca.leading_scores(both, components).astype(np.float32)
    return found[: len(queries)], found[len(queries) :]


def _directions(
    queries: Float[AnyArray, "N D"], gallery: Float[AnyArray, "N D"], weights: Float[AnyArray, " D"] | None
) -> tuple[Float[Array, "N D"], Float[Array, "N D"]]:
    """Rows of unit length, `standardised` and weighted as `similarities` says; a zero row stays one."""
    queries, gallery = standardised(queries, gallery)
    if weights is not None:
        queries, gallery = (x * jnp.asarray(weights)[None] for x in (queries, gallery))

    def unit(x: Array) -> Array:
        length = jnp.linalg.norm(x, axis=1, keepdims=True)
        return x / jnp.where(length > 0, length, 1.0)

    return unit(queries), unit(gallery)


def _each_query(f, queries, gallery, weights):
    """f(similarities [B, N] of some queries to the gallery, [B] to their matches) of all queries, some at a time."""
    queries, gallery = _directions(queries, gallery, weights)

    def some(numbers):
        similarity = jnp.matmul(queries[numbers], gallery.T, precision="highest")
        return f(similarity, jnp.take_along_axis(similarity, numbers[:, None], 1)[:, 0])

    blocks = -(-len(queries) // QUERIES_AT_ONCE)
    size = -(-len(queries) // max(1, blocks))
    numbers = jnp.minimum(jnp.arange(blocks * size), len(queries) - 1).reshape(blocks, size)
    return jax.tree.map(lambda found: found.reshape(-1)[: len(queries)], jax.lax.map(some, numbers))


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


@jax.jit
def top1_and_mrr(queries: Float[AnyArray, "N D"], gallery: Float[AnyArray, "N D"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(top-1, mean reciprocal rank) of `match_ranks`, in [0, 1].

    >>> halves = jax.random.normal(jax.random.key(0), (5, 3))  # five people, equal in both halves
    >>> [float(figure) for figure in top1_and_mrr(halves, halves)]
    [1.0, 1.0]
    """
    ranks = match_ranks(queries, gallery)
    return jnp.mean(ranks == 1), jnp.mean(1.0 / ranks)

"""Figures of merit: trait metrics, identification, and intervals by resampling people.

Every trait metric takes `where`, which is a mask (0/1) or a weight per row (how often a bootstrap resampling drew it);
rows of weight 0 may hold NaN. All moments are population moments over the whole set, never averages over batches.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg

# Below this share of the largest magnitude, a spread in float32 is rounding: the values count as constant.
CONSTANT = 1e-6
# Resamplings computed at once; bounds memory at thousands of people.
RESAMPLINGS_AT_ONCE = 64
# Queries that are compared with the gallery at once, and the side up to which all principal components are computed.
QUERIES_AT_ONCE, ALL_COMPONENTS = 1024, 1024


def acc(labels, predictions, where=None):
    """1 - mean |label - prediction|, the "accuracy" of the First Impressions challenge. labels, predictions [N] -> scalar.

    >>> print(f"{acc([0.2, 0.6], [0.3, 0.6]):.2f}")
    0.95
    """
    labels, predictions, weights = _rows(labels, predictions, where)
    return 1.0 - _mean(jnp.abs(labels - predictions), weights)


def rmse(labels, predictions, where=None):
    """Root of the mean squared error, in the labels' unit. labels, predictions [N] -> scalar."""
    labels, predictions, weights = _rows(labels, predictions, where)
    return jnp.sqrt(_mean((labels - predictions) ** 2, weights))


def r2(labels, predictions, where=None):
    """1 - squared error / squared deviation of the labels from their mean; 0 for constant labels. [N] -> scalar."""
    labels, predictions, weights = _rows(labels, predictions, where)
    deviation, constant = _centred(labels, weights)
    variance = _mean(deviation**2, weights)
    error = _mean((labels - predictions) ** 2, weights)
    return jnp.where(constant, 0.0, 1.0 - error / jnp.where(constant, 1.0, variance))


def pcc(labels, predictions, where=None):
    """Pearson's correlation with its sign, in [-1, 1]; 0 when either side is constant (by our definition). [N] -> scalar.

    >>> print(f"{pcc([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]):.1f}, {pcc([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]):.1f}")
    -1.0, 0.0
    """
    labels, predictions, weights = _rows(labels, predictions, where)
    y, constant_y = _centred(labels, weights)
    p, constant_p = _centred(predictions, weights)
    constant = constant_y | constant_p
    # Each side is brought to order one first, so that no square under- or overflows.
    y, p = y / jnp.where(constant, 1.0, jnp.max(jnp.abs(y))), p / jnp.where(constant, 1.0, jnp.max(jnp.abs(p)))
    scale = jnp.sqrt(_mean(y**2, weights)) * jnp.sqrt(_mean(p**2, weights))
    return jnp.where(constant, 0.0, jnp.clip(_mean(y * p, weights) / jnp.where(constant, 1.0, scale), -1.0, 1.0))


def ccc(labels, predictions, where=None):
    """Lin's concordance, 2 cov / (var_y + var_p + (mean_y - mean_p)^2), in [-1, 1]; 0 when either side is constant.

    labels, predictions [N] -> scalar. L. Lin, "A concordance correlation coefficient", Biometrics 45, 1989.

    >>> print(f"{ccc([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]):.3f}")  # a shift that the PCC does not see
    0.571
    """
    labels, predictions, weights = _rows(labels, predictions, where)
    shift = _mean(labels, weights)  # a common shift changes nothing and keeps the digits of a small spread
    labels, predictions = labels - shift, predictions - shift
    y, constant_y = _centred(labels, weights)
    p, constant_p = _centred(predictions, weights)
    bias = _mean(labels - predictions, weights)
    constant = constant_y | constant_p
    total = _mean(y**2, weights) + _mean(p**2, weights) + bias**2
    return jnp.where(constant, 0.0, 2.0 * _mean(y * p, weights) / jnp.where(constant, 1.0, total))


METRICS = {"pcc": pcc, "ccc": ccc, "acc": acc, "rmse": rmse, "r2": r2}


@jax.jit
def trait_metrics(labels, predictions, where):
    """Every metric of METRICS, per trait and as the mean over the traits.

    Args: labels, predictions, where [N, T]. A trait without a single row of positive weight is left out of the mean.
    Returns: [M, T + 1], metrics in the order of METRICS, the mean last.
    """
    values = jnp.stack([jax.vmap(metric, 1)(labels, predictions, where) for metric in METRICS.values()])  # [M, T]
    scored = jnp.any(where > 0, axis=0)
    mean = jnp.sum(jnp.where(scored, values, 0.0), 1) / jnp.maximum(jnp.sum(scored), 1)
    return jnp.concatenate([values, mean[:, None]], 1)


def mean_trait_metrics(labels, predictions, where):
    """`trait_metrics` averaged over several predictions of the same rows. labels, where [N, T]; predictions [S, N, T]."""
    return jnp.mean(jax.vmap(trait_metrics, (None, 0, None))(labels, predictions, where), 0)


def trait_metric_differences(labels, predictions, where):
    """`mean_trait_metrics` of one method minus that of another: with `bootstrap` a paired comparison, as both are judged on
    the same resampled people. labels, where [N, T]; predictions [2, S, N, T] -> [M, T + 1].
    """
    return mean_trait_metrics(labels, predictions[0], where) - mean_trait_metrics(labels, predictions[1], where)


def resampled_people(key, people: int):
    """How often each person is drawn when `people` are drawn with replacement: float32 [people], sum = people."""
    drawn = jax.random.randint(key, (people,), 0, people)
    return jnp.zeros(people).at[drawn].add(1.0)


def keys_needed(n: int) -> int:
    """Children of the key that `n` resamplings use: full rounds, as a remainder would be compiled a second time."""
    return -(-(n + 1) // RESAMPLINGS_AT_ONCE) * RESAMPLINGS_AT_ONCE


@functools.partial(jax.jit, static_argnames=("statistic", "n", "n_people"))
def bootstrap(statistic, labels, predictions, people, key, n: int = 2000, *, n_people: int, where=None):
    """A statistic with its 95 % percentile interval; people are resampled, each with all of his or her rows.

    Args:
      statistic: function (labels, predictions, where) -> array of any shape.
      labels, predictions: [N] or [N, T]; predictions [2, S, N, T] for `trait_metric_differences`.
      people: int [N], index of the row's person in 0 .. n_people - 1.
      key: jax.random key; resampling i uses its child number i, so equal keys give paired resamplings.
      where: optional mask, shaped like `labels`.
    Returns: (value, low, high), each shaped like the statistic.
    """
    mask = jnp.ones(labels.shape) if where is None else jnp.asarray(where, jnp.float32)

    def once(number_and_key):
        number, key = number_and_key
        # The first is no resampling, but the value itself.
        weights = jnp.where(number == 0, 1.0, resampled_people(key, n_people))
        rows = weights[people]  # [N]
        return statistic(labels, predictions, mask * rows.reshape(rows.shape + (1,) * (labels.ndim - 1)))

    keys = jax.random.split(key, keys_needed(n))
    drawn = jax.lax.map(once, (jnp.arange(len(keys)), keys), batch_size=RESAMPLINGS_AT_ONCE)[: n + 1]
    low, high = jnp.percentile(drawn[1:], jnp.array([2.5, 97.5]), axis=0)
    return drawn[0], low, high


def bootstrap_mean(values, key, n: int = 2000):
    """Mean of one value per person with its 95 % interval. values [P] -> (value, low, high), scalars."""
    values = jnp.asarray(values, jnp.float32)
    return bootstrap(_weighted_mean, values, values, jnp.arange(len(values)), key, n, n_people=len(values))


@jax.jit
def standardised(queries, gallery):
    """Features z-scored over gallery and queries together, 0 where constant: two [N, D] -> two [N, D]."""
    queries, gallery = jnp.asarray(queries, jnp.float32), jnp.asarray(gallery, jnp.float32)
    both = jnp.concatenate([gallery, queries])
    centred, constant = jax.vmap(_centred, (1, None), (1, 0))(both, jnp.ones(len(both)))  # [2N, D], [D]
    centred = jnp.where(constant[None], 0.0, centred / jnp.where(constant, 1.0, jnp.max(jnp.abs(centred), 0))[None])
    both = centred / jnp.where(constant, 1.0, jnp.sqrt(jnp.mean(centred**2, 0)))[None]
    return both[len(gallery) :], both[: len(gallery)]


@jax.jit
def similarities(queries, gallery, weights=None):
    """Cosine between each query and each gallery row, `standardised`: [N, D], [N, D] -> [N, N]; 0 for a zero row.

    weights: of the standardised features, [D], or directions that they are looked at in, [D, K]; all alike without them.
    """
    queries, gallery = _directions(queries, gallery, weights)
    return jnp.matmul(queries, gallery.T, precision="highest")


@jax.jit
def match_ranks(queries, gallery, weights=None):
    """Rank of each query's true match in the gallery, 1 = nearest; the match of query i is gallery row i.

    Features are z-scored over gallery and queries together (constant ones count for nothing), then compared by cosine
    distance. Ties are counted against the method, so representations that are all alike score nothing.

    Args: queries, gallery [N, D], finite; weights as of `similarities`.
    Returns: int32 [N], in 1 .. N. Top-1 is the share of ones, the mean reciprocal rank the mean of 1 / rank.
    """
    # The count includes the match itself.
    return _each_query(lambda similarity, own: jnp.sum(similarity >= own[:, None], 1), queries, gallery, weights)


@jax.jit
def distances(queries, gallery, weights=None):
    """Cosine distance of each query to its match, and the mean one to other gallery rows: ([N], [N]), in [0, 2]."""

    def of_query(similarity, own):
        total = jnp.sum(1.0 - similarity, 1)
        return 1.0 - own, (total - (1.0 - own)) / jnp.maximum(similarity.shape[1] - 1, 1)

    return _each_query(of_query, queries, gallery, weights)


def leading_components(queries, gallery, components: int):
    """The leading principal components of both, `standardised` and taken together: [N, D], [N, D] -> [N, K], [N, K]."""
    queries, gallery = standardised(queries, gallery)
    both = jnp.concatenate([queries, gallery])
    found = _all_components(both) if len(both) <= ALL_COMPONENTS else _few_components(np.asarray(both), components)
    return found[: len(queries), :components], found[len(queries) :, :components]


@jax.jit
def _all_components(both):
    values, vectors = jnp.linalg.eigh(jnp.matmul(both, both.T, precision="highest"))
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None])[:, ::-1]


def _few_components(both, components):
    """The same of many rows: from the features' products, or where there are many features as well, by Lanczos' method."""
    if both.shape[1] <= ALL_COMPONENTS:
        return jnp.asarray(both @ np.linalg.eigh(both.T @ both)[1][:, ::-1][:, :components])
    vectors, values, _ = scipy.sparse.linalg.svds(both, k=components, v0=np.ones(min(both.shape), both.dtype))
    return jnp.asarray((vectors * values)[:, ::-1])


def _directions(queries, gallery, weights):
    """Rows of unit length, `standardised` and weighted as `similarities` says; a zero row stays one."""
    queries, gallery = standardised(queries, gallery)
    if weights is not None:
        weights = jnp.asarray(weights)
        queries, gallery = (x * weights[None] if weights.ndim == 1 else x @ weights for x in (queries, gallery))

    def unit(x):
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


def icc(first, second, where=None):
    """Intraclass correlation ICC(1, 1) of two measurements of each person, in [-1, 1]; 0 where nothing varies. [N] -> scalar.

    (MSB - MSW) / (MSB + MSW), mean squares between and within people. P. Shrout and J. Fleiss, "Intraclass correlations: uses
    in assessing rater reliability", Psychological Bulletin 86, 1979.
    """
    first, second, weights = _rows(first, second, where)
    deviation, _ = _centred((first + second) / 2, weights)
    between = 2 * jnp.sum(weights * deviation**2) / jnp.maximum(jnp.sum(weights) - 1, 1.0)
    within = _mean((first - second) ** 2, weights) / 2
    total = between + within
    return jnp.where(total > 0, (between - within) / jnp.where(total > 0, total, 1.0), 0.0)


@jax.jit
def reliability(first, second):
    """How much of each feature's spread is between people: `icc` of two measurements, not below 0. [N, D], [N, D] -> [D]."""
    return jnp.maximum(jax.vmap(icc, 1)(first, second), 0.0)


def mean_icc(first, second, where):
    """Mean `icc` of several measurements: [N, K], [N, K] -> scalar."""
    return jnp.mean(jax.vmap(icc, 1)(first, second, where))


@jax.jit
def identification(queries, gallery):
    """(top-1, mean reciprocal rank) of `match_ranks`, scalars in [0, 1].

    >>> halves = jax.random.normal(jax.random.key(0), (5, 3))  # five people, alike in both halves
    >>> [float(figure) for figure in identification(halves, halves)]
    [1.0, 1.0]
    """
    ranks = match_ranks(queries, gallery)
    return jnp.mean(ranks == 1), jnp.mean(1.0 / ranks)


def _rows(labels, predictions, where):
    """Float32 rows with harmless zeros where the weight is 0, and the weights themselves."""
    labels, predictions = jnp.asarray(labels, jnp.float32), jnp.asarray(predictions, jnp.float32)
    weights = jnp.ones(labels.shape) if where is None else jnp.asarray(where, jnp.float32)
    return jnp.where(weights > 0, labels, 0.0), jnp.where(weights > 0, predictions, 0.0), weights


def _mean(values, weights):
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1e-30)


def _weighted_mean(values, _, where):
    return _mean(values, where)


def _centred(values, weights):
    """Values minus their weighted mean (0 where the weight is 0), and whether they are constant up to rounding."""
    shifted = values - _mean(values, weights)
    deviation = jnp.where(weights > 0, shifted - _mean(shifted, weights), 0.0)  # second pass: float32 loses digits in the first
    largest = jnp.max(jnp.where(weights > 0, jnp.abs(values), 0.0))
    return deviation, jnp.max(jnp.abs(deviation)) <= CONSTANT * largest

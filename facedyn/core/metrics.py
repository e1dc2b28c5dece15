"""Figures of merit of predicted traits, and intervals by resampling people.

Every trait metric takes `where`, which is a mask (0/1) or a weight per row (how often a bootstrap resampling drew it);
rows of weight 0 may hold NaN. All moments are population moments over the whole set, never averages over batches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray, Real, Shaped

from facedyn.core.shapes import AnyArray

# Below this share of the largest magnitude, a spread in float32 is rounding: the values count as constant.
CONSTANT = 1e-6
# Resamplings computed at once; bounds memory at thousands of people.
RESAMPLINGS_AT_ONCE = 64


# Labels or predictions of rows, and their mask or weights.
Values: TypeAlias = Real[AnyArray, " N"]
Where: TypeAlias = Shaped[AnyArray, " N"] | None


def acc(labels: Values, predictions: Values, where: Where = None) -> Float[Array, ""]:
    """1 - mean |label - prediction|, the "accuracy" of the First Impressions challenge.

    >>> print(f"{acc(jnp.array([0.2, 0.6]), jnp.array([0.3, 0.6])):.2f}")
    0.95
    """
    labels, predictions, weights = masked_rows(labels, predictions, where)
    return 1.0 - weighted_mean(jnp.abs(labels - predictions), weights)


def rmse(labels: Values, predictions: Values, where: Where = None) -> Float[Array, ""]:
    """Root of the mean squared error, in the labels' unit."""
    labels, predictions, weights = masked_rows(labels, predictions, where)
    return jnp.sqrt(weighted_mean((labels - predictions) ** 2, weights))


def r2(labels: Values, predictions: Values, where: Where = None) -> Float[Array, ""]:
    """1 - squared error / squared deviation of the labels from their mean; 0 for constant labels."""
    labels, predictions, weights = masked_rows(labels, predictions, where)
    deviation, constant = deviations(labels, weights)
    variance = weighted_mean(deviation**2, weights)
    error = weighted_mean((labels - predictions) ** 2, weights)
    return jnp.where(constant, 0.0, 1.0 - error / jnp.where(constant, 1.0, variance))


def pcc(labels: Values, predictions: Values, where: Where = None) -> Float[Array, ""]:
    """Pearson's correlation with its sign, in [-1, 1]; 0 when either side is constant (by our definition).

    >>> rising = jnp.array([1.0, 2.0, 3.0])
    >>> print(f"{pcc(rising, -rising):.1f}, {pcc(rising, 0 * rising):.1f}")
    -1.0, 0.0
    """
    labels, predictions, weights = masked_rows(labels, predictions, where)
    y, constant_y = deviations(labels, weights)
    p, constant_p = deviations(predictions, weights)
    constant = constant_y | constant_p
    # Each side is brought to order one first, so that no square under- or overflows.
    y, p = y / jnp.where(constant, 1.0, jnp.max(jnp.abs(y))), p / jnp.where(constant, 1.0, jnp.max(jnp.abs(p)))
    scale = jnp.sqrt(weighted_mean(y**2, weights)) * jnp.sqrt(weighted_mean(p**2, weights))
    return jnp.where(constant, 0.0, jnp.clip(weighted_mean(y * p, weights) / jnp.where(constant, 1.0, scale), -1.0, 1.0))


def ccc(labels: Values, predictions: Values, where: Where = None) -> Float[Array, ""]:
    """Lin's concordance, 2 cov / (var_y + var_p + (mean_y - mean_p)^2), in [-1, 1]; 0 when either side is constant.

    L. Lin, "A concordance correlation coefficient", Biometrics 45, 1989.

    >>> print(f"{ccc(jnp.array([1.0, 2.0, 3.0]), jnp.array([2.0, 3.0, 4.0])):.3f}")  # a shift that the PCC does not see
    0.571
    """
    labels, predictions, weights = masked_rows(labels, predictions, where)
    shift = weighted_mean(labels, weights)  # a common shift changes nothing and keeps the digits of a small spread
    labels, predictions = labels - shift, predictions - shift
    y, constant_y = deviations(labels, weights)
    p, constant_p = deviations(predictions, weights)
    bias = weighted_mean(labels - predictions, weights)
    constant = constant_y | constant_p
    total = weighted_mean(y**2, weights) + weighted_mean(p**2, weights) + bias**2
    return jnp.where(constant, 0.0, 2.0 * weighted_mean(y * p, weights) / jnp.where(constant, 1.0, total))


METRICS = {"pcc": pcc, "ccc": ccc, "acc": acc, "rmse": rmse, "r2": r2}


@jax.jit
def trait_metrics(
    labels: Real[AnyArray, "N T"], predictions: Real[AnyArray, "N T"], where: Shaped[AnyArray, "N T"]
) -> Float[Array, "M T+1"]:
    """Every metric of METRICS, per trait and as the mean over the traits.

    A trait without a single row of positive weight is left out of the mean.
    Returns: metrics in the order of METRICS, the mean last.
    """
    values = jnp.stack([jax.vmap(metric, 1)(labels, predictions, where) for metric in METRICS.values()])  # [M, T]
    scored = jnp.any(where > 0, axis=0)
    mean = jnp.sum(jnp.where(scored, values, 0.0), 1) / jnp.maximum(jnp.sum(scored), 1)
    return jnp.concatenate([values, mean[:, None]], 1)


def mean_trait_metrics(
    labels: Real[AnyArray, "N T"], predictions: Real[AnyArray, "repeats N T"], where: Shaped[AnyArray, "N T"]
) -> Float[Array, "M T+1"]:
    """`trait_metrics` averaged over several predictions of the same rows."""
    return jnp.mean(jax.vmap(trait_metrics, (None, 0, None))(labels, predictions, where), 0)


def trait_metric_differences(
    labels: Real[AnyArray, "N T"], predictions: Real[AnyArray, "2 repeats N T"], where: Shaped[AnyArray, "N T"]
) -> Float[Array, "M T+1"]:
    """`mean_trait_metrics` of one method minus that of another: with `bootstrap` a paired comparison, as both are judged on
    the same resampled people.
    """
    return mean_trait_metrics(labels, predictions[0], where) - mean_trait_metrics(labels, predictions[1], where)


def resampled_people(key: PRNGKeyArray, people: int) -> Float32[Array, " {people}"]:
    """How often each person is drawn when `people` are drawn with replacement; their sum is `people`."""
    drawn = jax.random.randint(key, (people,), 0, people)
    return jnp.zeros(people).at[drawn].add(1.0)


def keys_needed(n: int) -> int:
    """Children of the key that `n` resamplings use: full rounds, as a remainder would be compiled a second time."""
    return -(-(n + 1) // RESAMPLINGS_AT_ONCE) * RESAMPLINGS_AT_ONCE


@functools.partial(jax.jit, static_argnames=("statistic", "n", "n_people"))
def bootstrap(
    statistic: Callable[..., jax.Array],
    labels: Real[AnyArray, " N *traits"],
    predictions: Real[AnyArray, "*of_statistic"],
    people: Int[AnyArray, " N"],
    key: PRNGKeyArray,
    n: int = 2000,
    *,
    n_people: int,
    where: Shaped[AnyArray, " N *traits"] | None = None,
) -> tuple[Float[Array, "*value"], Float[Array, "*value"], Float[Array, "*value"]]:
    """A statistic with its 95 % percentile interval; people are resampled, each with all of his or her rows.

    Args:
      statistic: function (labels, predictions, where) -> array of any shape.
      labels, predictions: as the statistic takes them.
      people: index of the row's person in 0 .. n_people - 1.
      key: resampling i uses its child number i, so equal keys give paired resamplings.
      where: optional mask.
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


def bootstrap_mean(
    values: Real[AnyArray, " P"], key: PRNGKeyArray, n: int = 2000
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Mean of one value per person with its 95 % interval: (value, low, high)."""
    values = jnp.asarray(values, jnp.float32)
    return bootstrap(_mean_statistic, values, values, jnp.arange(len(values)), key, n, n_people=len(values))


def masked_rows(
    labels: Real[AnyArray, "*rows"], predictions: Real[AnyArray, "*rows"], where: Shaped[AnyArray, "*rows"] | None
) -> tuple[Float32[Array, "*rows"], Float32[Array, "*rows"], Float32[Array, "*rows"]]:
    """Float32 rows with harmless zeros where the weight is 0, and the weights themselves."""
    labels, predictions = jnp.asarray(labels, jnp.float32), jnp.asarray(predictions, jnp.float32)
    weights = jnp.ones(labels.shape) if where is None else jnp.asarray(where, jnp.float32)
    return jnp.where(weights > 0, labels, 0.0), jnp.where(weights > 0, predictions, 0.0), weights


def weighted_mean(values: Float[AnyArray, "*rows"], weights: Float[AnyArray, "*rows"]) -> Float[Array, ""]:
    """Mean of values that count by weights; 0 where all weights are 0."""
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1e-30)


def _mean_statistic(values, _, where):
    return weighted_mean(values, where)


def deviations(values: Float[AnyArray, " N"], weights: Float[AnyArray, " N"]) -> tuple[Float[Array, " N"], Bool[Array, ""]]:
    """Values minus their weighted mean (0 where the weight is 0), and whether they are constant up to rounding."""
    shifted = values - weighted_mean(values, weights)
    # A second pass, because float32 loses digits in the first.
    deviation = jnp.where(weights > 0, shifted - weighted_mean(shifted, weights), 0.0)
    largest = jnp.max(jnp.where(weights > 0, jnp.abs(values), 0.0))
    return deviation, jnp.max(jnp.abs(deviation)) <= CONSTANT * largest

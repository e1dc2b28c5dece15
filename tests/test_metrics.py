import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from facedyn.core import identification, metrics


def plain_ccc(y, p):
    return 2 * np.mean((y - y.mean()) * (p - p.mean())) / (y.var() + p.var() + (y.mean() - p.mean()) ** 2)


REFERENCES = {
    "acc": lambda y, p: 1 - np.abs(y - p).mean(),
    "rmse": lambda y, p: np.sqrt(sklearn_metrics.mean_squared_error(y, p)),
    "r2": sklearn_metrics.r2_score,
    "pcc": lambda y, p: stats.pearsonr(y, p)[0],
    "ccc": plain_ccc,
}


def example(n=200, scale=1.0, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    return y * scale + shift, (0.6 * y + 0.5 * rng.normal(size=n) + 0.1) * scale + shift


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.1, 0.5), (1e-3, 10.0), (1e4, -3e4), (1e-12, 0.0), (1e12, 0.0)])
@pytest.mark.parametrize("name", metrics.METRICS)
def test_equals_reference(name, scale, shift):
    y, p = (v.astype(np.float32) for v in example(scale=scale, shift=shift))
    expected = REFERENCES[name](y.astype(float), p.astype(float))
    np.testing.assert_allclose(metrics.METRICS[name](y, p), expected, rtol=2e-5, atol=2e-6 * (scale if name == "rmse" else 1))


@pytest.mark.parametrize("name", metrics.METRICS)
def test_masked_rows_do_not_count_and_weights_repeat_rows(name):
    y, p = example(40)
    weights = np.random.default_rng(1).integers(0, 4, 40)
    expected = REFERENCES[name](np.repeat(y, weights), np.repeat(p, weights))
    y[weights == 0] = np.nan
    np.testing.assert_allclose(metrics.METRICS[name](y, p, weights), expected, rtol=2e-5)


def test_perfect_reversed_and_constant():
    y, _ = example()
    for metric in (metrics.pcc, metrics.ccc):
        np.testing.assert_allclose(metric(y, y), 1, rtol=1e-6)
        np.testing.assert_allclose(metric(y, -y), -1, rtol=0.02)
        for constant in (0.0, 0.1, 1e6 + 0.1):
            assert metric(y, np.full_like(y, constant)) == 0
            assert metric(np.full_like(y, constant), y) == 0
    assert metrics.r2(np.full(9, 0.1), np.linspace(0, 1, 9)) == 0
    assert metrics.pcc(y, y * 3 + 7) == pytest.approx(1, abs=1e-6)


def test_ccc_closed_form():
    # A shift b and a gain a of the very labels: CCC = 2 a / (1 + a^2 + b^2 / var).
    y, _ = example()
    a, b = 0.7, 0.4
    np.testing.assert_allclose(
        metrics.ccc(y, a * (y - y.mean()) + y.mean() + b), 2 * a / (1 + a**2 + b**2 / y.var()), rtol=1e-5
    )


def test_trait_metrics_leave_unscored_traits_out_of_the_mean():
    y, p = example(30)
    labels, predictions = np.stack([y, -y, y], 1), np.stack([p, p, p], 1)
    where = np.ones((30, 3))
    where[:, 2] = 0
    table = jax.jit(metrics.trait_metrics)(jnp.asarray(labels), jnp.asarray(predictions), jnp.asarray(where))
    assert table.shape == (5, 4)
    np.testing.assert_allclose(table[0], [metrics.pcc(y, p), -metrics.pcc(y, p), 0, 0], atol=1e-6)
    np.testing.assert_allclose(table[3, 3], (metrics.rmse(y, p) + metrics.rmse(-y, p)) / 2, rtol=1e-6)


def test_bootstrap_equals_a_loop_over_the_same_people():
    y, p = (v.astype(np.float32) for v in example(60))
    people, key, n = np.arange(60) // 3, jax.random.key(3), 50
    value, low, high = metrics.bootstrap(metrics.pcc, y, p, jnp.asarray(people), key, n, n_people=20)
    draws = []
    # The first child gives the value itself, the others a resampling each.
    for child in jax.random.split(key, metrics.keys_needed(n))[1 : n + 1]:
        drawn = np.asarray(jax.random.randint(child, (20,), 0, 20))
        rows = np.concatenate([np.flatnonzero(people == person) for person in drawn])
        draws.append(stats.pearsonr(y[rows], p[rows])[0])
    np.testing.assert_allclose(value, stats.pearsonr(y, p)[0], rtol=1e-5)
    np.testing.assert_allclose([low, high], np.percentile(draws, [2.5, 97.5]), rtol=1e-4)


def test_rows_of_one_person_do_not_narrow_the_interval():
    y, p = example(30)
    one = metrics.bootstrap(metrics.pcc, jnp.asarray(y), jnp.asarray(p), jnp.arange(30), jax.random.key(0), 500, n_people=30)
    many = (jnp.asarray(np.repeat(v, 10)) for v in (y, p, np.arange(30)))
    ten = metrics.bootstrap(metrics.pcc, *many, jax.random.key(0), 500, n_people=30)
    np.testing.assert_allclose(one, ten, atol=1e-5)


def test_interval_of_a_mean_covers_the_truth():
    samples = np.random.default_rng(0).normal(size=(300, 50))
    value, low, high = jax.vmap(lambda v: metrics.bootstrap_mean(v, jax.random.key(1), 400))(jnp.asarray(samples))
    np.testing.assert_allclose(value, samples.mean(1), atol=1e-5)
    # The percentile interval of 50 normal values covers a little less than 95 %.
    assert 0.90 <= np.mean((low < 0) & (high > 0)) <= 0.98


def test_identification_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(40, 30)) * 10.0 ** rng.integers(-3, 4, 30)
    queries = gallery + 2.5 * gallery.std(0) * rng.normal(size=gallery.shape)
    both = np.concatenate([gallery, queries])
    z = (both - both.mean(0)) / both.std(0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    ranks = np.array([1 + sum(z[40 + i] @ z[j] > z[40 + i] @ z[i] for j in range(40) if j != i) for i in range(40)])
    assert 1 < ranks.max() < 40
    np.testing.assert_array_equal(identification.match_ranks(queries, gallery), ranks)
    np.testing.assert_allclose(
        identification.top1_and_mrr(queries, gallery), [np.mean(ranks == 1), np.mean(1 / ranks)], rtol=1e-6
    )


def test_identification_limits():
    gallery = np.random.default_rng(0).normal(size=(20, 8))
    constant = np.concatenate([gallery, np.full((20, 1), 1e8)], 1)
    np.testing.assert_allclose(identification.top1_and_mrr(constant, constant), [1, 1])
    alike = np.ones((20, 8))
    np.testing.assert_allclose(identification.top1_and_mrr(alike, alike), [0, 1 / 20], rtol=1e-6)


def test_weights_of_features_in_identification():
    random = np.random.default_rng(11)
    person = random.normal(size=(30, 4))
    first, second = (np.concatenate([person, 3 * random.normal(size=(30, 40))], 1) for _ in range(2))
    weights = np.repeat([1.0, 0.0], [4, 40])
    np.testing.assert_array_equal(identification.match_ranks(first, second, weights), 1)
    np.testing.assert_array_equal(
        identification.match_ranks(first, second, weights), identification.match_ranks(first[:, :4], second[:, :4])
    )
    own, others = identification.distances(first, second, weights)
    np.testing.assert_allclose(own, 0, atol=1e-5)
    assert float(identification.match_ranks(first, second).mean()) > 1.5
    np.testing.assert_array_equal(
        identification.match_ranks(first, second, np.ones(44)), identification.match_ranks(first, second)
    )

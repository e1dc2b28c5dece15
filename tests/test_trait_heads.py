"""The solvers of the heads: the ridge of scikit-learn, and a network that learns what a ridge cannot."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from facedyn.core import trait_heads

SOLVERS = (trait_heads.ridge_closed_form_rotated, trait_heads.ridge_lbfgs_rotated)


def correlated(n, d, seed=0):
    """Features with a wide spectrum, far from zero mean, and a target that depends on them."""
    rng = np.random.default_rng(seed)
    x = 3 * rng.normal(size=(n, 10)) @ rng.normal(size=(10, d)) + rng.normal(size=(n, d)) + 2
    return x.astype(np.float32), (x[:, :5].sum(1) + 3 * rng.normal(size=n) + 1).astype(np.float32)


def relative(a, b):
    return np.linalg.norm(np.asarray(a, float) - b) / np.linalg.norm(b)


def ridge(solve, x, y, penalty, where=None):
    """(weights [D], intercept []) of a ridge on the rows that count, by a solver of their principal coordinates."""
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    where = jnp.ones(len(y), bool) if where is None else where.astype(bool)
    count = jnp.maximum(jnp.sum(where), 1)
    x, y = jnp.where(where[:, None], x, 0.0), jnp.where(where, y, 0.0)
    mean_x, mean_y = jnp.sum(x, 0) / count, jnp.sum(y) / count
    x, y = jnp.where(where[:, None], x - mean_x[None], 0.0), jnp.where(where, y - mean_y, 0.0)
    u, s, v = jnp.linalg.svd(x, full_matrices=False)
    weights = v.T @ solve(u * s[None], y, penalty)
    return weights, mean_y - mean_x @ weights


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("shape", [(60, 200), (60, 15)])
def test_ridge_is_that_of_scikit_learn(solve, shape):
    x, y = correlated(*shape)
    fit = jax.jit(functools.partial(ridge, solve))
    for penalty in (1e-2, 1.0, 1e2, 1e4, 1e6):
        reference = Ridge(alpha=penalty).fit(x.astype(float), y)
        weights, intercept = fit(x, y, penalty)
        assert relative(weights, reference.coef_) < 1e-4
        assert relative(x @ np.asarray(weights) + intercept, reference.predict(x)) < 1e-4


@pytest.mark.parametrize("solve", SOLVERS)
def test_masked_rows_do_not_count_also_under_vmap(solve):
    x, y = correlated(40, 60)
    masks = np.random.default_rng(0).random((3, 40)) < 0.7
    holes = np.where(masks, y, np.nan).astype(np.float32)
    penalties = np.array([1.0, 10.0, 100.0], np.float32)
    weights, intercepts = jax.vmap(functools.partial(ridge, solve, x))(holes, penalties, jnp.asarray(masks))
    for i, mask in enumerate(masks):
        reference = Ridge(alpha=penalties[i]).fit(x[mask].astype(float), y[mask])
        assert relative(weights[i], reference.coef_) < 1e-4
        np.testing.assert_allclose(intercepts[i], reference.intercept_, rtol=1e-3, atol=1e-3)


def test_lbfgs_minimises_on_columns_that_are_not_orthogonal():
    x, y = correlated(80, 6)
    x, y = x - x.mean(0), y - y.mean()
    weights = trait_heads.ridge_lbfgs_rotated(jnp.asarray(x), jnp.asarray(y), 5.0, max_steps=200)
    assert relative(weights, Ridge(alpha=5.0, fit_intercept=False).fit(x.astype(float), y).coef_) < 1e-3


def test_mlp_learns_what_a_ridge_cannot():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 4)).astype(np.float32)
    y = np.stack([np.abs(z[:, 0]) * 5 + 100, z[:, 1] * 1e-3], 1).astype(np.float32)
    where = rng.random(y.shape) < 0.8
    layers, losses = trait_heads.fit_mlp(
        jax.random.key(0), z, np.where(where, y, np.nan), jnp.asarray(where), hidden=32, steps=500, learning_rate=1e-2
    )
    predicted = np.asarray(trait_heads.apply_layers(layers, z))
    assert losses[-1] < 0.1 < 0.9 < losses[0]
    for t in range(2):  # also the labels that it did not see
        assert np.corrcoef(predicted[~where[:, t], t], y[~where[:, t], t])[0, 1] > 0.9
    assert abs(predicted[:, 0].mean() - y[:, 0].mean()) < 0.5

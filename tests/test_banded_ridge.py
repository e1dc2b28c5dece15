"""Banded ridge: against scikit-learn, against refits without each person, and that it finds the block that tells."""

import jax
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from facedyn.core import banded_ridge, trait_heads

N, SIZES = 48, (6, 20, 9)
BANDS = np.repeat(np.arange(len(SIZES)), SIZES)
# One program each: by itself, each of their operations is compiled, and that takes most of the time.
errors, inverse = jax.jit(banded_ridge.errors), jax.jit(banded_ridge.inverse_positive_definite)


def data(seed=0, noise=0.4):
    random = np.random.default_rng(seed)
    x = random.normal(2, 3, (N, len(BANDS))).astype(np.float32)
    told = [x[:, b == BANDS] @ random.normal(size=size) / np.sqrt(size) / 3 for b, size in enumerate(SIZES)]
    return x, np.stack([told[0], told[2]], 1) + noise * random.normal(size=(N, 2))


def test_errors_are_those_of_refits_without_each_person():
    x, y = data()
    y = (y - y.mean(0)) / y.std(0)
    people, strengths = np.arange(N) // 3 * (np.arange(N) % 7 > 0), np.array([-1.0, 0.5, -2.0])
    kernels = banded_ridge.kernels(x, np.ones(N, bool), BANDS)
    kernel = np.tensordot(np.exp(strengths), kernels, 1) + banded_ridge.INTERCEPT
    left_out = np.zeros_like(y)
    for person in set(people):
        own = people == person
        fit = KernelRidge(alpha=1.0, kernel="precomputed").fit(kernel[~own][:, ~own], y[~own])
        left_out[own] = fit.predict(kernel[own][:, ~own])
    found = errors(strengths, kernels, y, banded_ridge.members_of(people))
    np.testing.assert_allclose(found, ((y - left_out) ** 2).mean(0), rtol=2e-3)
    single = banded_ridge.members_of(np.arange(N))
    wide = np.pad(single, ((0, 0), (0, 1)), constant_values=-1)  # the general way, for one row per person
    by_rows, by_people = (errors(strengths, kernels, y, members) for members in (single, wide))
    np.testing.assert_allclose(by_rows, by_people, rtol=1e-4)


def test_with_one_band_it_is_scikit_learns_ridge():
    x, y = data()
    train = np.arange(N) % 4 > 0
    found = banded_ridge.fit(x, y, np.arange(N), train, np.zeros(len(BANDS), int))
    mean, sd = x[train].mean(0), x[train].std(0)
    for t in range(2):
        z = (x - mean) / sd
        size = (z[train] ** 2).sum(1).mean()
        ridge = Ridge(alpha=size / np.exp(found.log_strengths[t, 0])).fit(z[train], y[train, t] / y[train, t].std())
        np.testing.assert_allclose(found.predictions[:, t], ridge.predict(z) * y[train, t].std(), atol=0.02)


def test_no_grid_of_penalties_is_better_for_the_training_people():
    x, y = data()
    everyone, members = np.ones(N, bool), banded_ridge.members_of(np.arange(N))
    found = banded_ridge.fit(x, y, np.arange(N), everyone, BANDS)
    kernels, target = banded_ridge.kernels(x, everyone, BANDS), (y - y.mean(0)) / y.std(0)
    grid = np.stack(np.meshgrid(*[np.arange(-7.0, 4.0, 2.0)] * 3), -1).reshape(-1, 3)
    of_grid = np.log([errors(strengths, kernels, target, members) for strengths in grid])
    uneven = [banded_ridge.PRIOR * ((s - s.mean(-1, keepdims=True)) ** 2).sum(-1) for s in (grid, found.log_strengths)]
    assert (np.log(found.errors) + uneven[1] <= (of_grid + uneven[0][:, None]).min(0) + 0.02).all()
    # The band that tells of a trait is the strongest for it.
    assert found.log_strengths.argmax(1).tolist() == [0, 2]


def test_a_block_of_noise_costs_little():
    x, y = data()
    fold = np.arange(N) % 6
    told = x[:, BANDS == 0]
    noise = np.random.default_rng(9).normal(size=(N, 400)).astype(np.float32)
    both = np.concatenate([told, noise], 1)
    bands = np.repeat([0, 1], [told.shape[1], 400])

    def pcc(x, bands):
        return np.corrcoef(banded_ridge.cross_validate(x, y[:, :1], np.arange(N), fold, bands)[:, 0], y[:, 0])[0, 1]

    alone, banded, together = pcc(told, np.zeros(6, int)), pcc(both, bands), pcc(both, 0 * bands)
    assert banded > alone - 0.1
    assert banded > together + 0.2


def test_predictions_of_a_fold_do_not_depend_on_its_own_labels_and_rows_may_come_in_any_order():
    x, y = data()
    fold, people = np.arange(N) % 5, np.arange(N)
    found = banded_ridge.cross_validate(x, y, people, fold, BANDS)
    other = np.where(fold[:, None] == 2, -y, y)
    np.testing.assert_array_equal(banded_ridge.cross_validate(x, other, people, fold, BANDS)[fold == 2], found[fold == 2])
    order = np.random.default_rng(1).permutation(N)
    turned = banded_ridge.cross_validate(x[order], y[order], people[order], fold[order], BANDS)
    np.testing.assert_allclose(turned, found[order], atol=2e-2)


def test_the_head_predicts_what_the_fit_does():
    x, y = data()
    y[::5, 1], x[3, 4] = np.nan, np.nan
    weights = np.linspace(0.5, 2, len(BANDS))
    head, fitted = banded_ridge.fit_head(x, y, np.arange(N), BANDS, weights)
    np.testing.assert_allclose(trait_heads.predict(head, x), fitted.predictions, atol=2e-3)
    # Labels in another unit, and features that are constant or in another unit, change nothing.
    wide = np.concatenate([1000 * x, np.ones((N, 1), np.float32)], 1)
    bands, more = np.append(BANDS, 1), np.append(weights, 1.0)
    _, other = banded_ridge.fit_head(wide, 10 * y + 3, np.arange(N), bands, more)
    np.testing.assert_allclose(other.predictions, 10 * fitted.predictions + 3, atol=0.1)


def test_limit_cases():
    x, y = data()
    y[2:, 1], people = np.nan, np.arange(N)
    y[:2, 1] = 1.0  # two people, who are the same
    x[5] = np.nan
    found = banded_ridge.fit(x, y, people, people > 0, BANDS)
    assert np.isnan(found.predictions[5]).all()
    assert np.isnan(found.predictions[:, 1]).all()  # one labelled person is in training
    assert np.isfinite(np.delete(found.predictions[:, 0], 5)).all()
    assert np.isfinite(banded_ridge.fit(0 * x[6:], y[6:], people[6:], people[6:] > 9, BANDS).predictions[:, 0]).all()


@pytest.mark.parametrize("n", [1, 7, 32, 45])
def test_the_inverse_is_numpys(n):
    a = np.random.default_rng(n).normal(size=(n, n + 3)).astype(np.float32)
    a = a @ a.T + np.eye(n, dtype=np.float32)
    np.testing.assert_allclose(inverse(a), np.linalg.inv(a), atol=1e-4)


def test_folds_share_a_compilation():
    x, y = data()
    banded_ridge.fit(x, y, np.arange(N), np.arange(N) % 5 != 0, BANDS)
    before = banded_ridge.choose._cache_size()
    for k in range(1, 5):
        banded_ridge.fit(x, y, np.arange(N), np.arange(N) % 5 != k, BANDS)
    assert banded_ridge.choose._cache_size() == before


def test_no_product_is_rounded_by_an_accelerator():
    given = np.zeros(2, np.float32), np.zeros((2, 4, 4), np.float32), np.zeros((4, 1), np.float32), np.arange(4)[:, None]
    text = jax.jit(banded_ridge.errors).lower(*given).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot" in line]
    assert products
    assert all(line.count("HIGHEST") == 2 for line in products)

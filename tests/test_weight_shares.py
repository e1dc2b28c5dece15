import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA

from facedyn.core import cross_validation as cv
from facedyn.core import person_filters, trait_heads
from facedyn.core.pca import leading_coordinates
from facedyn.core.weight_shares import parts, weight_shares

SLOTS = person_filters.layout(person_filters.sites((2, 3)), "pointwise")  # skip0: 4 weights, bottleneck: 9
BLOCKS = ((1, "talk"), (1, "watch"), (4, "talk"))


def fitted(components=0, n=30, seed=0):
    """Features of three blocks, where only (1, 'watch')'s bottleneck holds the first trait, and heads fitted to them."""
    rng = np.random.default_rng(seed)
    stretches = parts(BLOCKS, SLOTS)
    x = rng.normal(size=(n, 3 * 13)) * rng.uniform(0.1, 5, 3 * 13) + 2
    x[:, 7] = 3.0  # constant
    hidden = rng.normal(size=n)
    own = next(s for s in stretches if (s.scale, s.task, s.site) == (1, "watch", "bottleneck"))
    x[:, own.offset : own.offset + own.size] += 8 * hidden[:, None]
    y = np.stack([hidden, rng.normal(size=n)], 1)
    y[0, 1] = np.nan
    settings = cv.RidgeSettings((10.0,), 5, 3, components, solver="closed_form")
    head, _, _ = cv.fit_ridge(x.astype(np.float32), y, np.arange(n).astype(str), settings)
    return head, x.astype(np.float32), stretches, own


@pytest.mark.parametrize("components", [0, 3])
def test_shares_are_those_of_a_loop_over_features(components):
    head, x, stretches, own = fitted(components)
    weights = np.array(head["layers"][0]["weights"])
    weights[:, 7] = 5.0  # of a constant feature, which says nothing
    head["layers"][0]["weights"] = weights
    squared, predicted = weight_shares(head, x, stretches)
    assert squared.sum(1) == pytest.approx(1.0)
    assert predicted.sum(1) == pytest.approx(1.0)
    full = np.asarray(trait_heads.predict(jax.tree.map(np.asarray, head), x))
    for t in range(2):
        w, mean, sd = head["layers"][0]["weights"][t, :, 0], head["mean"][t], head["sd"][t]
        for g, stretch in enumerate(stretches):
            contribution, size = np.zeros(len(x)), 0.0
            for d in range(stretch.offset, stretch.offset + stretch.size):
                if sd[d] > 0:
                    contribution += w[d] * (x[:, d] - mean[d]) / sd[d]
                    size += float(w[d]) ** 2
            share = np.cov(contribution, full[:, t])[0, 1] / full[:, t].var(ddof=1)
            assert predicted[t, g] == pytest.approx(share, abs=1e-3)
            assert squared[t, g] == pytest.approx(size / np.sum(np.square(w[sd > 0], dtype=float)), abs=1e-6)
    assert stretches[int(predicted[0].argmax())] == own


def test_stretches_cover_every_feature_once_in_the_order_of_the_blocks():
    stretches = parts(BLOCKS, SLOTS)
    covered = np.concatenate([np.arange(s.offset, s.offset + s.size) for s in stretches])
    assert np.array_equal(np.sort(covered), np.arange(3 * 13))
    assert [(s.scale, s.task) for s in stretches[::2]] == list(BLOCKS)


def test_a_head_that_predicts_the_same_for_everyone_has_no_shares():
    head, x, stretches, _ = fitted()
    head["layers"][0]["weights"] = np.zeros_like(head["layers"][0]["weights"])
    for shares in weight_shares(head, x, stretches):
        assert np.array_equal(shares, np.zeros((2, 6)))


def test_a_missing_task_counts_as_the_mean():
    head, x, stretches, _ = fitted()
    filled = x.copy()
    x[3, :13] = np.nan
    filled[3, :13] = head["mean"][0, :13]
    for of_absent, of_mean in zip(weight_shares(head, x, stretches), weight_shares(head, filled, stretches)):
        assert of_absent[0] == pytest.approx(of_mean[0], abs=1e-5)


def test_leading_coordinates_are_those_of_a_pca_of_z_scores():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(25, 4)) @ rng.normal(size=(4, 30)) + 0.1 * rng.normal(size=(25, 30))
    x[:, 3] = 1.0
    found, shares = leading_coordinates((x[:, :11], x[:, 11:]), 2)
    z = np.delete(x, 3, 1)
    z = (z - z.mean(0)) / z.std(0)
    reference = PCA(2).fit(z)
    assert np.abs(found) == pytest.approx(np.abs(reference.transform(z)), abs=1e-8)
    assert shares == pytest.approx(reference.explained_variance_ratio_)
    assert found[np.abs(found).argmax(0), [0, 1]].min() > 0


def test_leading_coordinates_of_one_row_or_of_equal_rows_are_zero():
    for x in (np.ones((1, 5)), np.ones((4, 5))):
        found, shares = leading_coordinates((x,), 2)
        assert np.array_equal(found, np.zeros((len(x), 2)))
        assert np.array_equal(shares, np.zeros(2))

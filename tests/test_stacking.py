"""Stacking of heads: a plain loop's weights, and what becomes of members that know nothing."""

import numpy as np
import scipy.optimize

from facedyn.core import cross_validation as cv
from facedyn.core import stacking

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)


def test_stacking_is_a_plain_loop_and_prefers_the_member_that_knows():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(60, 2))
    x = [
        np.concatenate([y + rng.normal(size=y.shape), rng.normal(size=(60, 5))], 1),
        rng.normal(size=(60, 8)),
        rng.normal(size=(60, 4)),
    ]
    ids, fold = np.arange(60), cv.person_folds(np.arange(60), 4, 0)
    settings = cv.RidgeSettings(PENALTIES, folds=4, inner_folds=3, solver="closed_form")
    members = [cv.cross_validate_ridge(m, y, ids, settings, fold) for m in x]
    inner, out = np.stack([m.inner for m in members]), np.stack([m.predictions for m in members])
    found = stacking.stack(inner, out, y, fold)
    for k, t in np.ndindex(4, 2):
        train, test = fold != k, fold == k
        p = inner[:, k, train, t].T.astype(float)
        reference = scipy.optimize.minimize(
            lambda w, p=p, train=train, t=t: np.sum((y[train, t] - y[train, t].mean() - (p - p.mean(0)) @ w) ** 2),
            np.full(3, 1 / 3),
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            tol=1e-10,
        ).x
        weights, means = stacking.convex_weights(p.T, y[train, t])
        np.testing.assert_allclose(weights, reference, atol=2e-3)
        expected = y[train, t].mean() + (out[:, test, t].T - means) @ weights
        np.testing.assert_allclose(found[test, t], expected, atol=1e-5)
    for t in range(2):  # nearly as good as the member that knows, though nobody said which that is
        best, mixed = (np.corrcoef(p[:, t], y[:, t])[0, 1] for p in (out[0], found))
        assert mixed > best - 0.1
    np.testing.assert_array_equal(stacking.choose(inner, y, fold), 0)
    assert (stacking.choose(inner, y, fold, worst=True) > 0).all()


def test_stacking_without_a_member_or_its_labels():
    rng = np.random.default_rng(1)
    y = rng.normal(size=(40, 1))
    x = [y + rng.normal(size=(40, 3)), y + rng.normal(size=(40, 3))]
    x[0][:5], x[1][2:8] = np.nan, np.nan
    fold = cv.person_folds(np.arange(40), 4, 0)
    settings = cv.RidgeSettings(PENALTIES, folds=4, inner_folds=3, solver="closed_form")

    def stacked(y):
        members = [cv.cross_validate_ridge(m, y, np.arange(40), settings, fold) for m in x]
        return stacking.stack(np.stack([m.inner for m in members]), np.stack([m.predictions for m in members]), y, fold)

    found = stacked(y)
    np.testing.assert_array_equal(np.isnan(found[:, 0]), (np.arange(40) >= 2) & (np.arange(40) < 5))
    changed = np.where((fold == 1)[:, None], 100 * rng.normal(size=y.shape), y)
    np.testing.assert_allclose(stacked(changed)[fold == 1], found[fold == 1], atol=1e-5)

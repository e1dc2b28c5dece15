"""Weights of z-scored features in a head: against scikit-learn, and against repeated columns."""

import numpy as np
from sklearn.linear_model import Ridge

from facedyn.core import coordinates, trait_heads
from facedyn.core import cross_validation as cv


def test_weights_of_features():
    random = np.random.default_rng(12)
    x = np.concatenate([random.normal(3, 2, (60, 5)), random.normal(0, 9, (60, 45))], 1)
    y = x[:, :2] + random.normal(0, 1, (60, 2))
    ids = np.arange(60)
    weights, settings = coordinates.same_say([5, 45]), cv.RidgeSettings((1.0, 30.0), 5, 3, (0,), 0)
    # Both parts have the variance of half of all features.
    np.testing.assert_allclose([np.sum(weights[:5] ** 2), np.sum(weights[5:] ** 2)], 25)
    fold = cv.person_folds(ids, 5, 0, y)
    found = cv.cross_validate_ridge(x, y, ids, settings, fold, weights)
    for k in range(5):
        train, held = fold != k, fold == k
        mean, sd = x[train].mean(0), x[train].std(0)
        for t in range(2):
            ridge = Ridge(alpha=float(found.penalties[k, t])).fit((x[train] - mean) / sd * weights, y[train, t])
            expected = ridge.predict((x[held] - mean) / sd * weights)
            np.testing.assert_allclose(found.predictions[held, t], expected, atol=2e-3)
    # The head has them in its sd; repeating the narrow part as often as it is outnumbered comes to the same.
    head, *_ = cv.fit_ridge(x, y, ids, settings, weights)
    repeated = np.repeat(x, [9] * 5 + [1] * 45, 1)
    same, *_ = cv.fit_ridge(repeated, y, ids, cv.RidgeSettings((1.8, 54.0), 5, 3, (0,), 0))
    np.testing.assert_allclose(trait_heads.predict(head, x), trait_heads.predict(same, repeated), atol=5e-3)

"""Weights of z-scored features in a head: against scikit-learn, and against repeated columns."""

import numpy as np
import pandas as pd
import pytest
from fake_workdir import small_config
from sklearn.linear_model import Ridge

from facedyn.core import cross_validation as cv
from facedyn.core import trait_heads
from facedyn.stages.fit import shared
from facedyn.stages.traits import saved_heads, trait_features, trait_predictions, trait_protocol


def test_weights_of_features():
    random = np.random.default_rng(12)
    x = np.concatenate([random.normal(3, 2, (60, 5)), random.normal(0, 9, (60, 45))], 1)
    y = x[:, :2] + random.normal(0, 1, (60, 2))
    ids = np.arange(60)
    weights, settings = np.sqrt(np.repeat([5.0, 5 / 9], [5, 45])), cv.RidgeSettings((1.0, 30.0), 5, 3, (0,), 0)
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


def test_parts_of_a_representation_have_an_equal_say_in_every_head():
    """The stage weighs the blocks so that each has the same variance, however many numbers it has."""
    config = small_config(
        fit__solver="least_squares", fit__filter_kind="low_rank", fit__blocks=("filters", "innovations", "step_correlations")
    )
    sizes = np.bincount(shared.features(config).bands)
    assert len(set(sizes)) == len(sizes) == 3
    weights = shared.features(config).weights
    of_parts = np.split(weights**2, np.cumsum(sizes)[:-1])
    np.testing.assert_allclose([part.sum() for part in of_parts], sum(sizes) / 3, rtol=1e-6)
    rows = pd.DataFrame(dict(unit_id=["a", "b"], person_id=["a", "b"], task="", session="", scale=1))
    subjects = trait_protocol.Subjects(["a", "b"], ["a", "b"], np.zeros((2, 1)))
    samples = trait_protocol.samples(config, subjects, rows, np.zeros((2, sum(sizes)), np.float32))
    np.testing.assert_array_equal(samples.weights_for(2 * sum(sizes)), np.tile(weights, 2))


@pytest.mark.parametrize("head", ["ridge", "mlp"])
def test_a_part_of_no_weight_has_no_say_in_what_is_predicted(head):
    """Predictions and saved heads go by the weights: next to none makes noise in the other part harmless."""
    random = np.random.default_rng(5)
    x, noise = (random.normal(size=(40, d)).astype(np.float32) for d in (3, 30))
    labels, fold = x[:, :1] + 0.1 * random.normal(size=(40, 1)), np.arange(40) % 4
    config = small_config(traits__heads=(head,), traits__pca=(0,), traits__mlp_seeds=1, traits__mlp_hidden=8)
    config.traits.mlp_weight_decay = (0.1,)

    def predicted(block):
        weights = np.array([1.0] * 3 + [1e-7] * 30)
        samples = trait_features.Samples(40, np.arange(40), np.arange(40), labels, {(1, "all"): block}, weights)
        found = trait_predictions.predict(config, samples, fold, {})
        heads, _ = saved_heads.fit_heads(config, samples, fold, found.mlp_head, {}, ("calm",))
        scored = trait_predictions.Scored(
            trait_protocol.Subjects(list(map(str, range(40))), list(map(str, range(40))), labels),
            ("calm",),
            samples,
            trait_predictions.ridge_settings(config),
        )
        again = scored.predict(scored.headline, samples, fold)
        (own,) = found.scored.values()
        return own, trait_heads.predict(heads[head].head, np.asarray(block)), again

    with_noise = predicted(np.concatenate([x, noise], 1))
    with_other = predicted(np.concatenate([x, noise[::-1]], 1))
    for one, other in zip(with_noise, with_other):
        np.testing.assert_allclose(one, other, atol=1e-3)

"""Folds by person, and heads whose settings are chosen inside each fold: as a plain loop has it, and blind to test labels."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facedyn.core import cross_validation as cv
from facedyn.core import mlp_validation, ridge_selection, trait_heads

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)

ALWAYS_TEN = (10.0,) * 5  # as many candidates, so that it shares the compilation


# Folds


def test_folds_are_disjoint_by_person_balanced_and_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.repeat([f"p{i}" for i in range(23)], rng.integers(1, 6, 23)))
    labels = rng.normal(size=(len(ids), 2))
    for args in ((), (labels,)):
        fold = cv.person_folds(ids, 5, 7, *args)
        of_person = {person: set(fold[ids == person]) for person in ids}
        assert all(len(folds) == 1 for folds in of_person.values())
        sizes = np.bincount([next(iter(f)) for f in of_person.values()])
        assert sorted(sizes) == [4, 4, 5, 5, 5]
        order = rng.permutation(len(ids))
        shuffled = cv.person_folds(ids[order], 5, 7, *(a[order] for a in args))
        np.testing.assert_array_equal(shuffled, fold[order])
        assert not np.array_equal(fold, cv.person_folds(ids, 5, 8, *args))
    with pytest.raises(ValueError, match="3 people cannot be dealt out to 5 folds"):
        cv.person_folds(["a", "b", "c"], 5, 0)


def test_balanced_folds_take_the_bias_from_a_head_that_learnt_nothing():
    labels = np.random.default_rng(0).normal(size=(96, 5))
    labels[::7, 2] = np.nan
    ids = np.arange(96)

    def mean_predictor_pcc(fold):
        predicted = cv.predict_mean(labels, fold)
        known = np.isfinite(labels)
        return [np.corrcoef(labels[k, t], predicted[k, t])[0, 1] for t, k in enumerate(known.T)]

    assert np.mean(mean_predictor_pcc(cv.person_folds(ids, 10, 0))) < -0.2
    assert min(mean_predictor_pcc(cv.person_folds(ids, 10, 0, labels))) > -0.1


# Nested cross-validation


class HeldRidge(Ridge):
    """scikit-learn's, its penalty held at three times the mean curvature of the training features."""

    def fit(self, x, y):
        spread = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
        spread = spread[spread > 1e-10 * spread[0]]
        self.held_ = self.alpha = min(self.alpha, 3 * spread.mean())
        return super().fit(x, y)


def plain_nested(x, y, ids, settings, fold):
    """The protocol with scikit-learn, a trait, fold and candidate at a time: predictions, choices, inner predictions."""
    folds, grid = fold.max() + 1, [(c, p) for c in np.atleast_1d(settings.components) for p in settings.penalties]
    predictions, inner_predictions = np.full(y.shape, np.nan), np.full((folds, *y.shape), np.nan)
    chosen = np.zeros((folds, y.shape[1], 2))

    def model(components, penalty):
        steps = [PCA(components, svd_solver="full")] if components else []
        return make_pipeline(*steps, HeldRidge(alpha=penalty))

    for k in range(folds):
        train = np.flatnonzero(fold != k)
        inner = cv.person_folds(ids[train], settings.inner_folds, settings.seed + 1 + k)
        for t in range(y.shape[1]):
            known = np.isfinite(y[:, t])
            guesses = np.full((len(grid), len(y)), np.nan)
            z = StandardScaler().fit(x[train][known[train]]).transform(x)  # of the outer fold, for the inner ones, too
            for j in range(inner.max() + 1):
                fit, judge = train[inner != j], train[inner == j]
                fit, judge = fit[known[fit]], judge[known[judge]]
                for i, candidate in enumerate(grid):
                    guesses[i, judge] = model(*candidate).fit(z[fit], y[fit, t]).predict(z[judge])
            best = np.nansum((guesses - y[:, t]) ** 2, 1).argmin()
            inner_predictions[k, :, t] = guesses[best]
            fit, test = train[known[train]], np.flatnonzero(fold == k)
            fitted = model(*grid[best]).fit(z[fit], y[fit, t])
            predictions[test, t] = fitted.predict(z[test])
            chosen[k, t] = grid[best][0], fitted[-1].held_
    return predictions, chosen, inner_predictions


def nested_example():
    rng = np.random.default_rng(0)
    people = 30
    ids = rng.permutation(np.repeat([f"p{i}" for i in range(people)], [1, 2] * (people // 2)))
    latent = rng.normal(size=(len(ids), 4))
    x = 2 * latent @ rng.normal(size=(4, 60)) + 2 * rng.normal(size=(len(ids), 60)) + 5
    y = np.stack([latent[:, 0], latent[:, 1] + rng.normal(size=len(ids)), rng.normal(size=len(ids))], 1)
    x[:, 7] = 0.1  # a constant feature
    return x.astype(np.float32).astype(float), y.astype(np.float32).astype(float), ids


@pytest.mark.parametrize(
    ("components", "missing", "solver"),
    [(0, False, "lbfgs"), (0, True, "closed_form"), (6, True, "lbfgs"), ((3, 0), True, "closed_form")],
)
def test_nested_cross_validation_is_that_of_a_plain_loop(components, missing, solver):
    x, y, ids = nested_example()
    if missing:
        y[::5, 0] = np.nan
    settings = cv.RidgeSettings(PENALTIES, folds=4, inner_folds=3, components=components, seed=3, solver=solver)
    fold = cv.person_folds(ids, 4, 3, y)
    found = cv.cross_validate_ridge(x, y, ids, settings)
    expected, chosen, inner = plain_nested(x, y, ids, settings, fold)
    np.testing.assert_allclose(found.penalties, chosen[..., 1], rtol=1e-4)
    assert len(np.unique(found.penalties.round(3))) > 2
    if not np.isscalar(components):
        assert len(np.unique(chosen[..., 0])) > 1
        np.testing.assert_array_equal(found.components == 3, chosen[..., 0] == 3)
    np.testing.assert_allclose(found.predictions, expected, atol=1e-4)
    np.testing.assert_allclose(found.inner, inner, atol=1e-4)


def test_one_person_a_fold_and_people_who_only_train():
    x, y, _ = nested_example()
    x, y, ids = x[:14], y[:14], np.arange(14)
    settings = cv.RidgeSettings((10.0,), inner_folds=3, solver="closed_form")
    split = LeaveOneOut().split(x)
    expected = np.stack([make_pipeline(StandardScaler(), Ridge(10.0)).fit(x[a], y[a]).predict(x[b])[0] for a, b in split])
    found = cv.cross_validate_ridge(x, y, ids, settings, fold=ids)
    np.testing.assert_allclose(found.predictions, expected, atol=1e-4)

    fold = np.where(ids < 9, -1, 0)
    found = cv.cross_validate_ridge(x, y, ids, settings, fold)
    expected = make_pipeline(StandardScaler(), Ridge(10.0)).fit(x[:9], y[:9]).predict(x[9:])
    np.testing.assert_allclose(found.predictions[9:], expected, atol=1e-4)
    assert np.isnan(found.predictions[:9]).all()
    assert np.isnan(found.inner[0, 9:]).all()
    means = cv.predict_mean(y, fold)
    np.testing.assert_allclose(means[9:], np.tile(y[:9].mean(0), (5, 1)), rtol=1e-5)
    assert np.isnan(means[:9]).all()


def test_without_signal_the_choice_of_the_penalty_costs_next_to_nothing(monkeypatch):
    """Mean PCC over ten draws of noise (standard error 0.014): near 0, where an unbounded choice is clearly below it."""

    def mean_pcc():
        found = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            x, y = rng.normal(size=(96, 20)), rng.normal(size=(96, 6))
            penalties = tuple(10.0**i for i in range(6))
            settings = cv.RidgeSettings(penalties, folds=10, inner_folds=5, seed=seed, solver="closed_form")
            out = cv.cross_validate_ridge(x, y, np.arange(96), settings).predictions
            found += [np.corrcoef(out[:, t], y[:, t])[0, 1] for t in range(6)]
        return np.mean(found)

    bounded = mean_pcc()
    assert abs(bounded) < 0.03
    monkeypatch.setattr(ridge_selection, "MAX_SHRINKAGE", 1e9)
    ridge_selection._fit.clear_cache()
    unbounded = mean_pcc()
    ridge_selection._fit.clear_cache()
    assert unbounded < bounded - 0.03


def test_test_labels_never_reach_their_own_prediction():
    x, y, ids = nested_example()
    settings = cv.RidgeSettings(PENALTIES, folds=4, inner_folds=3)
    fold = cv.person_folds(ids, 4, 0)
    before = cv.cross_validate_ridge(x, y, ids, settings, fold).predictions
    y[fold == 2] += 100 * np.random.default_rng(1).normal(size=y[fold == 2].shape)
    x[fold == 2] *= 3
    x_other = np.where((fold == 2)[:, None], x / 3, x)
    after = cv.cross_validate_ridge(x_other, y, ids, settings, fold).predictions
    np.testing.assert_allclose(after[fold == 2], before[fold == 2], atol=1e-5)
    assert np.abs(after[fold == 0] - before[fold == 0]).max() > 0.1


@pytest.mark.parametrize(("components", "features", "solver"), [(0, 60, "lbfgs"), (0, 9, "closed_form"), (5, 60, "lbfgs")])
def test_fitted_heads_predict_from_raw_features(components, features, solver):
    x, y, ids = nested_example()
    x, y[::6, 1] = x[:, :features], np.nan
    settings = cv.RidgeSettings(ALWAYS_TEN, folds=4, inner_folds=3, components=components, solver=solver)
    head, penalties, kept = cv.fit_ridge(x, y, ids, settings)
    predicted = np.asarray(trait_heads.predict(head, jnp.asarray(x, jnp.float32)))
    steps = [PCA(components, svd_solver="full")] if components else []
    for t in range(3):
        known = np.isfinite(y[:, t])
        reference = make_pipeline(StandardScaler(), *steps, Ridge(alpha=10.0)).fit(x[known], y[known, t])
        np.testing.assert_allclose(predicted[:, t], reference.predict(x), atol=2e-4)
    np.testing.assert_array_equal(penalties, 10)
    lacking = jnp.asarray(x[:1], jnp.float32).at[0, : features // 3].set(jnp.nan)
    filled = jnp.where(jnp.isnan(lacking), head["mean"][0][None], lacking)
    np.testing.assert_allclose(trait_heads.predict(head, lacking)[0, 0], trait_heads.predict(head, filled)[0, 0], atol=1e-5)


def test_mlp_generalises_and_its_head_reads_raw_features():
    x, y, ids = nested_example()
    y[::7, 2] = np.nan
    fold = cv.person_folds(ids, 4, 0)
    settings = mlp_validation.MlpSettings((0.01, 10.0), (0, 4), networks=3, inner_folds=3, hidden=16, steps=120)
    found = mlp_validation.cross_validate_mlp(x, y, ids, settings, fold)
    assert np.corrcoef(found.predictions[:, 0], y[:, 0])[0, 1] > 0.6
    np.testing.assert_allclose(found.predictions, found.networks.mean(0), rtol=1e-5)
    assert found.networks.std(0).max() > 0
    predicted = np.asarray(trait_heads.predict(found.head, jnp.asarray(x, jnp.float32)))
    assert np.corrcoef(predicted[:, 0], y[:, 0])[0, 1] > 0.8
    # What is predicted for a fold is what a head of its training rows says.
    held = mlp_validation.cross_validate_mlp(x, y, ids, settings, np.where(fold == 0, 0, -1), head_rows=fold != 0)
    same = mlp_validation.cross_validate_mlp(
        x,
        y,
        ids,
        dataclasses.replace(settings, weight_decays=(held.weight_decays[1],), components=4),
        fold,
        head_rows=fold != 0,
    )
    assert np.isnan(held.predictions[fold != 0]).all()
    for one in (held, same):
        out = np.asarray(trait_heads.predict(one.head, jnp.asarray(x, jnp.float32)))
        if one is same:
            np.testing.assert_allclose(out[fold == 0], one.predictions[fold == 0], atol=1e-3)


@pytest.mark.parametrize("harmful", [90.0, 500.0])  # the second makes the weights diverge
def test_mlp_chooses_the_weight_decay_that_predicts(harmful):
    """A decay that leaves nothing of the weights loses to a mild one, in every fold and for the head."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(48, 3))
    y, fold = x[:, :2] + 0.1 * rng.normal(size=(48, 2)), np.arange(48) % 3
    settings = mlp_validation.MlpSettings((harmful, 0.01), inner_folds=2, hidden=8, steps=60, learning_rate=1e-2)
    found = mlp_validation.cross_validate_mlp(x, y, np.arange(48), settings, fold)
    np.testing.assert_array_equal(found.weight_decays, np.float32(0.01))


def test_mlp_chooses_by_the_training_people_only():
    x, y, ids = nested_example()
    fold = cv.person_folds(ids, 3, 0)
    settings = mlp_validation.MlpSettings((0.01, 10.0), inner_folds=3, hidden=8, steps=40)
    before = mlp_validation.cross_validate_mlp(x, y, ids, settings, fold)
    y[fold == 1] *= -50
    after = mlp_validation.cross_validate_mlp(x, y, ids, settings, fold)
    np.testing.assert_array_equal(after.weight_decays[1], before.weight_decays[1])
    np.testing.assert_allclose(after.predictions[fold == 1], before.predictions[fold == 1], atol=1e-5)
    assert np.abs(after.predictions[fold == 0] - before.predictions[fold == 0]).max() > 0.1


def test_people_without_features_are_left_out_and_single_gaps_are_filled():
    x, y, ids = nested_example()
    settings = cv.RidgeSettings(ALWAYS_TEN, folds=4, inner_folds=3)
    fold = cv.person_folds(ids, 4, 0)
    x[3], x[5, :30] = np.nan, np.nan
    out = cv.cross_validate_ridge(x, y, ids, settings, fold)
    assert np.isnan(out.predictions[3]).all()
    assert not out.scored[3].any()
    assert np.isfinite(np.delete(out.predictions, 3, 0)).all()
    train = (fold != fold[5]) & (np.arange(len(ids)) != 3)
    filled = np.where(np.isnan(x[5]), x[train].mean(0), x[5])
    reference = make_pipeline(StandardScaler(), Ridge(alpha=10.0)).fit(x[train], y[train, 0])
    np.testing.assert_allclose(out.predictions[5, 0], reference.predict(filled[None])[0], atol=1e-4)


def test_feature_sets_of_the_same_people_share_a_compilation():
    x, y, ids = nested_example()
    settings = cv.RidgeSettings(PENALTIES, folds=5, inner_folds=3, solver="lbfgs")
    cv.cross_validate_ridge(x[:, :10], y, ids, settings)
    compiled = ridge_selection._fit._cache_size()
    for d in (30, 300, 1000):
        cv.cross_validate_ridge(np.random.default_rng(0).normal(size=(len(y), d)), y, ids, settings)
    assert ridge_selection._fit._cache_size() == compiled

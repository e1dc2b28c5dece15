"""What is computed some people or features at a time is what all of them at once give."""

import numpy as np
import pytest

from facedyn.core import banded_ridge, identification, mlp_validation, pca, ridge_selection
from facedyn.core import cross_validation as cv

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("weighted", [False, True])
def test_features_in_blocks_are_all_of_them(monkeypatch, weighted):
    x = RNG.normal(size=(30, 200)).astype(np.float32) + 3
    x[4, 7], x[:, 11] = np.nan, 2.0
    train, weights = np.arange(30) < 22, RNG.uniform(1, 2, 200) if weighted else None
    whole = pca.gram_matrix(x, train, weights), *pca.moments(x, train)
    monkeypatch.setattr(pca, "NUMBERS_AT_ONCE", 30 * 17)
    blocks = pca.gram_matrix(x, train, weights), *pca.moments(x, train)
    for one, other in zip(whole, blocks):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def test_coordinates_by_features_have_the_products_of_those_by_rows():
    """Fewer features than training rows: the products of the features are decomposed, not those of the rows."""
    x = RNG.normal(size=(60, 12)).astype(np.float32)
    x[:, 5] = x[:, 3]  # lacks a dimension
    x[7, 2] = np.nan
    train = np.arange(60) < 40
    found, basis = pca.principal_coordinates(x, train, 60)
    gram = pca.gram_matrix(x, train)
    np.testing.assert_allclose(found @ found.T, gram, atol=1e-3)
    np.testing.assert_allclose(gram @ basis, found, atol=1e-4)
    products = found[train].T @ found[train]
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-3)
    assert (np.diag(products) > 1e-3).sum() == 11
    assert (np.diff(np.diag(products)) <= 1e-3).all()


def test_few_components_of_many_people_are_the_leading_ones(monkeypatch):
    x = RNG.normal(size=(40, 60)) * np.geomspace(5, 0.5, 60)
    every, vectors = pca.eigenvectors(x @ x.T)
    monkeypatch.setattr(pca, "ALL_COMPONENTS", 30)
    for few in (32, 4):  # by LAPACK, and by Lanczos' method
        monkeypatch.setattr(pca, "FEW", few)
        values, leading = pca.eigenvectors(x @ x.T, 7)
        np.testing.assert_allclose(values, every[:7], rtol=1e-9)
        np.testing.assert_allclose(np.abs((leading * vectors[:, :7]).sum(0)), 1, atol=1e-9)


@pytest.mark.parametrize("rank", [0, 3])
def test_there_are_no_more_components_than_vary(monkeypatch, rank):
    """Of rows whose mean was taken off: the vector of ones, a usual start of Lanczos' method, has no part in what varies."""
    x = RNG.normal(size=(40, rank)) @ RNG.normal(size=(rank, 60))
    x = x - x.mean(0)
    monkeypatch.setattr(pca, "ALL_COMPONENTS", 30)
    monkeypatch.setattr(pca, "FEW", 4)
    values, vectors = pca.eigenvectors(x @ x.T, 7)
    assert vectors.shape == (40, rank)
    np.testing.assert_allclose(x @ x.T @ vectors, vectors * values, atol=1e-8)


def test_the_number_of_columns_takes_few_values():
    few = {pca.coordinate_columns(np.broadcast_to(0.0, (1000, d))) for d in range(1, 3000, 7)}
    assert few == {125, 250, 500, 1000}
    assert {pca.coordinate_columns(np.broadcast_to(0.0, (300, d))) for d in (1, 200, 3000)} == {300}


def ridge_example(n, d):
    latent = RNG.normal(size=(n, 3))
    x = (latent @ RNG.normal(size=(3, d)) + 2 * RNG.normal(size=(n, d)) + 1).astype(np.float32)
    return x, np.stack([latent[:, 0], RNG.normal(size=n)], 1)


@pytest.mark.parametrize("d", [15, 200])
def test_choosing_by_cholesky_and_by_eigenvectors_is_the_same(monkeypatch, d):
    x, y = ridge_example(80, d)
    x[:, -3:] = x[:, :3]  # repeated columns: less than full rank
    settings = cv.RidgeSettings((1.0, 10.0, 100.0, 1e3, 1e4), folds=4, inner_folds=3, solver="closed_form")
    fold = cv.person_folds(np.arange(80), 4, 0, y)
    found = cv.cross_validate_ridge(x, y, np.arange(80), settings, fold)
    monkeypatch.setattr(ridge_selection, "SMALLEST_PENALTY", 1e9)  # always by eigenvectors
    expected = cv.cross_validate_ridge(x, y, np.arange(80), settings, fold)
    np.testing.assert_allclose(found.penalties, expected.penalties, rtol=1e-4)
    np.testing.assert_allclose(found.predictions, expected.predictions, atol=1e-4)
    np.testing.assert_allclose(found.inner, expected.inner, atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_float32_products_of_many_rows_predict_what_float64_do(monkeypatch, weighted):
    x, y = ridge_example(90, 400)
    weights = RNG.uniform(0.5, 2, 400) if weighted else None
    fold, bands = cv.person_folds(np.arange(90), 3, 0, y), np.arange(400) // 150

    def predicted():
        settings = cv.RidgeSettings((1.0, 100.0, 1e4), inner_folds=3)
        ridge = cv.cross_validate_ridge(x, y, np.arange(90), settings, fold, weights)
        return ridge.predictions, ridge.inner, banded_ridge.kernels(x, fold > 0, bands, weights)

    double = predicted()
    monkeypatch.setattr(pca, "DOUBLE_ROWS", 0)
    for one, other in zip(predicted(), double):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_an_inner_fold_is_a_part_of_the_products_of_all(monkeypatch):
    """The features are multiplied once for each outer fold and group of labels, however many inner folds there are."""
    x, y = ridge_example(40, 90)
    y[:4, 1], made = np.nan, []
    original = pca.gram_matrix
    monkeypatch.setattr(pca, "gram_matrix", lambda *given: made.append(1) or original(*given))
    settings = cv.RidgeSettings((1.0, 1e3), inner_folds=5)
    cv.cross_validate_ridge(x, y, np.arange(40), settings, np.arange(40) % 4)
    assert len(made) == 4 * 2


def test_the_head_of_many_features_is_made_some_at_a_time(monkeypatch):
    x, y = ridge_example(50, 120)
    y[:6, 1], bands = np.nan, np.arange(120) // 40
    whole, _ = banded_ridge.fit_head(x, y, np.arange(50), bands)
    monkeypatch.setattr(pca, "NUMBERS_AT_ONCE", 50 * 17)
    some, _ = banded_ridge.fit_head(x, y, np.arange(50), bands)
    for t in range(2):
        np.testing.assert_allclose(some["layers"][0]["weights"][t], whole["layers"][0]["weights"][t], atol=1e-6)


def test_labels_of_many_traits_are_each_fitted_as_alone():
    """Permuted labels are further traits: they share what is computed of the features, and nothing else."""
    x, y = ridge_example(60, 100)
    many = np.concatenate([y, RNG.permuted(np.tile(y, (1, 4)), axis=0)], 1)
    settings = cv.RidgeSettings((1.0, 100.0, 1e4), folds=3, inner_folds=3, solver="closed_form")
    fold = cv.person_folds(np.arange(60), 3, 0)
    together = cv.cross_validate_ridge(x, many, np.arange(60), settings, fold)
    for t in (0, 1, 5):
        alone = cv.cross_validate_ridge(x, many[:, [t]], np.arange(60), settings, fold)
        np.testing.assert_allclose(together.penalties[:, t], alone.penalties[:, 0], rtol=1e-5)
        np.testing.assert_allclose(together.predictions[:, t], alone.predictions[:, 0], atol=1e-5)


@pytest.mark.parametrize("weights", [None, RNG.uniform(0, 1, 20)])
def test_queries_in_blocks_are_ranked_as_all_at_once(monkeypatch, weights):
    queries = RNG.normal(size=(75, 20)).astype(np.float32)
    gallery = (queries + RNG.normal(size=(75, 20))).astype(np.float32)
    similarity = np.asarray(identification.similarities(queries, gallery, weights))
    own = np.diagonal(similarity)
    ranks, within = (similarity >= own[:, None]).sum(1), 1 - own
    between = ((1 - similarity).sum(1) - within) / 74
    for at_once in (1024, 32):
        monkeypatch.setattr(identification, "QUERIES_AT_ONCE", at_once)
        np.testing.assert_array_equal(identification.match_ranks(queries, gallery, weights), ranks)
        np.testing.assert_allclose(np.stack(identification.distances(queries, gallery, weights)), [within, between], atol=1e-5)


@pytest.mark.parametrize("d", [30, 150])
def test_leading_components_of_many_people(monkeypatch, d):
    queries = (RNG.normal(size=(60, d)) * np.geomspace(5, 0.5, d) @ RNG.normal(size=(d, d))).astype(np.float32)
    gallery = (queries + RNG.normal(size=(60, d))).astype(np.float32)
    expected = np.concatenate(identification.leading_components(queries, gallery, 5))
    monkeypatch.setattr(pca, "ALL_COMPONENTS", 50)
    found = np.concatenate(identification.leading_components(queries, gallery, 5))
    assert found.shape == expected.shape
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=2e-3 * np.abs(expected).max())


def test_a_network_sees_the_leading_components_of_many_people(monkeypatch):
    x, y = ridge_example(60, 40)
    leading, _ = pca.principal_coordinates(x, np.ones(60, bool), 7)
    every, _ = pca.principal_coordinates(x, np.ones(60, bool), 60)
    np.testing.assert_allclose(leading, every[:, :7], atol=1e-5)
    settings = mlp_validation.MlpSettings((0.1, 1.0), networks=2, inner_folds=3, hidden=8, steps=20)
    fold = cv.person_folds(np.arange(60), 3, 0)
    monkeypatch.setattr(mlp_validation, "MAX_COMPONENTS", 7)
    few = mlp_validation.cross_validate_mlp(x, y, np.arange(60), settings, fold)
    assert few.head["layers"][0]["weights"].shape == (40, 16)
    # Training sets and inner folds one at a time give what all of them side by side give.
    monkeypatch.setattr(mlp_validation, "BYTES_AT_ONCE", 1)
    one_by_one = mlp_validation.cross_validate_mlp(x, y, np.arange(60), settings, fold)
    np.testing.assert_array_equal(few.weight_decays, one_by_one.weight_decays)
    np.testing.assert_allclose(few.predictions, one_by_one.predictions, atol=1e-4)

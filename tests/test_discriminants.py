"""Directions that tell people apart: scikit-learn's discriminant analysis, invariances, and other people identified by them."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from facedyn.core import identification


def measured_twice(people, features, seed, noise=1.0, own=8):
    """People who differ in a few directions, the same for every seed, under noise that features share."""
    shared = np.random.default_rng(99)
    ways, noisy = shared.normal(size=(own, features)), shared.normal(size=(12, features))
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, own)) @ ways
    return [
        centres + noise * (3 * random.normal(size=(people, 12)) @ noisy + random.normal(size=(people, features)))
        for _ in range(2)
    ]


def cosines(a, b):
    return np.abs(np.sum(a * b, 0)) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)


def test_directions_are_those_of_discriminant_analysis(monkeypatch):
    monkeypatch.setattr(identification, "SHRINKAGE", 0.0)
    first, second = measured_twice(80, 6, 0, noise=0.3, own=4)
    found = identification.discriminants(first, second, np.ones(6), 6)[:, ::-1]  # the most telling last
    rows = np.concatenate([first, second])
    rows = (rows - rows.mean(0)) / rows.std(0)
    reference = LinearDiscriminantAnalysis(solver="eigen").fit(rows, np.tile(np.arange(80), 2))
    np.testing.assert_allclose(cosines(found[:, :4], reference.scalings_[:, :4]), 1, atol=1e-4)
    # A direction's spread is the share of its variance that is between people, of which reliability is an estimate.
    spread = (rows @ found).std(0)
    assert spread[0] > 0.5
    np.testing.assert_allclose(
        spread[:4] ** 0.5, [max(identification.icc(*(rows @ found[:, i]).reshape(2, 80)), 0) ** 0.5 for i in range(4)], atol=0.1
    )


def test_other_people_are_told_apart_under_noise_that_features_share():
    first, second = measured_twice(100, 300, 1)
    reliability, found = identification.learn_discriminants(first, second)
    np.testing.assert_array_equal(reliability, identification.reliability(first, second))
    others = measured_twice(60, 300, 2)
    by_directions, by_reliability, alike = (
        float((identification.match_ranks(*others, weights) == 1).mean()) for weights in (found, reliability, None)
    )
    assert by_directions > 0.8
    assert by_directions > by_reliability + 0.5
    assert by_directions > alike + 0.5


def test_people_who_differ_in_many_ways_get_many_directions():
    random = np.random.default_rng(5)
    own = random.normal(size=(60, 200))
    _, found = identification.learn_discriminants(*(own + 1.5 * random.normal(size=own.shape) for _ in range(2)))
    assert found.shape[1] >= 30


def test_units_and_offsets_of_features_do_not_matter():
    first, second = measured_twice(50, 30, 3)
    factors, offset = np.geomspace(1e-3, 1e3, 30), np.linspace(-9, 9, 30)
    reliability = np.asarray(identification.reliability(first, second))
    expected = identification.discriminants(first, second, reliability, 12)
    found = identification.discriminants(first * factors + offset, second * factors + offset, reliability, 12)
    np.testing.assert_allclose(expected @ expected.T, found @ found.T, atol=1e-4)


def test_limit_cases():
    random = np.random.default_rng(4)
    first, second = random.normal(size=(2, 60, 20))
    # Noise: next to nothing is between people.
    assert np.linalg.norm(identification.discriminants(first, second, np.ones(20), 15), axis=0).max() < 1
    useless = np.ones(20)
    useless[3] = 0
    first[:, 5] = second[:, 5] = 7.0
    found = identification.discriminants(first, second, useless, 15)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[3], 0)
    np.testing.assert_array_equal(found[5], 0)
    assert np.isfinite(identification.discriminants(first, first, np.ones(20), 15)).all()  # alike in both
    for count in (0, 120):
        with pytest.raises(ValueError, match=f"count={count} must lie between 1 and 119"):
            identification.discriminants(first, second, useless, count)

"""Bases of a site: what a plain computation and scikit-learn find, what must not matter, ranks that lie in one another."""

import numpy as np
import pytest
from sklearn.decomposition import FastICA

from facedyn.core import bases, low_rank

FRAMES, LAG, NUMBERS = 600, 3, 20


def sources(random):
    """Four movements of unit variance and of some strong moves, each slower than the one before: [T, 4]."""
    noise, found = random.laplace(size=(FRAMES, 4)) ** 3, np.zeros((FRAMES, 4))
    for t in range(1, FRAMES):
        found[t] = np.array([0.0, 0.5, 0.9, 0.97]) * found[t - 1] + noise[t]
    return (found - found.mean(0)) / found.std(0)


@pytest.fixture(scope="module")
def movement():
    """(sources [T, 4], maps [T, D] in which the less predictable ones vary more, pairs of rows LAG apart)."""
    random = np.random.default_rng(0)
    of_sources, directions = sources(random), np.linalg.qr(random.normal(size=(NUMBERS, 4)))[0]
    maps = of_sources @ (directions * [8.0, 4.0, 2.0, 1.0]).T
    pairs = np.arange(FRAMES - LAG)[:, None] + [0, LAG]
    return of_sources, (maps - maps.mean(0)).astype(np.float32), pairs


def alike(found, expected):
    """Correlations without sign of coordinates [T, K] one by one."""
    return np.abs([np.corrcoef(a, b)[0, 1] for a, b in zip(found.T, expected.T)])


@pytest.mark.parametrize("name", bases.BASES)
def test_coordinates_have_unit_spread_and_smaller_ranks_are_their_beginning(movement, name):
    _, maps, pairs = movement
    whole = bases.BASES[name].learn(maps, pairs, 4)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(((maps @ whole) ** 2).mean(0), 1, atol=1e-3)
    for rank in (1, 3):
        np.testing.assert_allclose(bases.BASES[name].learn(maps, pairs, rank), whole[:, :rank], atol=1e-5)


@pytest.mark.parametrize("name", bases.BASES)
def test_turned_maps_have_the_same_coordinates(movement, name):
    """Which way round the numbers of a map are does not matter."""
    _, maps, pairs = movement
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(NUMBERS, NUMBERS)))[0]
    found = [x @ bases.BASES[name].learn(x, pairs, 4) for x in (maps, (maps @ turn).astype(np.float32))]
    assert alike(*found).min() > 0.999


@pytest.mark.parametrize("name", bases.BASES)
def test_directions_that_there_are_not_are_zeros(movement, name):
    _, maps, pairs = movement
    flat = maps @ np.linalg.qr(maps[:3].T)[0] @ np.linalg.qr(maps[:3].T)[0].T  # in three directions only
    found = bases.BASES[name].learn(flat.astype(np.float32), pairs, 6)
    assert found.shape == (NUMBERS, 6)
    np.testing.assert_array_equal(np.abs(found).max(0) > 0, [True] * 3 + [False] * 3)
    np.testing.assert_array_equal(bases.BASES[name].learn(np.zeros_like(maps), pairs, 2), 0)


def test_the_most_predictable_directions_are_found_whatever_their_size(movement):
    """Each basis finds what it is for: principal components are in the order of size, the predictable of slowness."""
    of_sources, maps, pairs = movement
    assert alike(maps @ bases.principal(maps, pairs, 4), of_sources).min() > 0.95
    assert alike(maps @ bases.predictable(maps, pairs, 4), of_sources[:, ::-1]).min() > 0.9


def test_the_predictable_are_those_of_a_plain_computation(movement):
    _, maps, pairs = movement
    _, _, rows = np.linalg.svd(maps.astype(np.float64), full_matrices=False)
    y = maps @ rows[:4].T  # principal components as they are
    now, later = y[pairs[:, 0]], y[pairs[:, 1]]
    lagged, instantaneous = now.T @ later + later.T @ now, now.T @ now + later.T @ later
    instantaneous += bases.SHRINKAGE * np.trace(instantaneous) / 4 * np.eye(4)
    values, vectors = np.linalg.eig(np.linalg.solve(instantaneous, lagged))
    expected = y @ vectors.real[:, np.argsort(-values.real)[:4]]
    assert alike(maps @ bases.predictable(maps, pairs, 4), expected).min() > 0.999


def test_played_backwards_the_same_directions_are_predictable(movement):
    _, maps, pairs = movement
    found = [bases.predictable(maps, some, 4) for some in (pairs, pairs[:, ::-1], pairs[::-1])]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-4)


def test_the_independent_are_those_of_scikit_learn(movement):
    _, maps, pairs = movement
    z = (maps @ low_rank.basis(maps, 4)).astype(np.float64)
    reference = FastICA(whiten=False, algorithm="parallel", fun="logcosh", w_init=np.eye(4), tol=1e-10, max_iter=2000)
    expected = reference.fit_transform(z)
    mixing = np.linalg.lstsq(expected, maps.astype(np.float64), rcond=None)[0]  # how each shows in the maps
    order = np.argsort(-np.square(mixing).sum(1) * (expected**2).mean(0))
    assert alike(maps @ bases.independent(maps, pairs, 4), expected[:, order]).min() > 0.999


def test_mixed_movements_are_separated_by_their_independence_alone():
    """Of equal size and without memory: only that one is peaked and one is flat tells them apart."""
    random = np.random.default_rng(2)
    of_sources = np.stack([random.laplace(size=FRAMES) ** 3, random.uniform(-1, 1, FRAMES), random.laplace(size=FRAMES)], 1)
    of_sources = (of_sources - of_sources.mean(0)) / of_sources.std(0) * [3.0, 2.0, 1.0]
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    maps = np.linalg.qr(random.normal(size=(NUMBERS, 3)))[0] @ turn @ of_sources.T
    found = maps.T @ bases.independent(maps.T.astype(np.float32), None, 3)
    assert alike(found, of_sources).min() > 0.98
    shuffled = random.permutation(FRAMES)
    again = maps.T @ bases.independent(maps.T[shuffled].astype(np.float32), None, 3)
    assert alike(again, found).min() > 0.999

"""Surrogates: the covariance of one person, the course in time of another; playing backwards."""

import numpy as np
import pytest

from facedyn.core import surrogates


def tracks(frames, rank, persistence, seed, sites=2, mix=True):
    """States [T, S, K] of a first-order process, mixed so that their covariance is full."""
    rng = np.random.default_rng(seed)
    x = np.zeros((frames, sites, rank))
    for t in range(1, frames):
        x[t] = persistence * x[t - 1] + rng.standard_normal((sites, rank))
    return np.einsum("tsk,skj->tsj", x, rng.standard_normal((sites, rank, rank))) if mix else x


def autocorrelation(z, lag=1):
    """Of whitened states, mean over coordinates, [S]: of a first-order process it is the persistence, however mixed."""
    z = surrogates.whiten(z)
    return np.mean(z[lag:] * z[:-lag], (0, 2))


def test_the_surrogate_has_the_persons_covariance_and_the_others_course():
    own, other = tracks(4000, 4, 0.2, 0), tracks(5000, 4, 0.9, 1)
    swapped = surrogates.swap_dynamics(own, other)
    assert swapped.shape == other.shape
    np.testing.assert_allclose(
        surrogates.covariance(swapped), surrogates.covariance(own), rtol=1e-4, atol=1e-4 * surrogates.covariance(own).max()
    )
    np.testing.assert_allclose(autocorrelation(swapped), autocorrelation(other), atol=1e-4)
    assert abs(autocorrelation(swapped) - autocorrelation(own)).min() > 0.5


def test_swapped_with_oneself_nothing_changes():
    own = tracks(500, 3, 0.5, 2)
    np.testing.assert_allclose(surrogates.swap_dynamics(own, own), own - own.mean(0), atol=1e-5 * np.abs(own).max())


def test_the_root_turns_the_coordinates_least():
    """Where nothing is correlated, every coordinate keeps its own course, only its spread changes."""
    own, other = tracks(300, 3, 0.5, 3, mix=False), tracks(300, 3, 0.5, 4, mix=False)
    own, other = (np.einsum("tsi,sij->tsj", x, surrogates.roots(surrogates.covariance(x))[1]) for x in (own, other))
    swapped = surrogates.swap_dynamics(own * [1.0, 2.0, 3.0], other)
    np.testing.assert_allclose(swapped, (other - other.mean(0)) * [1.0, 2.0, 3.0], atol=1e-4)


def test_means_are_those_of_each_clip():
    """A clip that stands elsewhere is no movement, so neither covariance nor course knows of it."""
    own, other = tracks(400, 3, 0.5, 5), tracks(400, 3, 0.5, 6)
    clip = np.repeat([3, 9], 200)
    moved = own + 100.0 * (clip == 9)[:, None, None], other - 50.0 * (clip == 3)[:, None, None]
    np.testing.assert_allclose(
        surrogates.swap_dynamics(*moved, clip, clip), surrogates.swap_dynamics(own, other, clip, clip), atol=1e-3
    )
    assert abs(surrogates.swap_dynamics(own, other, clip, clip)[:200].mean(0)).max() < 1e-4


@pytest.mark.parametrize("still", [slice(2, 3), slice(0, 3)])
def test_what_does_not_move_stays_still(still):
    own, other = tracks(300, 3, 0.5, 7, mix=False), tracks(300, 3, 0.5, 8, mix=False)
    other[..., still] = 4.0
    swapped = surrogates.swap_dynamics(own, other)
    assert np.isfinite(swapped).all()
    if still == slice(0, 3):
        assert (swapped == 0).all()
    own[..., still] = 1.0
    assert np.abs(surrogates.swap_dynamics(own, other)[..., still]).max() < 1e-6


def test_reversed_twice_is_as_before():
    windows = np.arange(10)[:, None] + np.arange(5)
    np.testing.assert_array_equal(surrogates.reverse(surrogates.reverse(windows)), windows)
    np.testing.assert_array_equal(surrogates.reverse(windows)[0], [4, 3, 2, 1, 0])

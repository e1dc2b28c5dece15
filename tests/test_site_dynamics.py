"""Filters in closed form: against scikit-learn and plain loops, what they must not depend on, and what shuffling leaves."""

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from facedyn.core import blocks, low_rank, person_filters, unet

S, K, N_CLIP, HALF = 2, 3, 40, 2  # sites, coordinates, frames of a clip, frames of a half window


def turning(frames, seed, angle=0.3, noise=0.0):
    """States [T, S, K] that turn in a plane, with a third coordinate of noise, and where the clip's middle is."""
    random = np.random.default_rng(seed)
    phase = angle * np.arange(frames)[:, None] + random.uniform(0, 6, S)
    states = np.stack([np.cos(phase), np.sin(phase), random.normal(0, 1, phase.shape)], -1)
    return (states + noise * random.normal(0, 1, states.shape) + random.normal(0, 5, (S, K))).astype(np.float32)


def unit_of(clips, padding=0):
    """(states, windows, clip, count) of some clips of states, with `padding` rows and frames behind."""
    windows, clip, before = [], [], 0
    for number, states in enumerate(clips):
        centres = np.arange(HALF, len(states) - HALF)
        windows.append(before + centres[:, None] + np.arange(-HALF, HALF + 1))
        clip += [number] * len(centres)
        before += len(states)
    count = len(clip)
    states = np.concatenate([*clips, np.full((padding, S, K), 9, np.float32)])
    windows = np.concatenate([*windows, np.zeros((padding, 2 * HALF + 1), int)])
    return states, windows, np.array(clip + [-1] * padding), np.int32(count)


def loop(clips):
    """State as it differs from the clip's mean and changes of both halves, a row at a time: [N, S, K], [N, 2, S, K]."""
    away, change = [], []
    for states in clips:
        rows = range(HALF, len(states) - HALF)
        mean = np.mean([states[t] for t in rows], 0)
        for t in rows:
            away.append(states[t] - mean)
            change.append([states[t] - states[t - HALF : t].mean(0), states[t + 1 : t + HALF + 1].mean(0) - states[t]])
    return np.array(away, np.float64), np.array(change, np.float64)


CLIPS = [turning(N_CLIP, 0, noise=0.1), turning(N_CLIP - 9, 1, noise=0.1)]
COMMON = np.random.default_rng(2).normal(0, 0.1, (S, 2, K, K)).astype(np.float32)


# One program each: by itself, each of their operations would be compiled.
normal_equations, solve = jax.jit(low_rank.normal_equations), jax.jit(low_rank.solve)
held_back_quality, held_back_errors = jax.jit(low_rank.held_back_quality), jax.jit(low_rank.held_back_errors)


def filters_of(unit, ridge=7.0, population=COMMON):
    return np.asarray(solve(*normal_equations(*unit), population, np.full(S, ridge)))


def test_filters_are_the_ridge_on_what_everybodys_filters_miss():
    filters = filters_of(unit_of(CLIPS))
    away, change = loop(CLIPS)
    for s in range(S):
        for m in range(2):
            missed = change[:, m, s] - away[:, s] @ COMMON[s, m].T
            expected = Ridge(alpha=7.0, fit_intercept=False).fit(away[:, s], missed).coef_
            np.testing.assert_allclose(filters[s, m], expected, atol=2e-4)


def test_padding_and_order_of_clips_do_not_matter():
    filters = filters_of(unit_of(CLIPS))
    np.testing.assert_allclose(filters_of(unit_of(CLIPS, padding=11)), filters, atol=1e-5)
    np.testing.assert_allclose(filters_of(unit_of(CLIPS[::-1])), filters, atol=1e-4)
    # What is added to a clip, a brighter light for one, changes nothing.
    np.testing.assert_allclose(filters_of(unit_of([CLIPS[0] + 3, CLIPS[1]])), filters, atol=1e-4)


def test_moments_of_units_add_up():
    both = normal_equations(*unit_of(CLIPS))
    single = [normal_equations(*unit_of([clip])) for clip in CLIPS]
    for together, parts in zip(both, zip(*single)):
        np.testing.assert_allclose(together, sum(parts), rtol=1e-4, atol=1e-3)


def test_limit_cases():
    unit = unit_of(CLIPS)
    empty = (*unit[:3], np.int32(0))
    np.testing.assert_array_equal(filters_of(empty), 0)
    assert np.abs(filters_of(unit, ridge=1e9)).max() < 1e-5
    still = unit_of([np.ones((N_CLIP, S, K), np.float32)])
    np.testing.assert_allclose(filters_of(still, population=0 * COMMON), 0, atol=1e-5)


def test_a_turning_state_has_the_turn_as_its_filter():
    unit = unit_of([turning(400, 3)])
    found = filters_of(unit, ridge=1e-3, population=0 * COMMON)[:, :, :2, :2]
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    after = sum(np.linalg.matrix_power(turn, k) for k in range(1, HALF + 1)) / HALF - np.eye(2)
    before = np.eye(2) - sum(np.linalg.matrix_power(turn.T, k) for k in range(1, HALF + 1)) / HALF
    for s in range(S):
        np.testing.assert_allclose(found[s], [before, after], atol=0.02)


def test_time_played_backwards_exchanges_the_halves():
    forwards = filters_of(unit_of(CLIPS), population=0 * COMMON)
    backwards = filters_of(unit_of([clip[::-1] for clip in CLIPS]), population=0 * COMMON)
    np.testing.assert_allclose(backwards, -forwards[:, ::-1], atol=1e-4)


def test_shuffled_frames_leave_nothing_but_the_way_back_to_the_mean():
    clip = turning(3000, 4)
    shuffled = clip[np.random.default_rng(0).permutation(len(clip))]
    found = filters_of(unit_of([shuffled]), population=0 * COMMON)
    np.testing.assert_allclose(found[:, 0], np.broadcast_to(np.eye(K), (S, K, K)), atol=0.1)
    np.testing.assert_allclose(found[:, 1], np.broadcast_to(-np.eye(K), (S, K, K)), atol=0.1)


def test_quality_on_held_back_rows():
    whole = turning(200, 5) * np.float32([1, 1, 0.1])
    train, held = unit_of([whole]), unit_of([whole[150:]], padding=3)
    filters = filters_of(train, population=0 * COMMON)
    error, before, after, rows = map(float, held_back_quality(0 * COMMON, filters, train, held))
    assert rows == 46
    assert before == 0.5 * rows  # no opinion
    assert after > 0.8 * rows
    states, windows, _, count = held
    mean = loop([whole])[0][0] - whole[HALF]  # minus the mean of the clip in the fit
    away = states[windows[:, HALF]] + mean
    _, change = loop([states[:50]])
    expected = [np.einsum("smij,sj->msi", filters, away[t]) for t in range(count)]
    assert error == pytest.approx(np.square(change - expected).mean((1, 2, 3)).sum(), rel=1e-3)


def test_every_site_counts_alike_in_the_quality():
    """Exchanging the sites changes no figure, though one site is predicted well and the other is noise."""
    whole = turning(120, 9) * np.float32([1, 1, 0.1])
    whole[:, 1] = np.random.default_rng(9).normal(size=whole[:, 1].shape)
    parts = unit_of([whole[:80]]), unit_of([whole[80:]])
    filters = filters_of(parts[0], population=0 * COMMON)
    exchanged = [(part[0][:, ::-1], *part[1:]) for part in parts]
    found = held_back_quality(COMMON, filters, *parts)
    np.testing.assert_allclose(found, held_back_quality(COMMON[::-1], filters[::-1], *exchanged), rtol=1e-4)
    # And each site has a part in it: without the first one's filters fewer pairs are in order.
    _, _, after, _ = held_back_quality(COMMON, filters * np.float32([0, 1])[:, None, None, None], *parts)
    assert after < found[2]


def test_errors_of_candidates_are_those_of_fits_with_them():
    train, held = unit_of([clip[:25] for clip in CLIPS]), unit_of([clip[21:] for clip in CLIPS], padding=2)
    errors = np.asarray(held_back_errors(COMMON, train, held, np.float32([1, 100])))
    assert errors.shape == (2, S)
    for ridge, of_sites in zip((1.0, 100.0), errors):
        filters = filters_of(train, ridge)
        error, *_ = held_back_quality(COMMON, filters, train, held)
        assert of_sites.mean() == pytest.approx(float(error), rel=1e-4)


def test_patterns_are_whitened_principal_components():
    random = np.random.default_rng(6)
    maps = (random.normal(0, 1, (60, 5)) * [5, 3, 1, 0.3, 0.1]) @ random.normal(0, 1, (5, 40))
    maps -= maps.mean(0)
    found = maps @ low_rank.basis(maps, 4)
    expected = PCA(4, whiten=True, svd_solver="full").fit_transform(maps) * np.sqrt(60 / 59)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    few = low_rank.basis(maps[:, :3], 6)
    np.testing.assert_array_equal(few[:, 3:], 0)
    assert np.abs(few[:, 2]).max() > 0
    # What a state looks like: least squares.
    pixels = random.normal(0, 1, (60, 7))
    pixels -= pixels.mean(0)
    np.testing.assert_allclose(low_rank.readout(found, pixels), np.linalg.lstsq(found, pixels, rcond=None)[0], atol=1e-4)


def test_layout_and_feature_maps_agree_with_the_u_net():
    model = unet.UNet(channels=(4, 6), groups=2, image_channels=1)
    params = unet.init(model, jax.random.key(0), 8)
    maps = jax.jit(lambda p, x: unet.feature_maps(model, p, x))(params, np.zeros((2, 8, 8, 1), np.uint8))
    sites = person_filters.sites(model.channels, "all,dynamic_representation", of_maps=2)
    assert {site.name: site.channels for site in sites} == {name: h.shape[-1] for name, h in maps.items()}
    slots = blocks.layout(("filters",), sites, K)
    vector = np.arange(sum(slot.size for slot in slots), dtype=np.float32)
    by_site = person_filters.unflatten(vector, slots)
    assert {f.shape for f in by_site.values()} == {(2, K, K)}
    np.testing.assert_array_equal(person_filters.flatten(by_site, slots), vector)


def test_elimination_solves_what_numpy_does():
    random = np.random.default_rng(8)
    rows = random.normal(size=(400, 32)) * np.geomspace(1, 0.03, 32)  # states of few units are far from white
    left = rows.T @ rows + np.eye(32)
    right = rows.T @ random.normal(size=(400, 64))
    found = jax.jit(low_rank.solve_positive_definite)(left.astype(np.float32), right.astype(np.float32))
    np.testing.assert_allclose(found, np.linalg.solve(left, right), atol=1e-4)

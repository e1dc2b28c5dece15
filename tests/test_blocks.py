"""The blocks of a representation: against scipy and numpy in a loop, and what they see that linear filters cannot."""

import jax
import numpy as np
import pytest
from scipy import stats
from test_site_dynamics import CLIPS, COMMON, HALF, K, S, filters_of, loop, normal_equations, turning, unit_of

from facedyn.core import blocks, low_rank, person_filters
from facedyn.core.person_filters import Site


def of(unit, filters):
    return np.asarray(jax.jit(blocks.innovations)(filters, 0 * filters, *unit))  # compiled as one program, not by the operation


def test_moments_are_those_of_what_the_filters_leave():
    filters = COMMON + filters_of(unit_of(CLIPS))
    found, (away, change) = of(unit_of(CLIPS, padding=5), filters), loop(CLIPS)
    step = np.concatenate([clip[HALF + 1 : -HALF + 1] - clip[HALF:-HALF] for clip in CLIPS])
    assert found.shape == (S, 3, 3, K)
    for s in range(S):
        left = [change[:, m, s] - away[:, s] @ filters[s, m].T for m in range(2)] + [step[:, s]]
        own = np.sqrt(np.mean(away[:, s] ** 2, 0))
        for i, x in enumerate(left):
            np.testing.assert_allclose(found[s, i, 0], np.log(x.std(0) / own), atol=0.02)
            np.testing.assert_allclose(found[s, i, 1], stats.skew(x), atol=1e-3)
            np.testing.assert_allclose(found[s, i, 2], np.log(stats.kurtosis(x, fisher=False)), atol=3e-3)


def test_a_fast_rise_and_a_fast_fall_have_the_same_filters_and_other_innovations():
    random = np.random.default_rng(0)
    gaps = random.integers(4, 20, 400)
    rises = np.concatenate([np.linspace(1, 0, gap) for gap in gaps])  # up at once, down slowly
    clip = np.broadcast_to(rises[:, None, None], (len(rises), S, K)).astype(np.float32)
    forwards, backwards = unit_of([clip]), unit_of([clip[::-1].copy()])
    filters = [filters_of(unit, ridge=1.0, population=0 * COMMON) for unit in (forwards, backwards)]
    # What a linear filter says of one coordinate is the same either way, the halves exchanged in sign and place too.
    np.testing.assert_allclose(filters[0], filters[1], atol=0.01)
    steps = [of(unit, own)[:, 2, 1] for unit, own in zip((forwards, backwards), filters)]
    assert steps[0].min() > 1
    np.testing.assert_allclose(steps[0], -steps[1], atol=0.01)


def test_limit_cases():
    states, windows, clip, _ = unit_of(CLIPS)
    np.testing.assert_array_equal(of((states, windows, clip, np.int32(0)), COMMON), 0)
    still = of(unit_of([np.ones((20, S, K), np.float32)]), 0 * COMMON)
    assert np.isfinite(still).all()
    np.testing.assert_allclose(still[:, :, :2], 0, atol=1e-5)


def test_units_of_two_parts_are_those_of_all_their_rows():
    whole = unit_of(CLIPS, padding=3)
    states, windows, clip, count = whole
    rows = np.arange(len(windows)) % 3 == 0  # every third row is held back
    parts = []
    for chosen in (~rows, rows):
        chosen = np.flatnonzero(chosen & (np.arange(len(windows)) < count))
        parts.append((states, np.pad(windows[chosen], ((0, 4), (0, 0))), np.pad(clip[chosen], (0, 4)), np.int32(len(chosen))))
    both = jax.jit(low_rank.concatenate_rows)(*parts)
    assert int(both[3]) == count
    for found, expected in zip(normal_equations(*both), normal_equations(*whole)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    filters = COMMON + filters_of(whole)
    np.testing.assert_allclose(of(both, filters), of(whole, filters), atol=1e-4)


def test_step_correlations_is_the_correlation_of_steps():
    unit = unit_of(CLIPS, padding=5)
    found = block("step_correlations", unit)
    step = np.concatenate([clip[HALF + 1 : -HALF + 1] - clip[HALF:-HALF] for clip in CLIPS])
    assert found.shape == (S, K * (K - 1) // 2)
    for s in range(S):
        expected = np.corrcoef(step[:, s].T)[np.triu_indices(K, 1)]
        np.testing.assert_allclose(np.tanh(found[s]), expected, atol=1e-3)
    equal = unit_of([np.repeat(clip[:, :, :1], K, 2) for clip in CLIPS])
    np.testing.assert_allclose(np.tanh(block("step_correlations", equal)), blocks.LARGEST_CORRELATION, atol=1e-4)


def block(name, unit):
    k = unit[0].shape[-1]
    common = COMMON[..., :k, :k]
    return np.asarray(jax.jit(blocks.BLOCKS[name].compute)(common, 0 * common, *unit))


def test_autocorrelations_are_those_of_frames_so_far_apart():
    found = block("autocorrelations", unit_of(CLIPS, padding=5))
    assert found.shape == (S, len(blocks.LAGS), K)
    for i, lag in enumerate(blocks.LAGS):
        if lag > 2 * HALF:  # no window holds both frames
            np.testing.assert_array_equal(found[:, i], 0)
            continue
        first = (2 * HALF + 1 - lag) // 2
        pairs = []
        for clip in CLIPS:
            starts = np.arange(len(clip) - 2 * HALF) + first
            pairs.append([x - x.mean(0) for x in (clip[starts], clip[starts + lag])])
        earlier, later = (np.concatenate(x) for x in zip(*pairs))
        expected = (earlier * later).sum(0) / np.sqrt((earlier**2).sum(0) * (later**2).sum(0))
        np.testing.assert_allclose(found[:, i], expected, atol=1e-3)
    # A state that turns by 0.3 a frame has the correlation cos(0.3 lag).
    turned = block("autocorrelations", unit_of([turning(2000, 3)]))
    np.testing.assert_allclose(turned[:, 0, :2], np.cos(0.3), atol=0.01)


def test_amplitude_is_the_log_of_the_standard_deviation():
    found = block("amplitude", unit_of(CLIPS, padding=5))
    away, _ = loop(CLIPS)
    np.testing.assert_allclose(found, np.log(away.std(0) + blocks.FLOOR), atol=1e-4)
    twice = block("amplitude", unit_of([2 * clip for clip in CLIPS]))
    np.testing.assert_allclose(twice - found, np.log(2), atol=0.01)


def whitened_by_loop(clips, lag):
    """[S, K, K], by numpy: states of a clip, centred, the pair that lies round the middle of each window."""
    first = (2 * HALF + 1 - lag) // 2
    rows = [np.arange(len(clip) - 2 * HALF) for clip in clips]

    def centred(offset):
        parts = [clip[r + offset] for clip, r in zip(clips, rows)]
        return np.concatenate([part - part.mean(0) for part in parts]).astype(float)

    now, earlier, later = centred(HALF), centred(first), centred(first + lag)
    found = []
    for s in range(S):
        c = now[:, s].T @ now[:, s] / len(now)
        c += (low_rank.SHRINKAGE * np.trace(c) / K + low_rank.SMALLEST_VARIANCE) * np.eye(K)
        whiten = np.linalg.inv(np.linalg.cholesky(c))
        found.append(whiten @ (later[:, s].T @ earlier[:, s] / len(now)) @ whiten.T)
    return np.stack(found)


def test_whitened_covariances_are_those_of_a_loop_and_the_spectrum_has_their_eigenvalues():
    unit = unit_of(CLIPS, padding=5)
    found, spectra = block("whitened_covariances", unit), block("spectrum", unit)
    for i, lag in enumerate(blocks.LAGS):
        if lag > 2 * HALF:
            np.testing.assert_array_equal(found[:, i], 0)
            continue
        expected = whitened_by_loop(CLIPS, lag)
        np.testing.assert_allclose(found[:, i], expected, atol=2e-3)
        symmetric, skew = (expected + expected.swapaxes(1, 2)) / 2, (expected - expected.swapaxes(1, 2)) / 2
        values = np.linalg.eigvalsh(symmetric)[:, ::-1]
        turning_round = np.linalg.svd(skew, compute_uv=False)[:, : 2 * (K // 2) : 2]
        np.testing.assert_allclose(
            spectra[:, i, -len(values[0]) - K // 2 :], np.concatenate([values, turning_round], 1), atol=5e-3
        )


def test_whitened_blocks_do_not_see_what_a_face_looks_like():
    """Another linear map of the same time courses, as another face would show them: its size and shape are taken out."""
    random = np.random.default_rng(4)
    scales, turned = np.exp(0.3 * random.normal(size=(S, K))), np.linalg.qr(random.normal(size=(S, K, K)))[0]
    stretched = [(clip * scales).astype(np.float32) for clip in CLIPS]
    rotated = [np.einsum("tsk,sjk->tsj", clip, turned).astype(np.float32) for clip in CLIPS]
    whitened, spectra = (block(name, unit_of(CLIPS)) for name in ("whitened_covariances", "spectrum"))
    assert np.abs(block("whitened_covariances", unit_of(stretched)) - whitened).max() < 0.12  # but for the shrinkage
    assert np.abs(block("amplitude", unit_of(stretched)) - block("amplitude", unit_of(CLIPS))).max() > 0.2  # which sees it
    assert np.abs(block("whitened_covariances", unit_of(rotated)) - whitened).max() > 0.1  # which turn with it
    np.testing.assert_allclose(block("spectrum", unit_of(rotated)), spectra, atol=0.05)


def test_a_smaller_rank_is_a_part_of_a_larger():
    names, sites = (
        tuple(name for name in blocks.BLOCKS if name not in ("filters", "innovations", "spectrum")),
        (Site("deep", 4),),
    )
    states, *rows = unit_of(CLIPS)
    for r in range(1, K):
        whole = np.concatenate([block(name, (states, *rows))[0].reshape(-1) for name in names])
        part = np.concatenate([block(name, (states[..., :r], *rows))[0].reshape(-1) for name in names])
        chosen = blocks.leading(names, sites, K, r)
        # But for what is added to the variances, a share of their mean.
        np.testing.assert_allclose(whole[chosen], part, atol=0.1)


def test_every_block_and_every_rank_counts_the_same():
    names, sites, rank = tuple(blocks.BLOCKS), (Site("deep", 4), Site("shallow", 2)), 8
    squared, of_bands = blocks.weights(names, sites, rank) ** 2, blocks.bands(names, sites, rank)
    np.testing.assert_allclose(np.bincount(of_bands, squared), len(squared) / len(names), rtol=1e-6)
    assert len(squared) == sum(slot.size for slot in blocks.layout(names, sites, rank))
    filters = squared[of_bands == 0].reshape(2, 2, rank, rank)
    assert filters[..., :4, :4].min() > 2 * filters[..., 4:, :].max()  # what is about four coordinates is about eight, too
    spectra = blocks.leading(("spectrum",), sites[:1], rank, 4)
    assert spectra.sum() == len(blocks.LAGS) * 6  # four eigenvalues and two sizes


@pytest.mark.parametrize("k", [2, 5, 16, 32])
def test_eigenvalues_are_lapacks(k):
    a = np.random.default_rng(k).normal(size=(20, k, k))
    a = (a + a.swapaxes(1, 2)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(blocks.symmetric_eigenvalues)(a), np.linalg.eigvalsh(a)[:, ::-1], atol=1e-4)


@pytest.mark.parametrize("name", blocks.BLOCKS)
def test_every_block_has_its_shape_ignores_padding_and_is_zero_without_rows(name):
    unit, padded = unit_of(CLIPS), unit_of(CLIPS, padding=7)
    found = block(name, unit)
    assert found.shape == (S, *blocks.BLOCKS[name].shape(K))
    np.testing.assert_allclose(block(name, padded), found, atol=1e-4)
    still = block(name, unit_of([np.ones((20, S, K), np.float32)]))
    assert np.isfinite(still).all()
    if name in ("step_correlations", "autocorrelations"):
        np.testing.assert_array_equal(still, 0)
    if name != "filters":  # which the solver makes zero
        np.testing.assert_array_equal(block(name, (*unit[:3], np.int32(0))), 0)


def test_the_layout_names_every_number():
    sites, names = (Site("deep", 4), Site("shallow", 2)), tuple(blocks.BLOCKS)
    unit = unit_of(CLIPS)
    vector = np.asarray(jax.jit(blocks.represent, static_argnums=0)(names, COMMON, 0 * COMMON, *unit))
    slots = blocks.layout(names, sites, K)
    assert len(vector) == sum(slot.size for slot in slots) == len(blocks.bands(names, sites, K))
    by_slot = person_filters.unflatten(vector, slots)
    assert len(by_slot) == len(names) * len(sites)
    for name in names:
        for s, site in enumerate(sites):
            np.testing.assert_allclose(by_slot[blocks.slot_name(name, site.name)], block(name, unit)[s], atol=1e-5)
    assert blocks.slot_name("filters", "deep") == "deep"
    assert blocks.slot_name("innovations", "deep") == "deep_innovations"
    assert set(blocks.bands(("filters", "step_correlations"), sites, 1)) == {0}  # no pair of one coordinate

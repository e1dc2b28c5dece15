"""Innovations: their moments against scipy in a loop, and that they see what linear filters cannot."""

import numpy as np
from scipy import stats
from test_site_dynamics import CLIPS, COMMON, HALF, K, S, filters_of, loop, unit_of

from facedyn.core import innovations, low_rank
from facedyn.core.person_filters import Site


def of(unit, filters):
    return np.asarray(innovations.innovations(filters, *unit))


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
    both = low_rank.concatenate_rows(*parts)
    assert int(both[3]) == count
    for found, expected in zip(low_rank.normal_equations(*both), low_rank.normal_equations(*whole)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    filters = COMMON + filters_of(whole)
    np.testing.assert_allclose(of(both, filters), of(whole, filters), atol=1e-4)


def test_step_correlations_is_the_correlation_of_steps():
    states, windows, _, count = unit_of(CLIPS, padding=5)
    found = np.asarray(innovations.step_correlations(states, windows, count))
    step = np.concatenate([clip[HALF + 1 : -HALF + 1] - clip[HALF:-HALF] for clip in CLIPS])
    assert found.shape == (S, K * (K - 1) // 2)
    for s in range(S):
        expected = np.corrcoef(step[:, s].T)[np.triu_indices(K, 1)]
        np.testing.assert_allclose(np.tanh(found[s]), expected, atol=1e-3)
    alike = unit_of([np.repeat(clip[:, :, :1], K, 2) for clip in CLIPS])
    np.testing.assert_allclose(
        np.tanh(innovations.step_correlations(*alike[:2], alike[3])), innovations.LARGEST_CORRELATION, atol=1e-4
    )
    np.testing.assert_array_equal(innovations.step_correlations(states, windows, np.int32(0)), 0)
    still = unit_of([np.ones((20, S, K), np.float32)])
    np.testing.assert_array_equal(innovations.step_correlations(*still[:2], still[3]), 0)


def test_layout_stands_behind_the_filters():
    sites = (Site("deep", 4), Site("shallow", 2))
    slots = innovations.layout(sites, K, 100)
    assert [(s.site, s.shape, s.offset, s.size) for s in slots] == [
        ("deep_innovations", (3, 3, K), 100, 9 * K),
        ("shallow_innovations", (3, 3, K), 100 + 9 * K, 9 * K),
    ]
    slots = innovations.step_correlations_layout(sites, 4, 100)
    assert [(s.site, s.shape, s.offset, s.size) for s in slots] == [
        ("deep_step_correlations", (6,), 100, 6),
        ("shallow_step_correlations", (6,), 106, 6),
    ]

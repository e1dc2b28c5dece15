"""The clock: which step is a hole, which rate a file has, and what another rate takes from it."""

import numpy as np
import pytest

from data_pipelines.faces.clock import LEAP, Clock, Timing, resampled, resampling_rate, timing_of


def ticks(stamps, timing=None, scale=1.0):
    """(seconds, numbers) of each stamp, and the clock."""
    clock = Clock(timing or timing_of([stamps]), scale)
    seconds, numbers = zip(*(clock.tick(stamp) for stamp in stamps))
    return np.array(seconds), np.array(numbers), clock


def at_rate(times, fps, numbers=None):
    """What `resampled` makes of pictures that are their own times: (indices, times, pictures)."""
    numbers = range(len(times)) if numbers is None else numbers
    return tuple(map(np.array, zip(*resampled(zip(numbers, times, times), fps))))


@pytest.mark.parametrize("rate", [15, 24000 / 1001, 25, 30000 / 1001, 30, 50, 240])
@pytest.mark.parametrize("unit", [1e-6, 1e-3])
def test_the_rate_is_that_of_the_timestamps(rate, unit):
    stamps = np.round(np.arange(400) / rate / unit) * unit
    timing = timing_of([stamps[::-1]])
    assert not timing.variable
    assert timing.fps == pytest.approx(rate, rel=2e-4)
    assert np.all(ticks(stamps)[1] == 1)


@pytest.mark.parametrize(("factor", "hole"), [(1.4, False), (1.6, True), (2, True), (60, True)])
def test_a_step_of_one_and_a_half_is_a_hole(factor, hole):
    stamps = np.arange(100) / 25
    stamps[50:] += (factor - 1) / 25
    seconds, numbers, clock = ticks(stamps)
    assert (clock.n_holes, numbers.max() > 1) == (hole, hole)
    np.testing.assert_allclose(seconds, stamps)
    assert numbers[50] == (max(2, round(factor)) if hole else 1)


def test_soft_telecine_has_no_holes():
    steps = np.tile([2 / 59.94, 3 / 59.94], 50)
    assert ticks(np.cumsum(steps))[2].n_holes == 0


def test_a_variable_rate_is_not_shredded_but_a_stall_is_a_hole():
    random = np.random.default_rng(0)
    steps = np.round(random.choice([33, 40, 66, 100], 300, p=[0.4, 0.3, 0.2, 0.1])) / 1000
    steps[150] = 2.0
    stamps = np.cumsum(steps)
    timing = timing_of([stamps])
    assert timing.variable
    _, numbers, clock = ticks(stamps)
    assert clock.n_holes == 1
    assert numbers[150] > 10
    index, times, pictures = at_rate(stamps - stamps[0], 25, np.cumsum(numbers))
    assert (np.diff(index) > 1).sum() == 1
    assert np.abs(times - pictures).max() < 0.0501


def test_repeated_and_late_stamps_are_left_out_and_a_clock_that_starts_again_goes_on():
    _, numbers, clock = ticks([0, 0.04, 0.04, 0.08, 0.12, 0.08, 0.16])
    assert numbers.tolist() == [1, 1, 0, 1, 1, 0, 1]
    assert clock.n_repeated == 2
    timing = Timing("pts", 0.04, 0.06)
    for jump in (-3.0, -0.5, LEAP + 1):
        seconds, numbers, clock = ticks([10, 10.04, 10.08, 10.08 + jump, 10.12 + jump], timing)
        assert numbers.tolist() == [1, 1, 1, 2, 1]
        np.testing.assert_allclose(seconds, [0, 0.04, 0.08, 0.12, 0.16])
        assert clock.n_holes == 1


def test_missing_stamps_follow_at_the_usual_step():
    seconds, numbers, _ = ticks([None, None, 0.08, None], Timing("pts", 0.04, 0.06))
    np.testing.assert_allclose(seconds, [0, 0.04, 0.08, 0.12])
    assert np.all(numbers == 1)


def test_stamps_that_cannot_be_true_are_no_clock():
    assert timing_of([np.zeros(100)]) is None
    assert timing_of([np.arange(100) / 1000]) is None
    assert timing_of([np.arange(100) * 5.0]) is None
    assert timing_of([[1.0]]) is None


def test_two_starts_of_the_clock_are_one_rate():
    timing = timing_of([np.arange(75) / 25, np.arange(100) / 25])
    assert (timing.fps, timing.variable) == (25, False)


@pytest.mark.parametrize(
    ("own", "variable", "rate", "said"),
    [
        (30, False, 25, False),
        (25, False, 0, False),
        (24.97, False, 0, False),
        (15, False, 0, True),
        (23.976, False, 0, True),
        (15, True, 25, False),
        (25, True, 25, False),
    ],
)
def test_a_slower_video_keeps_its_frames(own, variable, rate, said):
    found, note = resampling_rate(25, own, variable)
    assert found == rate
    assert bool(note) == said
    if said:
        assert f"{own:.4g}" in note
        assert "25" in note
    assert resampling_rate(0, own, variable) == (0, "")


@pytest.mark.parametrize("rate", [30, 50, 60, 26, 240])
def test_down_sampling_repeats_nothing(rate):
    times = np.arange(300) / rate
    index, new, pictures = at_rate(times, 25)
    assert index.tolist() == list(range(len(index)))
    assert np.all(np.diff(pictures) > 0)
    assert np.abs(new - pictures)[:-1].max() <= 0.5 / rate + 1e-9


@pytest.mark.parametrize("length", [0.05, 0.0667, 0.1, 0.11, 2.0, 1e6])
@pytest.mark.parametrize("rate", [25, 30, 50])
def test_no_hole_is_filled_and_none_is_hidden(rate, length):
    times = np.r_[np.arange(20), 19 + length * rate + np.arange(20)] / rate
    numbers = np.r_[np.arange(20), 19 + max(2, round(length * rate)) + np.arange(20)]
    index, new, pictures = at_rate(times, 25, numbers)
    assert np.all(np.diff(pictures) > 0)  # none twice
    assert np.abs(new - pictures).max() <= 0.5 / 25 + 1e-9
    across = np.flatnonzero(np.diff(pictures > times[19] + 1e-9))
    assert len(across) == 1
    assert np.flatnonzero(np.diff(index) > 1).tolist() == across.tolist()


def test_a_gap_without_a_hole_stays_a_gap():
    numbers = np.r_[np.arange(20), 21 + np.arange(20)]  # the size changed
    index, _, _ = at_rate(np.arange(40) / 30, 25, numbers)
    assert (np.diff(index) > 1).sum() == 1

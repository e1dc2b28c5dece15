"""Where shots end: cuts, jump cuts and cross-fades are told, and what only moves or changes its light is not."""

import cv2
import numpy as np
import pytest
from test_alignment import film, texture

from data_pipelines.faces.cuts import MARGIN, CutDetector, likeness, small_copy
from data_pipelines.faces.dips import SETTLED
from data_pipelines.faces.overlays import grey_copy, overlaid


def head(phase, seed=1, size=(120, 160)):
    """A face-like picture of a talking head at a phase of its slow movement."""
    image = texture(seed, *size)[..., 0].astype(np.float32) * 0.3 + 60
    x, y = 80 + 14 * np.sin(phase), 60 + 5 * np.sin(1.7 * phase)
    cv2.ellipse(image, (int(8 * x), int(8 * y)), (8 * 32, 8 * 42), 0, 0, 360, 190.0, -1, shift=3)
    cv2.ellipse(
        image,
        (int(8 * x), int(8 * (y + 22))),
        (8 * 12, int(8 * (3 + 4 * np.sin(9 * phase) ** 2))),
        0,
        0,
        360,
        60.0,
        -1,
        shift=3,
    )
    for side in (-1, 1):
        cv2.circle(image, (int(8 * (x + 13 * side)), int(8 * (y - 10))), 8 * 5, 40.0, -1, shift=3)
    noise = np.random.default_rng(int(1e4 * phase)).normal(0, 1.5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def found(frames):
    """{frame: mixed} of the cuts."""
    detector = CutDetector()
    return {t: cut.mixed for t, frame in enumerate(frames) if (cut := detector.step(frame))}


def test_a_cut_is_told_at_once():
    frames = [head(t / 20) for t in range(30)] + [texture(5, 120, 160)[..., 0]] * 20
    assert found(frames) == {30: 0}


def test_time_taken_out_of_a_shot_is_told():
    phases = np.concatenate([np.arange(30), np.arange(75, 105)]) / 20
    cuts = found([head(phase) for phase in phases])
    assert [t - mixed for t, mixed in cuts.items()] == [30]  # and the frames seen before it was told belong to neither shot
    assert found([head(t / 20) for t in range(105)]) == {}


def test_a_few_frames_taken_out_of_a_quiet_shot_are_told_once():
    frames = [head(t / 100) for t in [*range(30), *range(34, 64)]]
    assert [t - mixed for t, mixed in found(frames).items()] == [30]
    assert found([head(t / 100) for t in range(64)]) == {}


@pytest.mark.parametrize("length", [8, 12, 25, 30])
def test_a_cross_fade_is_told_and_all_of_it_left_out(length):
    parts = np.clip((np.arange(90) - 30) / length, 0, 1)
    others = cv2.GaussianBlur(texture(7, 120, 160)[..., 0].astype(np.float32), (0, 0), 2)
    frames = [((1 - part) * head(t / 20) + part * np.roll(others, t // 4, 1)).astype(np.uint8) for t, part in enumerate(parts)]
    cuts = found(frames)
    left_out = {frame for t, mixed in cuts.items() for frame in range(t - mixed, t)}
    assert left_out >= set(np.flatnonzero((parts > 0.1) & (parts < 0.9)))
    assert min(left_out) >= 30 - 24 - MARGIN
    assert max(left_out) <= 30 + length + 24


def test_no_cut_where_the_light_changes_or_the_camera_turns():
    still = [head(t / 20) for t in range(60)]
    assert found([(image * (0.5 if t >= 30 else 1)).astype(np.uint8) for t, image in enumerate(still)]) == {}
    wide = cv2.GaussianBlur(texture(3, 120, 400)[..., 0], (0, 0), 3)
    assert found([np.ascontiguousarray(wide[:, 2 * t : 2 * t + 160]) for t in range(100)]) == {}
    frames, _ = film(100)
    assert found(frames) == {}
    assert found([np.full((120, 160), 127, np.uint8)] * 40) == {}


def test_the_sizes_of_frames_may_change():
    assert isinstance(found([head(0), np.zeros((60, 40, 3), np.uint8), head(1)]), dict)


@pytest.mark.parametrize("grey", [0, 255, 110])
@pytest.mark.parametrize("length", [5, 12, 30])
def test_a_fade_into_nothing_and_out_of_it_is_left_out(grey, length):
    there = np.abs(np.clip((np.arange(40 + 2 * length) - 20 - length) / length, -1, 1))  # 1 whole, 0 nothing
    frames = [(part * head(t / 20) + (1 - part) * grey).astype(np.uint8) for t, part in enumerate(there)]
    left_out = {frame for t, mixed in found(frames).items() for frame in range(t - mixed, t)}
    assert left_out >= set(np.flatnonzero(there < 0.85))
    assert min(left_out) >= 20 - MARGIN
    assert max(left_out) <= 20 + 2 * length + SETTLED + MARGIN


def test_what_comes_out_of_nothing_or_goes_into_it_is_left_out():
    there = np.clip(np.arange(60) / 12, 0, 1)
    frames = [(part * head(t / 20)).astype(np.uint8) for t, part in enumerate(there)]
    for way, part in ((frames, there), (frames[::-1], there[::-1])):
        left_out = {frame for t, mixed in found(way).items() for frame in range(t - mixed, t)}
        assert {*left_out, len(way) - 1} >= set(np.flatnonzero(part < 0.85))
        assert len(left_out) < 12 + SETTLED + MARGIN


@pytest.mark.parametrize(("length", "contrast"), [(50, 1.0), (70, 1.0), (60, 0.6)])
def test_a_slow_cross_fade_is_left_out(length, contrast):
    parts = np.clip((np.arange(60 + length) - 30) / length, 0, 1)
    others = cv2.GaussianBlur(texture(7, 120, 160)[..., 0].astype(np.float32), (0, 0), 2)
    mixtures = ((1 - part) * head(t / 80) + part * np.roll(others, t // 12, 1) for t, part in enumerate(parts))
    left_out = {
        frame
        for t, mixed in found([(contrast * frame).astype(np.uint8) for frame in mixtures]).items()
        for frame in range(t - mixed, t)
    }
    assert left_out >= set(np.flatnonzero((parts > 0.1) & (parts < 0.9)))


@pytest.mark.parametrize("mixed", [1, 2, 3, 4, 5])
def test_a_fade_of_few_frames_is_a_cut(mixed):
    others = cv2.GaussianBlur(texture(7, 120, 160)[..., 0].astype(np.float32), (0, 0), 2)
    parts = np.clip((np.arange(60) - 29) / (mixed + 1), 0, 1)
    frames = [((1 - part) * head(t / 20) + part * others).astype(np.uint8) for t, part in enumerate(parts)]
    cuts = found(frames)
    left_out = {frame for t, n in cuts.items() for frame in range(t - n, t)}
    assert left_out >= set(np.flatnonzero((parts > 0) & (parts < 1)))
    assert len(left_out) <= mixed + 2 * MARGIN
    assert any(t - n <= 30 <= t for t, n in cuts.items())


def test_a_fade_that_was_told_is_followed_to_its_end(monkeypatch):
    parts = np.clip((np.arange(120) - 30) / 40, 0, 1)
    others = cv2.GaussianBlur(texture(7, 120, 160)[..., 0].astype(np.float32), (0, 0), 2)
    told, number = CutDetector._faded, iter(range(1, 200))
    # As where movement hides it: no fade is told in the last third of this one.
    monkeypatch.setattr(CutDetector, "_faded", lambda self: told(self) if next(number) < 58 else 0)
    frames = [((1 - part) * head(t / 80) + part * others).astype(np.uint8) for t, part in enumerate(parts)]
    left_out = {frame for t, mixed in found(frames).items() for frame in range(t - mixed, t)}
    assert left_out >= set(np.flatnonzero((parts > 0.1) & (parts < 0.9)))
    assert max(left_out) < 70 + 2 * MARGIN


@pytest.mark.parametrize("length", [12, 24])
def test_a_cross_fade_between_takes_in_one_room_is_left_out(length):
    """The pictures are much the same: what gives the fade away is that no movement leads from one to the other."""
    first, second = ([head(start + t / 100) for t in range(60)] for start in (0.0, 1.0))
    assert likeness(small_copy(first[-1]), small_copy(second[0])) > 0.8
    parts = np.arange(1, length + 1) / (length + 1)
    mixed = [cv2.addWeighted(a, 1 - p, b, p, 0) for a, b, p in zip(first[-length:], second, parts)]
    frames = first[:-length] + mixed + second[length:]
    cuts = found(frames)
    left_out = {t - i for t, more in cuts.items() for i in range(more + 1)}
    assert left_out >= set(range(60 - length + 1, 59))
    assert min(left_out) > 60 - length - 25
    assert max(left_out) < 60 + 30


def test_a_picture_in_the_middle_of_a_movement_is_not_two():
    wide = cv2.GaussianBlur(texture(3, 200, 400)[..., 0], (0, 0), 3)
    at = [grey_copy(wide[:, x : x + 320]) for x in (20, 26, 32)]
    assert not overlaid(*at)
    assert overlaid(at[0], cv2.addWeighted(at[0], 0.5, at[2], 0.5, 0), at[2])
    assert not overlaid(at[0], at[0], at[2])  # a cut
    dim = [cv2.addWeighted(at[0], share, at[2], share, 0) for share in (0.4, 0.45, 0.5)]
    assert not overlaid(*dim)  # a light that is turned up

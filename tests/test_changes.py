"""A track in which one person fades into another is two tracks, and nothing of the fade is kept."""

import dataclasses

import cv2
import numpy as np
import pytest
from conftest import write_video

from data_pipelines.faces import changes as module
from data_pipelines.faces.changes import LEAST, MARGIN, NEAR, STRETCH, changes, lost_ends, parts, unsettled_ends
from data_pipelines.faces.clip_faces import PrepareSettings, one_person_each, process_clip
from data_pipelines.faces.cropping import _Strip
from data_pipelines.faces.detection import Face
from data_pipelines.faces.identity import DESCRIBED_EVERY, Appearance, people
from data_pipelines.faces.tracking import Track
from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry, read_manifest


def looks(shares, seed=0, size=200):
    """[N, size]: one person's looks where the share is 0, another's where it is 1, with noise of its own each time."""
    random = np.random.default_rng(seed)
    people = random.normal(size=(2, size))
    people[1] += 0.5 * people[0]  # two faces are never wholly unlike
    noise = random.normal(0, 0.4, (len(shares), size))
    return np.outer(1 - np.asarray(shares), people[0]) + np.outer(shares, people[1]) + noise


def test_nobody_changes_in_a_track_of_one_person():
    assert changes(looks(np.zeros(60)), 0.7) == []
    assert changes(looks(np.zeros(LEAST)), 0.7) == []
    assert changes([], 0.7) == []


@pytest.mark.parametrize("faded", [0, 4])
def test_a_change_is_found_where_it_is(faded):
    share = np.concatenate([np.zeros(12), (np.arange(faded) + 1) / (faded + 1), np.ones(9)])
    ((before, after),) = changes(looks(share), 0.7)
    assert 12 - 2 <= before < 12 + 1
    assert 12 + faded - 1 <= after <= 12 + faded + 2


def test_there_and_back():
    share = np.repeat([0, 1, 0], 20)
    found = changes(looks(share), 0.7)
    assert [before // 20 for before, _ in found] == [0, 1]


def test_who_turns_away_and_back_is_one_person():
    share = np.repeat([0, 1, 0], [20, 18, 2])
    assert len(changes(looks(share), 0.7)) == 1
    assert changes(looks(share), 0.7, same=0.8) == []
    assert len(changes(looks(np.repeat([0, 1], 20)), 0.7, same=0.8)) == 1


def test_what_is_found_does_not_depend_on_the_blocks_in_which_it_is_computed(monkeypatch):
    vectors = looks(np.repeat([0, 1, 0, 1], 25))
    whole = changes(vectors, 0.7)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert changes(vectors, 0.7) == whole
    assert len(whole) == 3


def track(start, n):
    face = Face(np.array([60.0, 50, 60, 60]), np.array([[70.0, 70], [100, 70]]), 0.9)
    faces = {start + i: face for i in range(0, n, 5)}
    return Track(start, faces, [np.eye(2, 3)] * (n - 1), [(start + i) / 25 for i in range(n)], face, shape=(160, 200), shot=2)


def test_parts_are_whole_tracks_without_the_frames_in_between():
    whole = track(30, 100)
    (one, first), (two, second) = parts(whole, [(8, 12)], shot=5)
    assert (first.start, second.stop) == (0, 100)
    assert first.stop <= (8 - MARGIN) * DESCRIBED_EVERY + 1
    assert second.start >= (12 + MARGIN) * DESCRIBED_EVERY
    for part, frames in ((one, first), (two, second)):
        assert part.start == 30 + frames.start
        assert part.seconds == whole.seconds[frames]
        assert len(part.motions) == len(part.seconds) - 1
        assert all(part.start <= at <= part.newest for at in part.faces)
    assert one.shot == 2
    assert two.shot == 5
    assert parts(whole, [], shot=5) == [(whole, slice(0, 100))]


def test_what_was_cut_out_beyond_the_end_of_a_track_says_nothing():
    whole = track(0, 100)
    strip = _Strip(whole)
    strip.matrices = strip.positions = strip.light = list(range(150))  # the track was shortened since
    strip.descriptions = list(looks(np.repeat([0, 1], [20, 10])))
    tracks, strips = one_person_each([whole], {whole: strip}, Appearance(), 100)
    assert tracks == [whole]
    assert len(strips[whole].descriptions) == 20


def test_a_change_at_the_very_ends_leaves_what_is_known():
    assert [frames for _, frames in parts(track(0, 60), [(0, 3), (10, 11)], 1)] == [slice(0, 1), slice(25, 41), slice(59, 60)]
    assert STRETCH + 2 * LEAST > 2 * MARGIN


@pytest.mark.parametrize("unlike", [1, 3, 6])
def test_who_is_still_coming_or_already_going_at_an_end_is_told(unlike):
    share = np.concatenate([np.zeros(unlike), np.ones(11)])
    assert changes(looks(share)[: 2 * LEAST + STRETCH - 1], 0.7) == []  # too short for two means
    assert unsettled_ends(looks(share), 0.7, 0.8) == (unlike + MARGIN, 0)
    assert unsettled_ends(looks(share[::-1]), 0.7, 0.8) == (0, unlike + MARGIN)
    ((part, frames),) = parts(track(0, 5 * len(share)), [], 5, (unlike + MARGIN, 0))
    assert frames == slice((unlike + MARGIN) * DESCRIBED_EVERY, 5 * len(share))
    assert part.start == frames.start
    ((_, frames),) = parts(track(0, 5 * len(share)), [], 5, (0, unlike + MARGIN))
    assert frames == slice(0, 5 * len(share) - (unlike + MARGIN) * DESCRIBED_EVERY)


def test_tracks_that_meet_without_a_cut_lose_a_little_there():
    first, second, elsewhere = track(0, 40), track(50, 40), dataclasses.replace(track(50, 40), shot=3)
    assert lost_ends(first, [first, second]) == (0, 1)
    assert lost_ends(second, [first, second]) == (1, 0)
    assert lost_ends(first, [first, elsewhere]) == (0, 0)  # a cut lies in between
    assert lost_ends(first, [first, track(40 + NEAR, 40)]) == (0, 0)
    assert lost_ends(first, [first]) == (0, 0)


def test_a_head_that_never_settles_keeps_its_ends():
    assert unsettled_ends(np.random.default_rng(0).normal(size=(30, 200)), 0.7, 0.8) == (0, 0)
    assert unsettled_ends(looks(np.zeros(30)), 0.7, 0.8) == (0, 0)
    assert unsettled_ends(looks(np.zeros(3)), 0.7, 0.8) == (0, 0)
    assert unsettled_ends([], 0.7, 0.8) == (0, 0)


def test_what_an_end_shows_of_somebody_else_is_not_kept():
    strip = _Strip(whole := track(30, 65))
    strip.matrices = strip.positions = strip.light = list(range(65))
    strip.descriptions = list(looks(np.repeat([0, 1], [3, 10])))
    (part,), strips = one_person_each([whole], {whole: strip}, Appearance(), 200)
    earlier = track(0, 20)
    assert part.shot != earlier.shot  # where somebody was still coming, nobody is expected back
    found = people([earlier, part], {earlier: np.ones(3), part: np.ones(3)}, Appearance())
    assert [person.tracks for person in found] == [[earlier, part]]
    assert part.start == 30 + (3 + MARGIN) * DESCRIBED_EVERY
    assert min(strips[part].positions) == (3 + MARGIN) * DESCRIBED_EVERY
    strip = _Strip(whole := track(0, 65))  # before the first frame of a clip there was nobody
    strip.matrices = strip.positions = strip.light = list(range(65))
    strip.descriptions = list(looks(np.repeat([0, 1], [3, 10])))
    assert one_person_each([whole], {whole: strip}, Appearance(), 200)[0] == [whole]


def test_a_fade_from_one_real_person_to_another_leaves_one_of_them(shared, tmp_path):
    paths = {entry.clip_id: entry.path for entry in read_manifest(shared / "data" / "people.csv")}

    def frames(name):
        found = [cv2.resize(image, (320, 256)) for _, _, image in Video(paths[name])]
        return np.stack(found[:75]).astype(np.float32)

    one, two, n = frames("p005_07"), frames("p008_05"), 30
    share = ((np.arange(n) + 1) / (n + 1))[:, None, None, None]
    mixed = (1 - share) * one[-n:] + share * two[:n]
    write_video(tmp_path / "faded.avi", np.concatenate([one[:-n], mixed, two[n:]]).astype(np.uint8))
    settings = PrepareSettings(yunet_model=str(shared / "models" / "yunet.onnx"))
    faces = process_clip(ClipEntry("faded", "p", tmp_path / "faded.avi"), settings, lambda image: None)
    kept = faces.frame_indices
    assert faces.row.verdict == "ok"
    assert kept.max() < len(one) - n + 3 or kept.min() >= len(one) - 3
    assert "2 people were seen" in faces.row.reason

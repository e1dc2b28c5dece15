"""The loader's stream: the same for any thread count and after a resume, disjoint over processes, fair to people."""

import collections

import numpy as np
import pytest

from data_pipelines.dataset.face_clips import ClipInfo
from data_pipelines.dataset.loaders import WindowSource, window_loader
from data_pipelines.dataset.windows import centre_positions
from data_pipelines.errors import InputError


class Counted:
    """Stands in for a dataset: a frame's first pixels say which record and position it is."""

    def __init__(self, lengths, people):
        self.clips = [
            ClipInfo(f"c{i}", person, "", "", "train", 25.0, np.delete(np.arange(n + 1, dtype=np.int32), 5), np.zeros(0))
            for i, (n, person) in enumerate(zip(lengths, people))
        ]

    def frames(self, record, positions=None):
        images = np.zeros((len(positions), 4, 4, 3), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = record, positions
        return images


DATA = Counted([30, 60, 20, 200, 8], ["a", "a", "b", "c", "d"])
SETTINGS = {"scale": 2, "half_length": 2, "batch_size": 4, "seed": 5}


def take(n, **changes):
    loader = window_loader(DATA, range(len(DATA.clips)), **(SETTINGS | changes))
    return [next(loader)["windows"] for _ in range(n)]


def test_threads_and_resumption_change_nothing():
    plain = take(6, threads=0)
    assert plain[0].shape == (4, 5, 4, 4, 3)
    assert plain[0].dtype == np.uint8
    np.testing.assert_array_equal(plain, take(6, threads=3))
    np.testing.assert_array_equal(plain[4:], take(2, start_step=4, threads=2))
    assert (np.array(plain) != np.array(take(6, threads=0, seed=6))).any()


def test_processes_share_a_step_without_overlap():
    whole = take(3, batch_size=8, threads=0)
    parts = [take(3, process_index=i, process_count=2, threads=0) for i in range(2)]
    for step in range(3):
        np.testing.assert_array_equal(whole[step][0::2], parts[0][step])
        np.testing.assert_array_equal(whole[step][1::2], parts[1][step])


def test_people_are_equally_likely_clips_go_by_their_windows_and_no_window_spans_a_gap():
    source = WindowSource(DATA, range(len(DATA.clips)), scale=2, half_length=2, seed=0)
    draws = [source.draw(i) for i in range(6000)]
    people = collections.Counter(DATA.clips[record].person_id for record, _ in draws)
    np.testing.assert_allclose([people[p] for p in "abc"], 2000, atol=120)
    assert people["d"] == 0  # too short for a window
    clips = collections.Counter(record for record, _ in draws)
    windows = [len(centre_positions(clip.frame_indices, 2, 2)) for clip in DATA.clips]
    assert clips[0] / people["a"] == pytest.approx(windows[0] / (windows[0] + windows[1]), abs=0.04)
    for record, centre in draws[:500]:
        assert centre in centre_positions(DATA.clips[record].frame_indices, 2, 2)
    assert len({centre for record, centre in draws if record == 3}) == windows[3]  # and every window is reached


def test_nothing_long_enough_is_said():
    with pytest.raises(InputError, match="one window of 9 frames at scale 4"):
        window_loader(DATA, [2, 4], scale=4, half_length=4, batch_size=2, seed=0)

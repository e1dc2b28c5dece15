"""Windows of held-out people are decoded batch by batch: the same figures as with all of them in memory, in bounded memory."""

import threading

import numpy as np
import pytest

from data_pipelines.dataset.face_clips import ClipInfo
from data_pipelines.dataset.windows import centre_positions, window_positions
from data_pipelines.errors import InputError
from facedyn.stages import held_out
from facedyn.stages.held_out import HeldOut

PEOPLE, SIZE = 30, 8


class Clips:
    """Two clips a person, the first with a gap; counts the frames that were handed out."""

    image_size, channels, appearance = SIZE, 3, "own"

    def __init__(self, people=PEOPLE, frames=14):
        numbers = np.arange(frames, dtype=np.int32)
        self.clips = tuple(
            ClipInfo(f"p{p:03d}-{c}", f"p{p:03d}", "", "", "test", 25.0, numbers + 3 * (numbers > 5) * (c == 0), np.zeros(0))
            for p in range(people)
            for c in range(2)
        )
        self.handed_out, self._lock = 0, threading.Lock()

    def frames(self, i, positions):
        with self._lock:
            self.handed_out += len(positions)
        clip = np.random.default_rng(i).integers(0, 256, (len(self.clips[i].frame_indices), SIZE, SIZE, 3), np.uint8)
        return clip[positions]


def brightness(_, windows):
    return windows.astype(np.float32).mean((1, 2, 3, 4))


def spread(params, windows):
    return windows[:, params].astype(np.float32).std((1, 2, 3))


def plain(clips, per_person):
    """Each person's mean by both measures, all windows at once."""
    found = {}
    for i, clip in enumerate(clips.clips):
        for centre in centre_positions(clip.frame_indices, 1, 2):
            found.setdefault(clip.person_id, []).append(clips.frames(i, window_positions([centre], 1, 2)[0]))
    means = []
    for _, windows in sorted(found.items()):
        chosen = np.unique(np.linspace(0, len(windows) - 1, per_person).round().astype(int))
        windows = np.stack([windows[i] for i in chosen])
        means.append([brightness(None, windows).mean(), spread(2, windows).mean()])
    return np.array(means).T


@pytest.mark.parametrize("kept", [0, 2**28])
def test_streamed_figures_are_those_of_all_windows_at_once(monkeypatch, kept):
    monkeypatch.setattr(held_out, "EVAL_BATCH", 16)
    monkeypatch.setattr(held_out, "KEPT_BYTES", kept)
    clips = Clips()
    measured = HeldOut(clips, range(len(clips.clips)), 1, 2, per_person=5)
    assert measured.people == sorted({clip.person_id for clip in clips.clips})
    for _ in range(2):  # what is kept for the second time changes nothing
        found = measured.accuracies([(brightness, None), (spread, 2)])
        np.testing.assert_allclose(found, plain(clips, 5), rtol=1e-6)


def test_kept_windows_are_decoded_once_and_no_more_than_the_bound_is_kept(monkeypatch):
    monkeypatch.setattr(held_out, "EVAL_BATCH", 16)
    batch = 16 * 5 * SIZE * SIZE * 3
    for kept_batches in (0, 3, 100):
        monkeypatch.setattr(held_out, "KEPT_BYTES", kept_batches * batch)
        clips = Clips()
        measured = HeldOut(clips, range(len(clips.clips)), 1, 2, per_person=5)
        measured.accuracies([(brightness, None)])
        first = clips.handed_out
        assert sum(b.nbytes for b in measured._kept.values()) <= kept_batches * batch
        measured.accuracies([(brightness, None)])
        assert clips.handed_out - first == max(0, first - kept_batches * 16 * 5)


def test_few_batches_are_in_memory_at_a_time(monkeypatch):
    """However many people there are, no more batches are decoded than a few ahead of the one that is measured."""
    monkeypatch.setattr(held_out, "EVAL_BATCH", 16)
    monkeypatch.setattr(held_out, "KEPT_BYTES", 0)
    clips, ahead = Clips(people=120), []
    measured = HeldOut(clips, range(len(clips.clips)), 1, 2, per_person=5)

    def measure(_, windows):
        ahead.append(clips.handed_out / (16 * 5) - len(ahead))
        return brightness(_, windows)

    measured.accuracies([(measure, None)])
    assert len(ahead) > 30
    assert max(ahead) <= held_out.AHEAD + 1


def test_people_without_a_window_are_not_among_them():
    clips = Clips(people=3, frames=4)
    with pytest.raises(InputError, match="No clip of the held-out people is long enough for a window at scale 1"):
        HeldOut(clips, range(len(clips.clips)), 1, 2, per_person=5)


def test_everyone_gets_the_figure_of_their_own_windows(monkeypatch):
    """Clips whose brightness is their person's number: so is the figure, in the order of `people`, in every batch."""
    monkeypatch.setattr(held_out, "EVAL_BATCH", 8)
    clips = Clips(people=7)
    clips.frames = lambda i, positions: np.full((len(positions), SIZE, SIZE, 3), int(clips.clips[i].person_id[1:]), np.uint8)
    measured = HeldOut(clips, range(len(clips.clips)), 1, 2, per_person=3)
    np.testing.assert_allclose(measured.accuracies([(brightness, None)])[0], range(7), rtol=1e-5)

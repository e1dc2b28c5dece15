"""Window positions against a plain loop over all frames."""

import numpy as np
import pytest

from data_pipelines.dataset.windows import centre_positions, window_positions
from facedyn.stages.fit.units import beginning


def loop(frame_indices, scale, half_length):
    present = set(frame_indices)
    for position, frame in enumerate(frame_indices):
        whole = range(frame - scale * half_length, frame + scale * half_length + 1)
        if all(f in present for f in whole):
            yield position


@pytest.mark.parametrize("scale", [1, 2, 3, 8])
@pytest.mark.parametrize("half_length", [1, 4])
def test_centres_equal_a_plain_loop(scale, half_length):
    random = np.random.default_rng(scale * 10 + half_length)
    for keep in (1.0, 0.98, 0.9, 0.5):
        frames = np.flatnonzero(random.uniform(size=300) < keep) + 17
        centres = centre_positions(frames, scale, half_length)
        assert centres.tolist() == list(loop(frames.tolist(), scale, half_length))
        windows = window_positions(centres, scale, half_length)
        assert windows.shape == (len(centres), 2 * half_length + 1)
        offsets = frames[windows] - frames[centres][:, None]
        assert (offsets == scale * np.arange(-half_length, half_length + 1)).all()


@pytest.mark.parametrize("length", [0, 1, 8, 9, 10])
def test_short_clips_have_none_until_a_window_fits(length):
    assert len(centre_positions(np.arange(length), 1, 4)) == max(0, length - 8)


class Clip:
    fps = 10.0


def test_the_first_seconds_are_those_of_video_and_not_of_centres():
    """Of clips of 30 and 60 frames at 10 a second, whose windows reach two frames to both sides."""
    clips = [Clip, Clip]
    parts = [(0, np.arange(2, 28)), (1, np.arange(2, 58))]
    found = {seconds: dict(beginning(parts, clips, seconds, 2)) for seconds in (0.4, 0.5, 1.0, 3.0, 3.5, 9.0, 9.1)}
    assert found[0.4][0].tolist() == []
    assert found[0.5][0].tolist() == [2]
    assert found[1.0][0].tolist() == list(range(2, 8))
    assert found[1.0].keys() == {0}
    assert found[3.0].keys() == {0}
    assert found[3.0][0].tolist() == list(range(2, 28))
    assert found[3.5][1].tolist() == [2]
    assert [len(centres) for centres in found[9.0].values()] == [26, 56]
    assert found[9.1] == {}  # there is not so much
    second_half = beginning([(0, np.arange(15, 28))], clips, 1.0, 2)
    assert second_half[0][1].tolist() == list(range(15, 21))

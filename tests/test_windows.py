"""Window positions against a plain loop over all frames."""

import numpy as np
import pytest

from data_pipelines.dataset.windows import centre_positions, window_positions


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

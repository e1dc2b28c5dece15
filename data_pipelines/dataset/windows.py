"""Which windows a clip holds, as pure index arithmetic on the numbers of its kept frames.

A window of scale s and half-length n around a centre frame t is the frames t + k s, k = -n..n; it exists where none of the
frames between its first and its last was left out.
"""

import numpy as np


def centre_positions(frame_indices, scale: int, half_length: int) -> np.ndarray:
    """Positions p in `frame_indices` (strictly increasing, [T]) whose whole window exists without a gap; int64 [N].

    >>> centre_positions([0, 1, 2, 3, 4, 7, 8, 9], scale=1, half_length=1)  # frames 5 and 6 were left out
    array([1, 2, 3, 6])
    """
    frame_indices = np.asarray(frame_indices, np.int64)
    reach = scale * half_length
    if len(frame_indices) <= 2 * reach:
        return np.zeros(0, np.int64)
    # The numbers are strictly increasing, so equal spans of number and position leave no room for a gap in between.
    span = frame_indices[2 * reach :] - frame_indices[: len(frame_indices) - 2 * reach]
    return np.flatnonzero(span == 2 * reach) + reach


def window_positions(centres, scale: int, half_length: int) -> np.ndarray:
    """Positions of the frames of the windows around `centres` [N]; int64 [N, 2 half_length + 1], in time order.

    >>> window_positions([4, 5], scale=2, half_length=2)
    array([[0, 2, 4, 6, 8],
           [1, 3, 5, 7, 9]])
    """
    return np.asarray(centres, np.int64)[:, None] + scale * np.arange(-half_length, half_length + 1)

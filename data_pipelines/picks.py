"""Evenly spaced picks of a sequence, for whatever looks at some of many: frames, clips, people."""

import numpy as np


def picks(length: int, most: int) -> np.ndarray:
    """At most `most` of 0 .. length - 1, evenly spaced, ascending, the first and the last among them: int [n].

    >>> picks(10, 4).tolist(), picks(2, 4).tolist(), picks(0, 4).tolist()
    ([0, 3, 6, 9], [0, 1], [])
    """
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(int))

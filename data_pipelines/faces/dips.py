"""Where a picture fades into black, white or one grey and comes out of it: what is left of it there was not filmed so.

Told from the contrast of the frames alone, the standard deviation of their grey levels.
"""

import collections
import statistics

import numpy as np

FLAT = 1.5  # grey levels; a picture of less contrast shows nothing, one filmed in the dark has more
GONE = 0.35  # of the usual contrast: less is a dip. Light that is dimmed to a half is none.
THERE = 0.9  # of the usual contrast: the frames before a dip that have less are part of it
USUAL = 45  # frames whose median is the usual contrast
SETTLED, STEADY = 5, 1.06  # a dip is over when so many frames' contrasts lie within this factor


class DipDetector:
    """Takes the contrast of one frame after the other."""

    def __init__(self):
        self._last, self._dimmed = collections.deque(maxlen=USUAL + 1), None

    def step(self, contrast: float) -> int | None:
        """In a dip, and in the first frame after it: how many of the frames before this one are part of it; else None."""
        self._last.append(contrast)
        if self._dimmed is not None:
            self._dimmed += 1
            newest = list(self._last)[-SETTLED:]
            dimmed = self._dimmed
            if len(newest) == SETTLED and min(newest) > FLAT and max(newest) < STEADY * min(newest):
                self.forget()
            return dimmed
        known = list(self._last)[:-1]
        usual = statistics.median(known) if known else 0.0
        if usual > FLAT and contrast < GONE * usual:
            whole = np.flatnonzero(np.array(known) >= THERE * usual)
            self._dimmed = len(known) - 1 - int(whole[-1])
        elif known and usual <= FLAT < contrast:  # it comes out of nothing
            self._dimmed = len(known)
        return self._dimmed

    def forget(self) -> None:
        """Of a new shot nothing is known."""
        self._last.clear()
        self._dimmed = None

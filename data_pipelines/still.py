"""Frozen pictures: a stretch in which a video shows one picture again and again, as calls do when the line is bad.

Every picture counts as the same again while no pixel of its grey reduced picture is more than SAME from the first of the
stretch. In 50 real clips of faces no such stretch was longer than 0.52 s, while a still that was encoded as video stays
within 2 to 3 grey values for as long as it lasts.
"""

import numpy as np

SAME = 2.5  # grey values of 255
FROZEN = 0.6  # seconds


class Stillness:
    """Leaves frozen stretches out but for their first picture; `n_repeated` counts what was left out."""

    def __init__(self):
        self.n_repeated = 0

    def left_out(self, pictures, thumbnail):
        """From (picture, seconds, numbers) the same without the frozen ones, whose `numbers` the next one gets on top.

        `thumbnail(picture)`: float32 [S, S]. Up to FROZEN seconds of pictures are held back meanwhile.
        """
        first = start = None
        held, skipped = [], 0
        for picture, seconds, numbers in pictures:
            small = thumbnail(picture)
            blank = np.ptp(small) <= SAME  # black between two scenes: nothing is there that could be frozen
            if first is not None and numbers == 1 and not blank and np.abs(small - first).max() <= SAME:
                held.append((picture, seconds, numbers))
                if skipped or seconds - start >= FROZEN:
                    self.n_repeated += len(held)
                    skipped += len(held)
                    held.clear()
                continue
            yield from held
            held.clear()
            yield picture, seconds, numbers + skipped
            first, start, skipped = small, seconds, 0
        yield from held

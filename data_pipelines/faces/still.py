"""Frozen pictures: a stretch in which a video shows one picture again and again, as calls do when the line is bad.

A picture is the same again while no pixel of its grey, reduced copy is more than SAME from the first of the stretch. An encoder
draws the still afresh at each of its key frames, which may look a little different; such a step does not end the stretch.

In 112 real clips of faces such a stretch lasted 0.16 s at most, in ten more that somebody had filled up with stills 0.2 to 1 s.
"""

import cv2

SAME = 2  # grey values of 255
REDRAWN = 24, 2.0  # grey values: largest and mean difference at a key frame
FROZEN = 0.4  # seconds


class Stillness:
    """Leaves frozen stretches out but for their first picture; `n_repeated` counts what was left out."""

    def __init__(self):
        self.n_repeated = 0

    def left_out(self, pictures, thumbnail):
        """From (picture, seconds, numbers) the same without the frozen ones, whose `numbers` the next one gets on top.

        `thumbnail(picture)`: grey uint8 [S, S]; `picture.key`: whether it is a key frame (OpenFace's images never are).
        Up to FROZEN seconds of pictures are held back meanwhile.
        """
        first, start, since_key = None, 0.0, 0
        held, skipped = [], 0
        for picture, seconds, numbers in pictures:
            small = thumbnail(picture)
            since_key = 0 if picture.key else since_key + 1
            if first is not None and numbers == 1 and not blank(small):
                most = cv2.norm(small, first, cv2.NORM_INF)
                same = most <= SAME
                if not same and since_key <= 1 and most <= REDRAWN[0]:
                    same = cv2.norm(small, first, cv2.NORM_L1) <= REDRAWN[1] * small.size
                    first = small if same else first
                if same:
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


def blank(small) -> bool:
    """A picture of one colour, as between two scenes: nothing is in it that could be frozen."""
    low, high, _, _ = cv2.minMaxLoc(small)
    return high - low <= SAME

"""Where one shot of a video ends and the next begins: cuts, jump cuts and cross-fades.

All are told from the frames' small grey copies. The thresholds' hits and false alarms: benchmarks/shot_borders.py.
"""

import collections
import dataclasses
import statistics

import cv2
import numpy as np

from data_pipelines.faces.dips import DipDetector
from data_pipelines.faces.overlays import grey_copy, overlaid

SIZE = 64, 36  # of the small copy
JUMP_LATENCY = 2  # frames after a jump that must be seen before it is told from a fast movement
JUMP_BEFORE = 12  # frames before it
JUMP_CHANGE, JUMP_SHARE = 2.0, 0.2  # grey levels by which so much of the picture changes
# Where the frames around it hardly changed (grey levels, mean), a frame that changed by a little more than any of them is one.
QUIET, QUIET_FACTOR = 1.5, 1.3
QUIET_FRAMES = 15, 34  # so many must be known, at least and at most: encoders redraw a still picture every 12 or 30 frames
SHORT_FADES = (2, 3, 4, 5, 6)  # frames from the last of one picture to the first of the next, with mixtures in between
FADES = (6, 8, 12, 16, 24, 36, 48)  # frames between whose first and last one a fade is looked for
LONGEST = 100  # frames of a fade
GOES_ON = 0.12  # of a fade's step a frame: a picture that goes on by more is still fading
SIMILAR_FADES, SIMILAR_EVERY = (8, 12, 16, 24, 36), 4  # frames of fades within one room, looked for in every so many
MIXTURE, SIMILAR_MIXTURE = 0.05, 0.2  # of a fade's energy that may be left in between; the second where `overlaid` is asked
MARGIN = 4  # frames at a fade's ends that hold too little of the other picture to be told


@dataclasses.dataclass(frozen=True)
class Cut:
    """A new shot begins with this frame, or has just begun; `mixed`: so many of the frames before this one belong to neither.

    They show two pictures fading into each other, or are the first of the new shot, seen before it could be told.
    """

    mixed: int = 0


class CutDetector:
    """Tells cuts from the frames, one after the other.

    A cut: the frame changed much, more than the video usually does, and looks little like the one before. A jump cut (time
    taken out of one shot): many parts of the picture changed at once by more than in any frame just before and after, or,
    where these hardly changed, the whole picture did; told two frames late. A cross-fade: the frames in between are mixtures
    of the first and the last, in growing parts; where these are much the same, as in one room, `overlays` tells it from
    movement. A fade into black, white or grey and out of it: `dips`.
    """

    def __init__(self):
        self._recent = collections.deque(maxlen=15)  # how much the frame changed
        self._parts = collections.deque(maxlen=JUMP_BEFORE + 1 + JUMP_LATENCY)  # the same for each part of the picture
        self._means = collections.deque(maxlen=QUIET_FRAMES[1])  # over the picture; jumps are among them
        self._past = collections.deque(maxlen=LONGEST + 1)
        self._latest = collections.deque(maxlen=max(SHORT_FADES) + 2)  # also before a cut, which may be half a fade
        self._finer, self._n_frames = collections.deque(maxlen=max(SIMILAR_FADES) + 1), 0  # as `_past`, less of it
        self._dips = DipDetector()
        self._fading = None  # of the fade that was told last: its way, step of a frame, places of the newest frames on it

    def step(self, image: np.ndarray) -> Cut | None:
        """A Cut when the frame, BGR uint8 [H, W, 3] or grey [H, W], begins a new shot."""
        finer = grey_copy(image)
        small = small_copy(finer)
        last = self._past[-1] if self._past else None
        self._past.append(small)
        self._latest.append(small)
        self._finer.append(finer)
        self._n_frames += 1
        dimmed = self._dips.step(float(np.linalg.norm(small)) / small.size**0.5)
        if last is None:
            return None
        if dimmed is not None:
            self._forget(1)
            self._means.clear()
            return Cut(dimmed)
        change = cv2.norm(small, last, cv2.NORM_L1) / small.size
        brighter = np.vdot(small, last) / (np.vdot(last, last) + np.float32(1e-6))  # nor is one that is dimmed a jump
        self._parts.append(cv2.resize(cv2.absdiff(small, brighter * last), (8, 6), interpolation=cv2.INTER_AREA))
        self._means.append(cv2.mean(self._parts[-1])[0])
        usual = statistics.median(self._recent) if self._recent else 0.0
        short = _short_fade(self._latest, 3 * usual)
        if short:
            self._forget(1)
            self._means.clear()
            self._dips.forget()
            return Cut(short)
        much = change > 12 and change > 3 * usual
        if much and likeness(small, last) < 0.6:  # a head that jerks in front of a still wall stays above
            self._forget(1)
            self._means.clear()
            self._dips.forget()
            return Cut()
        self._recent.append(change)
        if self._jumped():
            self._forget(1 + JUMP_LATENCY)
            return Cut(JUMP_LATENCY)
        mixed = self._faded() or self._still_fades() or self._faded_in_one_room()
        return Cut(mixed + MARGIN) if mixed else None

    def _forget(self, keep):
        """What was seen of the last shot, but for the newest `keep` frames."""
        self._recent.clear()
        self._parts.clear()
        self._fading = None
        for past in (self._past, self._finer):
            while len(past) > keep:
                past.popleft()

    def _jumped(self):
        if len(self._parts) < 5 + JUMP_LATENCY:
            return False
        jump, means = self._parts[-1 - JUMP_LATENCY], list(self._means)
        mean = cv2.mean(jump)[0]
        if mean < JUMP_SHARE * JUMP_CHANGE:
            return False
        usual = 0.1 + max(means[: -1 - JUMP_LATENCY] + means[-JUMP_LATENCY:])
        quiet = len(means) > QUIET_FRAMES[0] + JUMP_LATENCY and usual < QUIET and mean > max(0.5, QUIET_FACTOR * usual)
        much = jump > JUMP_CHANGE
        if not quiet and np.count_nonzero(much) <= JUMP_SHARE * much.size:
            return False
        parts = np.stack(self._parts)
        around = np.maximum(parts[: -1 - JUMP_LATENCY].max(0), parts[-JUMP_LATENCY:].max(0))
        if quiet and np.mean(jump > around) > 0.5:
            return True
        return np.mean((jump > 1.8 * (around + 0.5)) & much) > JUMP_SHARE

    def _faded(self):
        """Frames over which the picture faded into this one; 0 = it did not."""
        for n in reversed(FADES):
            if len(self._past) > n:
                first, last = self._past[-1 - n], self._past[-1]
                if cv2.norm(first, last, cv2.NORM_L1) < 12 * last.size:
                    continue
                way = last - first
                if likeness(first, last) < 0.85 and _mixed(self._past, n, way, MIXTURE):
                    return self._begin_fade(way, n)
        return 0

    def _faded_in_one_room(self):
        """As `_faded`, where the first and the last picture are much the same."""
        if self._n_frames % SIMILAR_EVERY:
            return 0
        for n in reversed(SIMILAR_FADES):
            if len(self._finer) > n:
                way = self._past[-1] - self._past[-1 - n]
                three = self._finer[-1 - n], self._finer[-1 - n + n // 2], self._finer[-1]
                if _mixed(self._past, n, way, SIMILAR_MIXTURE) and overlaid(*three):
                    return self._begin_fade(way, n)
        return 0

    def _begin_fade(self, way, n):
        """Frames of a fade, of which the last n went the whole `way`."""
        way = way / float((way * way).sum())
        self._fading = way, 1 / n, [float((past * way).sum()) for past in list(self._past)[-3:]]
        return self._beginning(way, n)

    def _still_fades(self):
        """1 while the picture goes on along the way of the fade that was told last, which is slow towards its end; else 0."""
        if self._fading is None:
            return 0
        way, step, places = self._fading
        places.append(float((self._past[-1] * way).sum()))
        if places[-1] - places[-4] > 3 * GOES_ON * step:
            return 1
        self._fading = None
        return 0

    def _beginning(self, way, n):
        """Frames from the beginning of the fade of which the last n were told: before it the picture goes no way at all."""
        parts = [float((past * way).sum()) for past in reversed(self._past)]
        step = (parts[0] - parts[n]) / n
        while n + 3 < len(parts) and parts[n] - parts[n + 3] > 3 * GOES_ON * step:
            n += 1
        return n


def _short_fade(latest, usual):
    """How many of the frames before the latest one are a short fade and the first of the new shot; 0 = there was none.

    It is told one frame late: in this frame the picture stays what it has become. usual: change from frame to frame.
    """
    newest, *earlier = reversed(latest)
    for n in reversed(SHORT_FADES):
        if len(earlier) <= n:
            continue
        last, *between, first = earlier[: n + 1]
        change = cv2.norm(first, last, cv2.NORM_L1)
        stays = cv2.norm(newest, last, cv2.NORM_L1) < 0.5 * change / n
        if not stays or change < max(12, usual * n) * last.size or likeness(first, last) >= 0.6:
            continue
        way = last - first
        energy = float((way * way).sum())
        parts = [float(((frame - first) * way).sum()) / energy for frame in between]
        left = [float(((frame - first - part * way) ** 2).sum()) for frame, part in zip(between, parts)]
        if max(left) < 0.05 * energy and np.all(np.diff([1, *parts, 0]) < -0.1):
            return n
    return 0


def _mixed(past, n, way, most):
    """Whether the frames between the n-th last and the last of `past` are these two in growing parts.

    But for a share `most` of the energy of the `way` from one to the other.
    """
    first, energy, parts = past[-1 - n], float((way * way).sum()) + 1e-6, []
    for quarter in (1, 2, 3):
        between = past[-1 - n + round(quarter * n / 4)] - first
        part = float((between * way).sum()) / energy
        if float(((between - part * way) ** 2).sum()) > most * energy:
            return False
        parts.append(part)
    return parts[0] > 0.03 and parts[2] < 0.97 and parts[0] + 0.05 < parts[1] < parts[2] - 0.05


def small_copy(image: np.ndarray) -> np.ndarray:
    """Grey float32 [36, 64] of a frame or of its `grey_copy`, without its mean: a light switched on is no cut."""
    small = cv2.resize(grey_copy(image), SIZE, interpolation=cv2.INTER_AREA)
    return small - np.float32(cv2.mean(small)[0])


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two small copies."""
    return float(np.vdot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-6))

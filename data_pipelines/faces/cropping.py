"""Cuts the faces out of a video while it is decoded, once: crops of a track follow some seconds behind its newest frame.

The crop's place is smoothed over time, so it is known only later. Until then the surroundings of the face are kept, not the
frame: memory is bounded by the look-ahead, whatever the length of the video.
"""

import collections
import math

import cv2
import numpy as np

from data_pipelines.faces import quality
from data_pipelines.faces.alignment import BLOCK, EYE_LINE, crop_matrices, eyes_between, look_ahead
from data_pipelines.faces.changes import unit_vectors
from data_pipelines.faces.identity import DESCRIBED_EVERY, SIDE, aligning
from data_pipelines.faces.images import encode_image, power_of_two, reduced
from data_pipelines.faces.tracking import REFINE, Track, by_chance

MARGIN = 0.75  # half the side of the surroundings that are kept, in units of the crop's side


class Cropper:
    """`step` after each step of the tracker, then `finish`; encoded crops of all tracks are handed to `keep` as they come."""

    def __init__(self, settings, keep, describer=None):
        """`describer`: see `identity.make_describer`; None = the faces are not described."""
        self._settings, self._keep, self._n_kept, self._describer = settings, keep, 0, describer
        self._live: dict[Track, _Strip] = {}
        self._done: dict[Track, _Strip] = {}

    def step(self, tracker, bgr: np.ndarray) -> None:
        """Takes the newest frame, BGR uint8 [H, W, 3], which the tracker has just seen."""
        for track in tracker.live:
            if track not in self._live:
                self._live[track] = _Strip(track)
            self._live[track].add(bgr, self._settings)
        self._let_go(tracker.live)
        for strip in self._live.values():
            ready = strip.n_done + BLOCK
            if ready <= strip.known and strip.seconds_known(ready) >= look_ahead(self._settings.smoothing_seconds):
                self._crop(strip, ready)

    def _let_go(self, live):
        for track in [track for track in self._live if track not in live]:
            strip = self._live.pop(track)
            if not by_chance(track):
                while strip.n_done < len(track.seconds):
                    self._crop(strip, min(strip.n_done + BLOCK, len(track.seconds)))
            strip.waiting.clear()
            self._done[track] = strip

    def _crop(self, strip, end):
        settings, grey = self._settings, self._settings.channels == 1
        eyes = eyes_between(strip.track, strip.n_done, end, settings.smoothing_seconds)
        for pair, matrix in zip(eyes, crop_matrices(eyes, settings.image_size, settings.crop_scale)):
            part = strip.waiting.popleft()
            if self._describer is not None and strip.n_done % DESCRIBED_EVERY == 0:
                vector = self._describer.describe(part.warped(aligning(pair), SIDE))
                strip.descriptions.append(np.round(vector * (127 / max(np.abs(vector).max(), 1e-9))).astype(np.int8))
            crop = part.warped(matrix, settings.image_size)
            crop = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)[..., None] if grey else cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
            # Of the first one too, be the track ever so short.
            strip.light.append(quality.brightness_and_sharpness(crop) if strip.n_done % quality.LIGHT_EVERY == 0 else None)
            strip.matrices.append(matrix)
            strip.positions.append(self._n_kept)
            self._keep(encode_image(crop, settings.image_format))
            self._n_kept += 1

    def finish(self) -> "dict[Track, _Strip]":
        """What was cut out of each track, once the tracker has finished."""
        self._let_go(())
        return self._done


class _Strip:
    """The crops of one track: their matrices, positions in the order of `keep`, brightness, sharpness and looks of some."""

    def __init__(self, track):
        self.track, self.waiting = track, collections.deque()
        self.matrices, self.positions, self.light = [], [], []
        self.descriptions = []  # int8, of no certain length: of an hour's video 32 MB
        self._distance, self._factor = 0.0, 1

    @property
    def n_done(self):
        return len(self.matrices)

    @property
    def vector(self):
        """The sum of the descriptions, each of length 1; None where there are none."""
        blocks = [self.descriptions[i : i + 1000] for i in range(0, len(self.descriptions), 1000)]
        return sum(unit_vectors(block).sum(0) for block in blocks) if blocks else None

    def part(self, track, frames):
        """The strip of a track that holds only those frames of this one's; frames: a slice."""
        strip = _Strip(track)
        strip.matrices, strip.positions, strip.light = self.matrices[frames], self.positions[frames], self.light[frames]
        first = -(-frames.start // DESCRIBED_EVERY)  # the first that was described in the part
        strip.descriptions = self.descriptions[first : -(-frames.stop // DESCRIBED_EVERY)]
        return strip

    @property
    def known(self):
        """Frames of the track that detections have confirmed and told the eyes of."""
        track, stale = self.track, 50 * REFINE  # memory must not grow where no detection tells the eyes for long
        return (track.last_fine if track.last_seen - track.last_fine < stale else track.last_seen) - track.start + 1

    def seconds_known(self, n):
        """How far the confirmed part reaches beyond frame n - 1."""
        return self.track.seconds[self.known - 1] - self.track.seconds[n - 1]

    def add(self, bgr, settings):
        """Keeps the surroundings of the face in the newest frame."""
        (x0, y0), (x1, y1) = self.track.here.eyes.tolist()
        # One wrong detection with its eyes close together must not make the surroundings too small.
        self._distance = max(math.hypot(x1 - x0, y1 - y0), 0.95 * self._distance)
        side = settings.crop_scale * self._distance
        shrink = side / settings.image_size
        if not 0.9 * self._factor <= shrink < 2.2 * self._factor:  # not to and fro, which would be seen as flicker
            self._factor = power_of_two(shrink)
        # The crop's middle lies below that of the eyes, as the face stands.
        down, roll = (0.5 - EYE_LINE) * side, self.track.here.roll
        x, y = (x0 + x1) / 2 - down * math.sin(roll), (y0 + y1) / 2 + down * math.cos(roll)
        reach = MARGIN * side
        self.waiting.append(Surroundings(bgr, (x - reach, y - reach), (x + reach, y + reach), self._factor))


class Surroundings:
    """A part of a frame, averaged over blocks of `factor` x `factor` pixels, which can be warped as the frame itself could.

    Reducing a frame strongly in the warp alone would skip pixels, and flicker.
    """

    def __init__(self, bgr, low, high, factor):
        """`factor`: a power of two."""
        height, width = bgr.shape[:2]
        x0, y0 = (int(min(max(v, 0), most - factor)) for v, most in zip(low, (width, height)))
        x1, y1 = (int(min(max(v, v0 + factor), most)) for v, v0, most in zip(high, (x0, y0), (width, height)))
        x1, y1 = x0 + (x1 - x0) // factor * factor, y0 + (y1 - y0) // factor * factor
        part = bgr[y0:y1, x0:x1]
        # Not a view, which would hold the whole frame.
        self._image = reduced(part, factor) if factor > 1 else part.copy()
        # Middles of pixels: x = factor (x_part + 1/2) - 1/2 + x0.
        half = (factor - 1) / 2
        self._to_frame = np.array([[factor, 0, x0 + half], [0, factor, y0 + half], [0, 0, 1]])

    def warped(self, matrix, size):
        """The crop uint8 [size, size, 3] by the similarity [2, 3] from the frame; beyond the part its edge is continued."""
        matrix = matrix @ self._to_frame
        return cv2.warpAffine(self._image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

"""Following faces through a video: the motion of a face from frame to frame, and tracks of detections.

Detection runs every few frames; in between, optical flow on the face carries the eyes on. A frame belongs to a track only
when it lies between two detections of it that are near in time and joined by the flow, so nothing is made up over a real loss.
"""

import dataclasses
import math

import cv2
import numpy as np

from data_pipelines.faces.cuts import CutDetector
from data_pipelines.faces.detection import Face, overlap
from data_pipelines.faces.images import power_of_two, reduced

FULL_SEARCH = 10  # every so many detections the whole frame is searched; the others look where the face was
LOST_SEARCHES = 10  # so many detections after a loss search the whole frame too
REFINE = 4  # every so many detections the face is looked at large, to see how far the head leans
TURNED = math.radians(4)  # where that differs by so much from what the flow said, the next detection is large too
BESIDE = 0.3  # of the width of the face that is followed: so wide must others be to be looked for


class FaceFlow:
    """The motion of one face from frame to frame, by Lucas-Kanade flow of corners in its upper part (the mouth moves too much
    of its own). Begun on a frame BGR uint8 [H, W, 3] with the face in `box`, leaning by `roll` radians; then `step` for each
    further frame.
    """

    WIDTH = 56  # pixels of the face that the flow sees, at least, where the video has them
    POINTS = 40

    def __init__(self, bgr: np.ndarray, box, roll: float = 0.0):
        self._factor = power_of_two(box[2] / self.WIDTH)
        height, width = bgr.shape[:2]
        cos, sin = math.cos(roll), math.sin(roll)
        self._up = np.array([sin, -cos])
        across, along = 1.5 * box[2], 1.3 * box[3]
        size = abs(cos) * across + abs(sin) * along, abs(sin) * across + abs(cos) * along
        size = min(size[0], width), min(size[1], height)
        self._size = tuple(max(1, int(side) // self._factor) * self._factor for side in size)
        self._patch, self._origin = self._cut(bgr, box)
        self._points = None
        if min(self._size) >= 24:
            mask = np.zeros_like(self._patch)
            centre = (self._above(box, 0.08) - self._origin) / self._factor
            axes = np.array([0.4 * box[2], 0.32 * box[3]]) / self._factor
            cv2.ellipse(mask, tuple(map(round, centre)), tuple(map(round, axes)), math.degrees(roll), 0, 360, 255, -1)
            self._points = cv2.goodFeaturesToTrack(self._patch, self.POINTS, 0.01, 3, mask=mask)

    def step(self, bgr: np.ndarray, box) -> np.ndarray | None:
        """Similarity float64 [2, 3] from the last frame, where the face was in `box`, to this one; None when it cannot be told.

        After None the flow has ended.
        """
        if self._points is None or len(self._points) < 8:
            return None
        patch, origin = self._cut(bgr, box)
        room = np.empty_like(self._points)
        ended = cv2.calcOpticalFlowPyrLK(self._patch, patch, self._points, room, winSize=(11, 11), maxLevel=2)
        after, good = ended[0], ended[1][:, 0] > 0
        if good.sum() < 8:
            return None
        # Pixels of the frame, but for the half a pixel that is the same in both.
        start = self._points[good, 0] * self._factor + self._origin
        end = after[good, 0] * self._factor + origin
        motion, inliers = cv2.estimateAffinePartial2D(start, end, ransacReprojThreshold=0.75 * self._factor)
        if motion is None or not 0.8 < np.hypot(motion[0, 0], motion[1, 0]) < 1.25:
            return None
        kept = after[good][inliers[:, 0] > 0]
        if len(kept) < max(8, 0.4 * len(self._points)):
            return None
        self._patch, self._origin, self._points = patch, origin, kept
        return motion

    def _above(self, box, part):
        """The point of the face so much of its height above its middle."""
        return np.asarray(box[:2]) + np.asarray(box[2:]) / 2 + part * box[3] * self._up

    def _cut(self, bgr, box):
        """(grey patch around the box, reduced; its corner): always of the same size, inside the frame."""
        (width, height), (x, y) = self._size, self._above(box, 0.1)
        x = int(min(max(x - 0.5 * width, 0), bgr.shape[1] - width))
        y = int(min(max(y - 0.5 * height, 0), bgr.shape[0] - height))
        patch = reduced(bgr[y : y + height, x : x + width], self._factor)
        return cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY), np.array([x, y])


def moved(motion: np.ndarray, points) -> np.ndarray:
    """Points [N, 2] after the similarity [2, 3]."""
    return np.asarray(points) @ motion[:, :2].T + motion[:, 2]


def moved_face(motion: np.ndarray, face: Face) -> Face:
    """The face after the similarity: its box is not turned."""
    (a, b, x), (c, d, y) = motion.tolist()
    left, top, width, height = face.box.tolist()
    scale = math.hypot(a, c)
    middle = left + width / 2, top + height / 2
    width, height = width * scale, height * scale
    left, top = a * middle[0] + b * middle[1] + x - width / 2, c * middle[0] + d * middle[1] + y - height / 2
    box, eyes = np.array([left, top, width, height]), moved(motion, face.eyes)
    return Face(box, eyes, face.score, face.eyes_seen, face.turn, face.fine)


@dataclasses.dataclass(eq=False)
class Track:
    """One face through consecutive frames: `motions[i]` carries it from frame start + i to the next; `faces` by frame."""

    start: int
    faces: dict[int, Face] = dataclasses.field(default_factory=dict)
    motions: list[np.ndarray] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    here: Face | None = None  # where it is thought to be in the newest frame
    flow: FaceFlow | None = None
    last_fine: int = -1  # the last frame in which it was seen large
    turning: bool = True  # whether the head was then seen to lean otherwise than the flow says
    shape: tuple[int, int] = (1, 1)  # height and width of the frames it is in
    shot: int = 0  # how many cuts and jumps of the frames' numbers came before

    @property
    def last_seen(self) -> int:
        return next(reversed(self.faces))  # they are seen in order

    @property
    def newest(self) -> int:
        return self.start + len(self.motions)

    def see(self, frame: int, face: Face) -> None:
        self.faces[frame] = face
        if face.fine:
            self.last_fine = frame
            self.turning = self.here is not None and abs(_difference(face.roll, self.here.roll)) > TURNED
        else:  # what it was seen to lean by stands, moved by the flow; so does the flow's own idea of where the eyes are
            face = dataclasses.replace(face, eyes=_turned_to(face.eyes, self.here.roll)) if self.here is not None else face
        self.here = face

    def end_before(self, frame: int) -> None:
        """Removes the frames from `frame` on; the track begins before it."""
        if self.newest >= frame:
            self.faces = {at: face for at, face in self.faces.items() if at < frame}
            self.closed()

    def closed(self) -> "Track":
        """The track up to its last detection: what follows was never confirmed."""
        n = self.last_seen - self.start
        del self.motions[n:], self.seconds[n + 1 :]
        self.last_fine = max((at for at, face in self.faces.items() if face.fine), default=-1)
        self.flow = None
        return self


class Tracker:
    """Turns frames into tracks: `step` for each frame in order, then `finish`.

    live: the tracks that go on; n_searched counts whole-frame searches, n_cuts the cuts and cross-fades.
    A detector that has `settled` and `refined` (see `detection.YuNetDetector`) is asked for them.
    """

    def __init__(self, detector, detect_every: int = 5, min_face_pixels: int = 40):
        self._detector, self._every, self._min_face = detector, detect_every, min_face_pixels
        self._cuts, self.live, self._done = CutDetector(), [], []
        self._last, self._last_number = None, -1
        self._searches, self._frame, self._lost = 0, -1, -100 * detect_every
        self.n_searched = self.n_cuts = self._shot = 0
        self._cut_at = -1000
        self.largest_too_small = 0.0

    def step(self, number: int, seconds: float, bgr: np.ndarray) -> None:
        """Takes frame `number` (gaps in the numbers end all tracks), BGR uint8 [H, W, 3]."""
        self._frame += 1
        gap = self._last is not None and (number != self._last_number + 1 or bgr.shape != self._last.shape)
        if gap:  # what changed in a hole is no cut, and a shot ends there anyway
            self._cuts = CutDetector()
        cut = self._cuts.step(bgr)
        if cut is not None and cut.mixed:
            self._forget(self._frame - cut.mixed)
        if cut is not None or gap:
            # A fade is told in each of its frames.
            self.n_cuts += cut is not None and (not cut.mixed or self._frame - self._cut_at > cut.mixed)
            self._cut_at = self._frame if cut is not None else self._cut_at
            self._shot += 1
            if self._last is not None:
                self._close_all()
            self._lost = self._frame
        for track in list(self.live):
            motion = self._motion(track, bgr)
            if motion is None:
                self._close(track)
                continue
            track.motions.append(motion)
            track.seconds.append(seconds)
            track.here = moved_face(motion, track.here)
        self._last, self._last_number = bgr, number
        if self.live:
            due = any(track.newest - track.last_seen >= self._every for track in self.live)
        else:  # a face that was lost is waited for in every frame, but not for ever
            due = self._frame % self._every == 0 or self._frame - self._lost < 2 * self._every
        if due:
            self._detect(bgr, seconds)
        for track in [t for t in self.live if t.newest - t.last_seen >= 2 * self._every]:
            self._close(track)
        for track in self.live:
            if track.flow is None or track.last_seen == track.newest:
                track.flow = FaceFlow(bgr, track.here.box, track.here.roll)

    def _motion(self, track, bgr):
        """The similarity from the last frame to this one, by flow, or where it fails by a detection in both; None when lost."""
        motion = track.flow.step(bgr, track.here.box)
        if motion is None:
            track.flow = None
            if track.newest != track.last_seen:
                before = self._detector.detect(self._last, near=track.here)
                if not before:
                    return None
                track.see(track.newest, before[0])
            after = self._detector.detect(bgr, near=track.here)
            if after and after[0].eyes_seen and track.here.eyes_seen:
                eyes = after[0].eyes if after[0].fine else _turned_to(after[0].eyes, track.here.roll)
                motion = similarity(track.here.eyes, eyes)
        return motion

    def _detect(self, bgr, seconds):
        # One of two faces may be lost while the other is followed.
        whole = self._searches % FULL_SEARCH == 0 or not self.live or self._frame - self._lost < LOST_SEARCHES * self._every
        self._searches += 1
        found = []
        if whole:
            smallest = max((BESIDE * track.here.box[2] for track in self.live), default=0.0)
            found = self._usable(self._detector.detect(bgr, smallest=smallest))
            self.n_searched += 1
        for track in self.live:
            # In the whole frame the face is seen at another size, which moves its eyes: what is known is looked at alone.
            found = [face for face in found if overlap(face.box, track.here.box) <= 0.4]
            best = next(iter(self._look(bgr, track)), None)
            if best is not None:
                track.see(track.newest, best)
        for face in found:
            face = self._detector.settled(bgr, face) if hasattr(self._detector, "settled") else face
            if face is not None and not any(overlap(face.box, track.here.box) > 0.2 for track in self.live):
                track = Track(self._frame, seconds=[seconds], shape=bgr.shape[:2], shot=self._shot)
                track.see(self._frame, face)
                self.live.append(track)

    def _look(self, bgr, track):
        pause = (1 if track.turning else REFINE) * self._every
        if hasattr(self._detector, "refined") and track.newest - track.last_fine >= pause:
            found = self._detector.refined(bgr, track.here)
            if found:
                return found
        return self._detector.detect(bgr, near=track.here)

    def _usable(self, faces):
        widths = [face.box[2] for face in faces if face.box[2] < self._min_face]
        self.largest_too_small = max([self.largest_too_small, *widths])
        return [face for face in faces if face.box[2] >= self._min_face]

    def _close(self, track):
        self.live.remove(track)
        self._lost = self._frame
        self._done.append(track.closed())

    def _close_all(self):
        """Ends all tracks with the last frame, confirming in it those that are between two detections."""
        bgr = self._last
        for track in list(self.live):
            if track.last_seen != track.newest:
                found = self._detector.detect(bgr, near=track.here)
                if found:
                    track.see(track.newest, found[0])
            self._close(track)

    def _forget(self, frame):
        """Removes what was followed from `frame` on: those frames hold two pictures, one fading into the other."""
        for tracks in (self.live, self._done):
            tracks[:] = [track for track in tracks if track.start < frame]
            for track in tracks:
                track.end_before(frame)

    def finish(self) -> list[Track]:
        """All tracks, by the frame they start in; frames count from 0 in the order of the calls of `step`."""
        if self._last is not None:
            self._close_all()
        return sorted(self._done, key=lambda track: track.start)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity float64 [2, 3] that maps the two points `source` [2, 2] exactly onto `target` [2, 2]."""
    a, b = (complex(*p[1]) - complex(*p[0]) for p in (np.asarray(source, float), np.asarray(target, float)))
    turn = b / a  # as complex numbers: z -> turn z + shift
    shift = complex(*target[0]) - turn * complex(*source[0])
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def by_chance(track: Track) -> bool:
    """Whether a finished track is taken for a chance hit: fewer than three detections, or hardly ever an eye seen."""
    seen = [face.eyes_seen > 0 for face in track.faces.values()]
    return (len(seen) < 3 and len(track.seconds) > 1) or bool(np.mean(seen) < 0.3)


def _difference(one, other):
    """Between two angles, -pi to pi."""
    return math.remainder(one - other, 2 * math.pi)


def _turned_to(eyes, roll):
    """The eyes [2, 2], as far from each other and around the same middle, on a line that leans by `roll`."""
    half = np.hypot(*(eyes[1] - eyes[0])) / 2 * np.array([math.cos(roll), math.sin(roll)])
    return eyes.mean(0) + np.stack([-half, half])

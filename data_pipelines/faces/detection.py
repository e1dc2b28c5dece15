"""Where the faces and the eyes of a frame are: OpenCV's own Haar cascades, or the YuNet network when its ONNX file is given.

Both look at a smaller copy of the frame, or at the surroundings of where the face was last, and answer in the frame's pixels.
"""

import dataclasses
import functools
import math
import pathlib

import cv2
import cv2.data
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces.symmetry import levelled
from data_pipelines.faces.views import Turned, Whole

TURN_STEP = math.radians(7.5)  # a face is looked at in a view turned by the nearest multiple


@dataclasses.dataclass(frozen=True)
class Face:
    """A detected face.

    box: x, y, width, height, pixels, of the face as it is when turned upright around its middle; eyes: centres [2, 2] (x, y),
    first the one that is left in the UPRIGHT face; score: 0 to 1; eyes_seen: how many of the eyes were detected, the others
    being placed where they lie in the average face; turn: how far the tip of the nose is from the eyes' middle, along the line
    through them and in units of half their distance: 0 seen from the front, 1 over an eye, at about 45 degrees; NaN where no
    nose is looked for; fine: whether the face was seen large enough that its eyes tell how far the head leans.
    """

    box: np.ndarray
    eyes: np.ndarray
    score: float
    eyes_seen: int = 2
    turn: float = math.nan
    fine: bool = True

    @property
    def roll(self) -> float:
        """How far the head leans, radians, clockwise in the image; between -pi and pi."""
        (x0, y0), (x1, y1) = self.eyes.tolist()
        return math.atan2(y1 - y0, x1 - x0)

    @property
    def middle(self) -> np.ndarray:
        """The middle of the box (x, y)."""
        return self.box[:2] + self.box[2:] / 2


def overlap(a, b) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return float(width * height / (a[2] * a[3] + b[2] * b[3] - width * height))


def nose_turn(left, right, nose) -> float:
    """`Face.turn` from three points (x, y): the eyes, first the one that is left in the image, and the tip of the nose."""
    half = (right - left) / 2
    return float((nose - left - half) @ half / max(half @ half, 1e-9))


NETWORKS = 12  # kept ready, each for pictures of one size: another size costs a network as much as several pictures


def yunet_network(path: str, size: tuple[int, int]):
    """The YuNet network of that file for pictures of this (width, height); its threshold is whatever was set last."""
    return _network(path, pathlib.Path(path).stat().st_mtime_ns, size)


@functools.lru_cache(NETWORKS)
def _network(path, changed, size):
    try:
        return cv2.FaceDetectorYN.create(path, "", size, 0.6, 0.3, 50)
    except cv2.error as error:
        raise InputError(f"The file {path} cannot be loaded as a YuNet model; download it again.") from error


class YuNetDetector:
    """YuNet: box and five landmarks. Made from the path of the ONNX file."""

    SIDES = (320, 640)  # the second only where the first shows nothing: small faces in large frames
    LEAST = 24  # width of the smallest face that is to be found, pixels of what is looked at
    LOCAL_SIDE, PART = 64, 1.5  # a face whose place is known: side of the square looked at, pixels and sizes of the face
    FINE_PART = 1.3, 1.15  # of the face's width and height, looked at large
    SETTLE_SIDE = 96  # of the square in which a new face is looked at in four turns
    FINE_WIDTH = 123  # of a face whose landmarks are to tell how far the head leans, pixels; smaller ones are not enlarged
    STRIDE = 32  # of the network's coarsest grid
    SHARE = 0.6  # of what the mirror image says that is believed; from 0.5 to 0.8 it matters by a hundredth

    def __init__(self, model_path, score: float = 0.6):
        if not pathlib.Path(model_path).is_file():
            raise InputError(f"There is no YuNet model at {model_path}; config.data.yunet_model must name its ONNX file.")
        self._path, self._score, self._n_refined = str(model_path), score, 0
        self._cascade = EyeCascade(80, 0.2, (0.2, 0.4))
        yunet_network(self._path, (self.LOCAL_SIDE, self.LOCAL_SIDE))

    def detect(self, bgr: np.ndarray, near: Face | None = None, smallest: float = 0.0) -> list[Face]:
        """Faces of a BGR frame uint8 [H, W, 3], best first; with `near`, only one that lies about where that one was.

        `smallest`: narrower faces, in pixels, need not be found, which makes the search faster; 0 = find all.
        With `near` the face is seen small: enough to tell that it is there, not how far it leans (see `refined`).
        """
        if near is not None:
            scale = self.PART * max(near.box[2:]) / self.LOCAL_SIDE
            view = Turned(bgr, near.middle, scale, (self.LOCAL_SIDE, self.LOCAL_SIDE), _turn(near.roll))
            return _best_first(self._faces(view, 0.7 * self._score, fine=False), near)
        faces, factor = [], 0.0
        needed = self.LEAST / smallest * max(bgr.shape[:2]) if smallest else self.SIDES[0]
        for side in self.SIDES if needed >= self.SIDES[0] else (self.STRIDE * max(3, math.ceil(needed / self.STRIDE)),):
            view = Whole(bgr, side)
            if not faces and view.factor > factor:
                faces = self._faces(view, self._score, fine=False)
            factor = view.factor
        return _best_first(faces)

    def refined(self, bgr: np.ndarray, near: Face) -> list[Face]:
        """As `detect` with `near`, seen as large as it takes to tell how far the head leans: by the whole face's own symmetry.

        Landmarks err to one side by some degrees, and those of the mirror image, looked at every other time, to the other.
        The line through the eyes that OpenCV's cascade finds near them errs less.
        """
        factor = max(1.0, near.box[2] / self.FINE_WIDTH)
        least = np.multiply(self.FINE_PART, near.box[2:]) / factor
        out = tuple(self.STRIDE * math.ceil(side / self.STRIDE) for side in least)
        # Landmarks also err by where the face lies on the network's grids; elsewhere each time, they are right on average.
        self._n_refined += 1
        shift = factor * self.STRIDE / 2 * (np.modf(self._n_refined * np.array([0.7548777, 0.5698403]))[0] - 0.5)
        view = Turned(bgr, near.middle + shift, factor, out, _turn(near.roll))
        mirrored = self._n_refined % 2 == 0
        found = _best_first(self._faces(view, 0.7 * self._score, fine=True, mirrored=mirrored), near)
        return [
            dataclasses.replace(face, eyes=levelled(bgr, self._seen_eyes(bgr, face.eyes), self.SHARE)) for face in found[:1]
        ]

    def _seen_eyes(self, bgr, eyes):
        """The network's eyes as the cascade has them lean, at the mean of both places; as they are where it lacks one."""
        found, seen = self._cascade.near(bgr, eyes)
        if seen < 2:
            return eyes
        mean, across = (eyes + found) / 2, found[1] - found[0]
        half = across / np.hypot(*across) * np.hypot(*(mean[1] - mean[0])) / 2
        return mean.mean(0) + np.stack([-half, half])

    def settled(self, bgr: np.ndarray, face: Face) -> Face | None:
        """A face that the whole frame showed, turned upright: as the best of four turns shows it. None: none of them does.

        The network sees faces that lie on their side, or stand on their head, but takes their mouth for an eye.
        """
        best = None
        for quarter in range(4):
            scale = 1.2 * self.PART * max(face.box[2:]) / self.SETTLE_SIDE
            view = Turned(bgr, face.middle, scale, (self.SETTLE_SIDE, self.SETTLE_SIDE), quarter * math.pi / 2)
            found = next(iter(_best_first(self._faces(view, 0.7 * self._score, fine=True), face)), None)
            if found is not None and (best is None or found.score > best.score + 0.05 * (quarter == 1)):
                best = found
        if best is None:
            return None
        for _ in range(3):  # until the view leans as the head does
            turn, again = _turn(best.roll), self.refined(bgr, best)
            best = again[0] if again else best
            if _turn(best.roll) == turn:
                break
        return best

    def _faces(self, view, score, fine, mirrored=False):
        network = yunet_network(self._path, view.image.shape[1::-1])
        network.setScoreThreshold(score)
        _, found = network.detect(view.image[:, ::-1].copy() if mirrored else view.image)
        faces = []
        for row in [] if found is None else found:
            if mirrored:
                row = _mirrored(row, view.image.shape[1])
            right, left, nose, *mouth = landmarks = row[4:14].reshape(5, 2)
            # Turned views show an upright face, or none.
            if isinstance(view, Turned) and (np.mean(mouth, axis=0) - (right + left) / 2)[1] < 0.4 * abs(left - right)[0]:
                continue
            points = view.points_out(landmarks[:3])
            faces.append(Face(view.box_out(row[:4]), points[:2], float(row[14]), turn=nose_turn(*points), fine=fine))
        return faces


class EyeCascade:
    """OpenCV's Haar cascade of eyes, for a face whose place is known, in a grey or BGR image.

    Where an eye is not detected it is put where it lies in the average face.
    """

    USUAL = np.array([[0.313, 0.39], [0.684, 0.39]])  # in units of Haar's box of a face; mean of YuNet's eyes there

    def __init__(self, face: int, reach: float, sizes: tuple[float, float]):
        """face: width of the face in which eyes are looked for, pixels; in units of it: how far around their usual place, and
        the smallest and largest picture of an eye. Small numbers are fast."""
        self._cascade, self._face, self._reach = _cascade("haarcascade_eye.xml"), face, reach
        self._least, self._most = ((round(size * face),) * 2 for size in sizes)

    def in_box(self, image, box, turn):
        """(eyes [2, 2], how many were detected) in the face of Haar's `box`, turned by about `turn` radians in the image."""
        return self._eyes(image, box[:2] + box[2:] / 2, max(box[2:]), turn)

    def near(self, image, eyes):
        """As `in_box`, of a face that has its eyes about there: [2, 2]."""
        across, usual = eyes[1] - eyes[0], self.USUAL
        roll, side = math.atan2(across[1], across[0]), math.hypot(*across) / (usual[1, 0] - usual[0, 0])
        down = side * (0.5 - usual[:, 1].mean()) * np.array([-math.sin(roll), math.cos(roll)])
        return self._eyes(image, eyes.mean(0) + down, side, roll)

    def _eyes(self, image, middle, width, turn):
        usual, side = self.USUAL * self._face, self._face
        view = Turned(image, middle, width / side, (side, side), turn)
        face = cv2.cvtColor(view.image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else view.image
        eyes, seen = usual.copy(), [False, False]
        for i in range(2):
            x, y = np.maximum(usual[i] - self._reach * side, 0).astype(int)
            part = face[y : y + round(2 * self._reach * side), x : x + round(2 * self._reach * side)]
            # The cascade errs to one side; in the mirror image it errs to the other.
            places = [self._eye_in(part[:, ::step], usual[i] - [x, y], step) for step in (1, -1)]
            places = [place for place in places if place is not None]
            if places:
                eyes[i], seen[i] = np.mean(places, axis=0) + [x, y], True
        if seen[0] != seen[1]:  # the other eye moves with the one that was seen
            i = seen.index(True)
            eyes[1 - i] += eyes[i] - usual[i]
        return view.points_out(eyes), sum(seen)

    def _eye_in(self, part, usual, step):
        """Where the eye is in a part of a face that holds it at about `usual`; None = it is not seen. `step` -1: mirrored."""
        part = np.ascontiguousarray(part)
        found, hits = self._cascade.detectMultiScale2(part, 1.05, 3, minSize=self._least, maxSize=self._most)
        if not len(found):
            return None
        found = np.asarray(found, np.float64)
        centres = found[:, :2] + (found[:, 2:] - 1) / 2
        if step < 0:
            centres[:, 0] = part.shape[1] - 1 - centres[:, 0]
        distance = np.linalg.norm(centres - usual, axis=1) / self._face
        best = np.argmin(distance - 0.01 * np.asarray(hits))
        return centres[best] if distance[best] < 0.15 else None


class HaarDetector:
    """OpenCV's Haar cascades: the frontal face, and in its upper half the eyes.

    Where an eye is not detected it is put where it lies in the average face of that box. A face without any eye counts only
    when the cascade is very sure of it, or when it lies where `near` was.
    """

    SIDES = (480, 960)  # the second only where the first shows nothing: small faces in large frames
    LOCAL_FACE = 80
    SURE = 12  # overlapping hits that make up for missing eyes
    TURNED_EVERY = 10  # of the searches that show nothing, the picture is also looked at turned by quarters

    def __init__(self, min_face_pixels: int = 40):
        self._face = _cascade("haarcascade_frontalface_alt2.xml")
        self._eyes = EyeCascade(140, 0.24, (0.15, 0.45))
        self._min_face, self._n_empty = min_face_pixels, 0

    def detect(self, bgr: np.ndarray, near: Face | None = None, smallest: float = 0.0) -> list[Face]:
        """Faces of a BGR frame uint8 [H, W, 3], best first; with `near`, only one that lies about where that one was.

        `smallest`: narrower faces, in pixels, are not looked for, which makes the search faster.
        """
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        if near is not None:
            turn, most, side = _turn(near.roll), 1.4 * self.LOCAL_FACE, 2 * self.LOCAL_FACE
            view = Turned(grey, near.middle, max(near.box[2:]) / self.LOCAL_FACE, (side, side), turn)
            return _best_first(self._faces(grey, view, 1.05, 2, 0.7 * self.LOCAL_FACE, most, 0, turn), near)
        faces, factor = [], 0.0
        least = max(smallest, self._min_face)
        for side in self.SIDES:
            view = Whole(grey, side)
            if not faces and view.factor > factor:
                step = 1.1 if side == self.SIDES[0] else 1.2
                faces = self._faces(grey, view, step, 3, max(24, least * view.factor), side, self.SURE)
            factor = view.factor
        if not faces:
            faces = self._turned_faces(grey, least) if self._n_empty % self.TURNED_EVERY == 0 else []
            self._n_empty += 1
        return _best_first(faces)

    def _turned_faces(self, grey, least):
        """Faces of a picture that lies on its side or stands on its head."""
        middle, longer = np.array(grey.shape[::-1]) / 2, max(grey.shape)
        side, faces = min(self.SIDES[0], longer), []
        for quarter in (1, 3, 2):
            turn = quarter * math.pi / 2
            view = Turned(grey, middle, longer / side, (side, side), turn)
            faces += self._faces(grey, view, 1.1, 3, max(24, least * view.factor), side, self.SURE, turn)
        return faces

    def _faces(self, grey, view, step, neighbours, smallest, largest, sure, turn=0.0):
        smallest, largest = (round(smallest),) * 2, (round(largest),) * 2
        boxes, hits = self._face.detectMultiScale2(view.image, step, neighbours, minSize=smallest, maxSize=largest)
        faces = []
        for box, n in zip(boxes, hits):
            box = view.box_out(np.asarray(box, np.float64))
            eyes, seen = self._eyes.in_box(grey, box, turn)
            if seen or n >= sure:
                faces.append(Face(box, levelled(grey, eyes), float(1 - np.exp(-n / 20)), seen))
        return faces


def make_detector(name: str, yunet_model: str = "", min_face_pixels: int = 40):
    """The detector that the settings name: 'haar', 'yunet', or 'auto' = yunet when its model is given."""
    if name == "yunet" or (name == "auto" and yunet_model):
        return YuNetDetector(yunet_model)
    return HaarDetector(min_face_pixels)


def _cascade(name):
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + name)
    if cascade.empty():
        raise InputError(f"This OpenCV ({cv2.__version__}) comes without {name}; install opencv-python-headless>=4.12,<5.")
    return cascade


def _best_first(faces, near=None):
    if near is not None:
        faces = [face for face in faces if overlap(face.box, near.box) > 0.3]
    return sorted(faces, key=lambda face: -face.score)


def _mirrored(row, width):
    """YuNet's row of a face in the mirror image, as it is in the picture: left is right there, for landmarks too."""
    row = row.copy()
    row[0] = width - row[0] - row[2]
    points = row[4:14].reshape(5, 2)[[1, 0, 2, 4, 3]]
    points[:, 0] = width - 1 - points[:, 0]
    row[4:14] = points.ravel()
    return row


def _turn(roll):
    """The multiple of TURN_STEP nearest to an angle."""
    return round(roll / TURN_STEP) * TURN_STEP

"""Where the faces and the eyes of a frame are: OpenCV's own Haar cascades, or the YuNet network when its ONNX file is given.

Both look at a smaller copy of the frame, or at the surroundings of where the face was last, and answer in the frame's pixels.
"""

import dataclasses
import math
import pathlib

import cv2
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.images import power_of_two, reduced


@dataclasses.dataclass(frozen=True)
class Face:
    """A detected face.

    box: x, y, width, height, pixels; eyes: centres [2, 2] (x, y), first the one that is left in the IMAGE; score: 0 to 1;
    eyes_seen: how many of the eyes were detected, the others being placed where they lie in the average face; turn: how far
    the tip of the nose is from the eyes' middle, along the line through them and in units of half their distance: 0 seen from
    the front, 1 over an eye, at about 45 degrees; NaN where no nose is looked for.
    """

    box: np.ndarray
    eyes: np.ndarray
    score: float
    eyes_seen: int = 2
    turn: float = math.nan


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


class YuNetDetector:
    """YuNet: box and five landmarks, of which the eyes and the nose are used. Made from the path of the ONNX file."""

    SIDES = (320, 640)  # the second only where the first shows nothing: small faces in large frames
    LEAST = 16  # width of the smallest face that is to be found, pixels of what is looked at
    LOCAL_SIDE, LOCAL_PART = 64, 1.5  # a face whose place is known: side of the square looked at, pixels and sizes of the face

    def __init__(self, model_path, score: float = 0.6):
        if not pathlib.Path(model_path).is_file():
            raise InputError(f"There is no YuNet model at {model_path}; config.data.yunet_model must name its ONNX file.")
        self._score = score
        try:
            self._net = cv2.FaceDetectorYN.create(str(model_path), "", (320, 320), score, 0.3, 50)
        except cv2.error as error:
            raise InputError(f"The file {model_path} cannot be loaded as a YuNet model; download it again.") from error

    def detect(self, bgr: np.ndarray, near: Face | None = None, smallest: float = 0.0) -> list[Face]:
        """Faces of a BGR frame uint8 [H, W, 3], best first; with `near`, only one that lies about where that one was.

        `smallest`: narrower faces, in pixels, need not be found, which makes the search faster; 0 = find all.
        """
        if near is not None:
            view = _View.square(bgr, near.box, self.LOCAL_PART, self.LOCAL_SIDE)
            return _best_first(self._faces(view, 0.7 * self._score), near)
        faces, factor = [], 0.0
        needed = self.LEAST / smallest * max(bgr.shape[:2]) if smallest else self.SIDES[0]
        for side in self.SIDES if needed >= self.SIDES[0] else (max(96, round(needed)),):
            view = _View(bgr, side)
            if not faces and view.factor > factor:
                faces = self._faces(view, self._score)
            factor = view.factor
        return _best_first(faces)

    def _faces(self, view, score):
        self._net.setInputSize(view.image.shape[1::-1])
        self._net.setScoreThreshold(score)
        _, found = self._net.detect(view.image)
        found = [] if found is None else found
        points = [view.points_out(row[4:10].reshape(3, 2)) for row in found]
        return [Face(view.box_out(row[:4]), p[:2], float(row[14]), turn=nose_turn(*p)) for row, p in zip(found, points)]


class HaarDetector:
    """OpenCV's Haar cascades: the frontal face, and in its upper half the eyes.

    Where an eye is not detected it is put where it lies in the average face of that box. A face without any eye counts only
    when the cascade is very sure of it, or when it lies where `near` was.
    """

    SIDES = (480, 960)  # the second only where the first shows nothing: small faces in large frames
    LOCAL_FACE = 80
    EYE_FACE = 140  # width of the face in which eyes are looked for, pixels
    EYE_PRIOR = np.array([[0.313, 0.39], [0.684, 0.39]])  # in units of the box; mean of YuNet's eyes in Haar's boxes
    SURE = 12  # overlapping hits that make up for missing eyes

    def __init__(self, min_face_pixels: int = 40):
        self._face = _cascade("haarcascade_frontalface_alt2.xml")
        self._eye = _cascade("haarcascade_eye.xml")
        self._min_face = min_face_pixels

    def detect(self, bgr: np.ndarray, near: Face | None = None, smallest: float = 0.0) -> list[Face]:
        """Faces of a BGR frame uint8 [H, W, 3], best first; with `near`, only one that lies about where that one was.

        `smallest`: narrower faces, in pixels, are not looked for, which makes the search faster.
        """
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        if near is not None:
            view = _View.around(grey, near.box, self.LOCAL_FACE)
            turn = np.arctan2(*(near.eyes[1] - near.eyes[0])[::-1])
            faces = self._faces(grey, view, 1.05, 2, 0.7 * self.LOCAL_FACE, 1.4 * self.LOCAL_FACE, 0, turn)
            return _best_first(faces, near)
        faces, factor = [], 0.0
        for side in self.SIDES:
            view = _View(grey, side)
            if not faces and view.factor > factor:
                step = 1.1 if side == self.SIDES[0] else 1.2
                faces = self._faces(grey, view, step, 3, max(24, max(smallest, self._min_face) * view.factor), side, self.SURE)
            factor = view.factor
        return _best_first(faces)

    def _faces(self, grey, view, step, neighbours, smallest, largest, sure, turn=0.0):
        smallest, largest = (round(smallest),) * 2, (round(largest),) * 2
        boxes, hits = self._face.detectMultiScale2(view.image, step, neighbours, minSize=smallest, maxSize=largest)
        faces = []
        for box, n in zip(boxes, hits):
            box = view.box_out(np.asarray(box, np.float64))
            eyes, seen = self._eyes(grey, box, turn)
            if seen or n >= sure:
                faces.append(Face(box, eyes, float(1 - np.exp(-n / 20)), seen))
        return faces

    def _eyes(self, grey, box, turn):
        """(eyes [2, 2], how many were detected) in the face of `box`, turned by about `turn` radians in the image."""
        width = box[2]
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        usual = box[:2] + ((self.EYE_PRIOR - 0.5) @ rotation + 0.5) * width
        eyes, seen = usual.copy(), [False, False]
        for i in range(2):
            part = np.concatenate([usual[i] - 0.24 * width, [0.48 * width, 0.48 * width]])
            view = _View(grey, region=part, factor=self.EYE_FACE / width)
            least, most = (round(0.15 * self.EYE_FACE),) * 2, (round(0.45 * self.EYE_FACE),) * 2
            if min(view.image.shape) < least[0]:
                continue
            found, hits = self._eye.detectMultiScale2(view.image, 1.05, 3, minSize=least, maxSize=most)
            if len(found):
                found = np.asarray(found, np.float64)
                centres = view.points_out(found[:, :2] + found[:, 2:] / 2)
                distance = np.linalg.norm(centres - eyes[i], axis=1) / width
                best = np.argmin(distance - 0.01 * np.asarray(hits))
                if distance[best] < 0.15:
                    eyes[i], seen[i] = centres[best], True
        if seen[0] != seen[1]:  # the other eye moves with the one that was seen
            i = seen.index(True)
            eyes[1 - i] += eyes[i] - usual[i]
        return eyes, sum(seen)


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


class _View:
    """A part of a frame at another size, and the way back to the frame's pixels."""

    def __init__(self, image, side=None, region=None, factor=None):
        """The whole image with its longer side at most `side`, or its `region` (x, y, width, height) resized by `factor`."""
        height, width = image.shape[:2]
        self.corner = np.zeros(2)
        if region is None:
            factor = min(1.0, side / max(width, height))
        else:
            x0, y0 = max(0, int(region[0])), max(0, int(region[1]))
            x1, y1 = min(width, int(region[0] + region[2]) + 1), min(height, int(region[1] + region[3]) + 1)
            image, self.corner = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], np.array([x0, y0], np.float64)
        if factor != 1 and image.size:
            size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
            # The factor that rounding to whole pixels leaves, along x and y.
            self.factors = np.array(size) / image.shape[1::-1]
            image = _resized(image, size)
        else:
            self.factors = np.ones(2)
        self.image, self.factor = image, factor

    @classmethod
    def square(cls, image, box, part, side):
        """The square around `box` that is `part` times its longer side, `side` pixels wide whatever the place."""
        height, width = image.shape[:2]
        whole = min(round(part * max(box[2:])), height, width)
        factor = power_of_two(whole / side)  # so that it can be halved
        whole = whole // factor * factor
        x, y = np.clip(box[:2] + box[2:] / 2 - whole / 2, 0, [width - whole, height - whole]).round()
        view = cls(image, region=(x, y, whole - 0.5, whole - 0.5), factor=1)
        view.factors, view.image = np.full(2, side / whole), _resized(view.image, (side, side))
        return view

    @classmethod
    def around(cls, image, box, face_width):
        """The surroundings of `box`, twice its size, with the face about `face_width` pixels wide."""
        region = np.array([box[0] - 0.5 * box[2], box[1] - 0.5 * box[3], 2 * box[2], 2 * box[3]])
        return cls(image, region=region, factor=face_width / max(box[2:]))

    def points_out(self, points):
        return np.asarray(points, np.float64) / self.factors + self.corner

    def box_out(self, box):
        return np.concatenate([self.points_out(box[:2]), np.asarray(box[2:], np.float64) / self.factors])


def _resized(image, size):
    """The image at (width, height) `size`; halved first as long as that leaves no edge over, which would shift what is seen."""
    factor = power_of_two(min(image.shape[1] / size[0], image.shape[0] / size[1]))
    while image.shape[0] % factor or image.shape[1] % factor:
        factor //= 2
    image = reduced(image, factor)
    smaller = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)

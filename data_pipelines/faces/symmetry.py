"""How far a face leans, told from its mirror image: an upright face lies on its own mirror image, one that leans by an angle
lies on it once it is turned by twice that angle.

The Haar cascades find each eye by itself, and YuNet looks at a small picture; both err by some degrees, which stay the same
through a clip. The whole face knows better, but is not symmetrical itself, when it is turned away above all: SHARE of what it
says is believed.
"""

import math

import cv2
import numpy as np

from data_pipelines.faces.views import Turned

SIDE, EYES_APART, EYES_DOWN = 64, 20.0, 24.0  # of the picture that is compared, its eyes' distance and height, pixels
SHARE = 0.7  # chosen on every second one of 123 clips: benchmarks/roll.py --half 0
MOST = math.radians(8)
STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


def _inner_face():
    mask = np.zeros((SIDE, SIDE), np.uint8)
    return cv2.ellipse(mask, (SIDE // 2, SIDE // 2 + 1), (17, 20), 0, 0, 360, 255, -1)


INNER = _inner_face()


def levelled(image: np.ndarray, eyes: np.ndarray, share: float = SHARE) -> np.ndarray:
    """The eyes [2, 2] turned about their middle by `share` of what the face's mirror image says; image: grey or BGR, uint8."""
    across = eyes[1] - eyes[0]
    roll, scale = math.atan2(across[1], across[0]), math.hypot(*across) / EYES_APART
    down = scale * ((SIDE - 1) / 2 - EYES_DOWN) * np.array([-math.sin(roll), math.cos(roll)])
    face = Turned(image, eyes.mean(0) + down, scale, (SIDE, SIDE), roll).image
    face = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY) if face.ndim == 3 else face
    lean = share * min(max(lean_of(face), -MOST), MOST)
    half = math.hypot(*across) / 2 * np.array([math.cos(roll + lean), math.sin(roll + lean)])
    return eyes.mean(0) + np.stack([-half, half])


def lean_of(face: np.ndarray) -> float:
    """Radians, clockwise, by which an aligned face leans, grey uint8 [SIDE, SIDE]; 0 where its mirror image does not match."""
    grey = face.astype(np.float32)
    grey = cv2.subtract(grey, cv2.GaussianBlur(grey, (0, 0), 4))
    local = np.sqrt(cv2.GaussianBlur(cv2.multiply(grey, grey), (0, 0), 4))
    even = np.asarray(grey / (local + 8), np.float32)  # one half of a face is often darker than the other
    motion = np.eye(2, 3, dtype=np.float32)
    try:
        _, motion = cv2.findTransformECC(
            even, np.ascontiguousarray(even[:, ::-1]), motion, cv2.MOTION_EUCLIDEAN, STEPS, INNER, 3
        )
    except cv2.error:  # it does not converge
        return 0.0
    return -math.atan2(motion[1, 0], motion[0, 0]) / 2

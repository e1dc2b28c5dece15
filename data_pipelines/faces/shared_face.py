"""A face that everybody shares: the motion of a clip without the looks of who moves. Pure functions on arrays.

Dense optical flow tells where each place of the clip's reference frame is in every other frame. The motion is then either kept
as a picture of its own (`coded`), or carried over to one face that we draw (`carried_over`). What passes before the face, and
what the flow loses, is told by the flow back, which does not bring a place home, and by detail that does not match; such places
are filled from those around them.

The flow is OpenCV's DIS (T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016); the check of both
directions is that of N. Sundaram et al., "Dense point trajectories by GPU-accelerated large displacement optical flow", ECCV
2010. Displacements are pixels, x to the right and y down. All pictures are grey uint8 [H, H] aligned crops of one side.
"""

import functools

import cv2
import numpy as np

from data_pipelines.faces.alignment import EYE_LINE
from data_pipelines.synthetic.rendering import draw_shared_face

FLOW_SIDE = 128  # the flow is computed on crops of at least this side: on fewer pixels it loses lids and lips
# Both directions may disagree by sqrt(OFF + OFF_SHARE * squared length) pixels before a place counts as hidden.
OFF, OFF_SHARE = 0.5, 0.01
# Where flow is right the detail of both pictures agrees: the difference may have so much of the energy of both, and noise.
MISMATCH, MISMATCH_NOISE, DETAIL = 0.5, 8.0, 0.025  # noise in grey values; detail is what is finer than so much of the side
HIDDEN_ABOVE = 0.5  # a frame of whose face a larger share is hidden tells nothing of how the face moves
FILL_REACH, FILL_FLOOR = 0.05, 0.05  # hidden places: standard deviation of the filling, share of the side; towards 0 beyond it
LARGEST = 0.1  # displacement that the picture of a motion can hold, share of the crop's side (a quarter of the eyes' distance)
STILL = 128  # the value that stands for no displacement
SAMPLE = 96  # frames that the reference is chosen from


@functools.cache
def face_window(side: int, crop_scale: float) -> np.ndarray:
    """Where the face is in an aligned crop, float32 [side, side] from 0 to 1 with a soft edge.

    An ellipse from the hairline to below the chin. What moves around it is the room behind the head, which the crop, as it
    follows the eyes, makes move against the head.
    """
    eyes = side / crop_scale  # their distance
    y, x = np.mgrid[:side, :side].astype(np.float32) + 0.5
    radius = np.hypot((x - side / 2) / (1.1 * eyes), (y - EYE_LINE * side - 0.45 * eyes) / (1.5 * eyes))
    edge = np.clip((1 - radius) / 0.15, 0, 1)
    return edge * edge * (3 - 2 * edge)


def choose_reference(frames: np.ndarray, crop_scale: float) -> int:
    """Which of the frames [N, H, H] is to be the clip's reference.

    The one nearest to their median face, of the sharper half. Near the median, as flow is surest over short ways and the
    face at rest hides least of itself (a closed eye has no iris that could move). Sharp, as blurred frames are
    near every median, which is blurred itself, and flow finds no hold on them. Light is taken out of the comparison.
    """
    frames = np.asarray(frames)
    window = face_window(frames.shape[1], crop_scale)
    median = _evenly_lit(np.median(frames, 0), window)
    away = np.array([np.sum(window * np.abs(_evenly_lit(frame, window) - median)) for frame in frames])
    sharpness = np.array([np.sum(window * cv2.Laplacian(frame, cv2.CV_32F) ** 2) for frame in frames])
    return int(np.where(sharpness >= np.median(sharpness), away, np.inf).argmin())


def _evenly_lit(frame, window):
    """The frame with mean 0 and standard deviation 1 over the window."""
    frame, total = frame.astype(np.float32), window.sum()
    frame = frame - np.sum(window * frame) / total
    return frame / max(np.sqrt(np.sum(window * frame**2) / total), 1.0)


def make_flow():
    """(first, second) -> displacement float32 [H, H, 2]: what is at x in the first is at x + displacement in the second."""
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # None: no displacement to begin with, which OpenCV's annotations leave out.
    return lambda first, second: dense.calc(first, second, None)  # pyright: ignore[reportCallIssue, reportArgumentType]


def disagreement(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Where a displacement [H, W, 2] and the one back do not bring a place home: bool [H, W]. Such places are hidden."""
    return_way = sampled(back, there)
    lengths = np.sum(there**2, -1) + np.sum(return_way**2, -1)
    return np.sum((there + return_way) ** 2, -1) > OFF + OFF_SHARE * lengths


def mismatch(first: np.ndarray, second: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Where the detail of the first picture is not that of the second after the displacement: bool [H, W].

    What has texture of its own, a hand before the face, also fools both directions of the flow into agreeing.
    """
    around = DETAIL * len(first)

    def detail(image):
        image = image.astype(np.float32)
        return image - cv2.GaussianBlur(image, (0, 0), around)

    own, found = detail(first), detail(sampled(second, there))
    energies = cv2.GaussianBlur(np.dstack([(own - found) ** 2, own**2 + found**2]), (0, 0), around)
    return energies[..., 0] > MISMATCH * energies[..., 1] + MISMATCH_NOISE**2


def sampled(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """image [H, W, ...] at x + displacement(x), [H, W, 2]; beyond its edge the edge is continued."""
    height, width = image.shape[:2]
    at = displacement + _grid(height, width)
    return cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@functools.cache
def _grid(height, width):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y], -1)


def filled(displacement: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The displacement [H, W, 2] with hidden places [H, W] filled smoothly from those around; 0 far from any that is seen."""
    if not hidden.any():
        return displacement
    seen = 1 - hidden.astype(np.float32)
    reach = FILL_REACH * len(seen)
    weighted = cv2.GaussianBlur(np.dstack([displacement * seen[..., None], seen]), (0, 0), reach)
    around = weighted[..., :2] / (weighted[..., 2:] + FILL_FLOOR)
    return np.where(hidden[..., None], around, displacement)


def motion_of(reference, frame, flow, window, towards: str) -> tuple[np.ndarray, float]:
    """(displacement [H, H, 2] of the face between the reference and a frame, share of the face that is hidden).

    towards: 'frame': at the places of the reference, where each of them went, as `coded` wants it; 'reference': at the places
    of the frame, where each of them came from, as `carried_over` wants it. 0 outside the `window` [H, H] of the face.
    """
    there, back = flow(reference, frame), flow(frame, reference)
    hidden = disagreement(there, back) | mismatch(reference, frame, there)
    share = float(np.sum(window * hidden) / np.sum(window))
    if towards == "reference":
        there, hidden = back, disagreement(back, there) | mismatch(frame, reference, back)
    return filled(there, hidden) * window[..., None], share


def carried_over(face: np.ndarray, came_from: np.ndarray) -> np.ndarray:
    """The face uint8 [H, H, C], moved as the displacement `came_from` [H, H, 2] of `motion_of` says."""
    moved = sampled(face, came_from)
    return moved if moved.ndim == 3 else moved[..., None]


def coded(displacement: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """(picture of the motion uint8 [size, size, 2], share of its numbers beyond LARGEST) of a displacement [H, H, 2].

    STILL stands for 0, and STILL + 127 for LARGEST of the crop's side.
    """
    side = len(displacement)
    if side != size:
        displacement = cv2.resize(displacement, (size, size), interpolation=cv2.INTER_AREA)
    value = displacement * (127 / (LARGEST * side))
    return np.clip(np.rint(value) + STILL, STILL - 127, STILL + 127).astype(np.uint8), float(np.mean(np.abs(value) > 127))


def decoded(picture: np.ndarray) -> np.ndarray:
    """Displacement float32 [..., 2], shares of the crop's side, of a picture by `coded`."""
    return (picture.astype(np.float32) - STILL) * (LARGEST / 127)


@functools.lru_cache(maxsize=4)
def shared_face(side: int, crop_scale: float, channels: int) -> np.ndarray:
    """The face that everybody shares, at rest, as an aligned crop: uint8 [side, side, channels], RGB or grey."""
    face = draw_shared_face(side, crop_scale, EYE_LINE)
    return face if channels == 3 else cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None]


def as_colours(picture: np.ndarray) -> np.ndarray:
    """The picture of a motion uint8 [..., H, W, 2] as people can see it, RGB: hue = direction, the lighter the shorter."""
    motion = decoded(picture) / LARGEST
    hue = np.mod(np.degrees(np.arctan2(motion[..., 1], motion[..., 0])) / 2, 180)
    # The root shows small movements, too, which most are.
    strength = 255 * np.sqrt(np.clip(np.hypot(motion[..., 0], motion[..., 1]), 0, 1))
    hsv = np.stack([hue, strength, np.full_like(hue, 255)], -1).astype(np.uint8)
    return cv2.cvtColor(hsv.reshape(-1, *hsv.shape[-2:]), cv2.COLOR_HSV2RGB).reshape(*picture.shape[:-1], 3)

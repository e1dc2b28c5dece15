"""Fades between two pictures of one room, told from movement.

Such pictures differ by little, and over so small a change a face that moves looks like a mixture of where it was and where it
goes, too. What tells them apart: a picture in the middle of a movement is the first one displaced, which optical flow finds; in
the middle of a fade it is both pictures, one over the other, which no displacement gives.
"""

import cv2
import numpy as np

SIZE = 128, 72
LEAST = 60.0  # squared grey levels, mean over the picture, between the first picture and the last
DIMMED = 0.8  # of that, how much at least is more or less of the first picture where a light changes
MIXTURE = 0.15  # of that, how much at most of the middle picture no mixture of the two explains; asked first, as flow is dear
DISPLACED = 0.3  # of what no displacement explains, how much at most is what no mixture explains
EDGE = 4  # pixels of a displaced picture that may come from outside
PLACES = np.stack(np.meshgrid(*map(np.arange, SIZE)), -1).astype(np.float32)


def grey_copy(image: np.ndarray) -> np.ndarray:
    """Grey uint8 [72, 128] of a frame, BGR uint8 [H, W, 3] or grey [H, W]."""
    # Averaging every pixel of a large frame would cost a tenth of its decoding; one in some does as well.
    copy = cv2.resize(image, SIZE, interpolation=cv2.INTER_NEAREST)
    return cv2.cvtColor(copy, cv2.COLOR_BGR2GRAY) if copy.ndim == 3 else copy


def overlaid(first: np.ndarray, middle: np.ndarray, last: np.ndarray) -> bool:
    """Whether the middle one of three copies of a video's frames shows the two others, one over the other."""
    if cv2.norm(first, last, cv2.NORM_L2SQR) < LEAST * first.size:
        return False
    # What is picked out of a large frame flickers as it moves, and no flow follows that.
    first, middle, last = (cv2.GaussianBlur(copy, (0, 0), 0.8) for copy in (first, middle, last))
    a, b, c = map(_inner, (first, middle, last))
    way, gone = c - a, b - a
    energy = float((way * way).mean())
    if energy < LEAST or float((way * a).mean()) ** 2 > DIMMED * energy * float((a * a).mean()):
        return False
    part = float((gone * way).mean()) / energy
    left = float(((gone - part * way) ** 2).mean())
    if not 0.25 < part < 0.75 or left > MIXTURE * energy:
        return False
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return all(left < DISPLACED * float(((b - _inner(_displaced(flow, other, middle))) ** 2).mean()) for other in (first, last))


def _inner(picture):
    """Without its edge and its mean."""
    picture = picture[EDGE:-EDGE, EDGE:-EDGE].astype(np.float32)
    return picture - picture.mean()


def _displaced(flow, picture, like):
    """The picture moved so that it looks as `like` does, as far as movement can do it."""
    places = PLACES + flow.calc(like, picture, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    x, y = cv2.split(places)
    return cv2.remap(picture.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

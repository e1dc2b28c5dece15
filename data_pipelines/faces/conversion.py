"""From a decoded picture to BGR as it is meant to be seen: colours, square pixels, upright.

FFmpeg hands out pictures as they are stored. What they mean (colour matrix and range, the shape of a pixel, the display
matrix of a phone) stands beside them, and only the player applies it. This is the player.
"""

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

# Numbers of FFmpeg's enumerations, which are those of ITU-T H.273.
UNSPECIFIED, BT709, BT601, BT2020 = 2, 1, 5, 9
PQ, HLG = 16, 18
FULL = 2
KNOWN_MATRICES = {1: BT709, 4: 4, 5: BT601, 6: BT601, 7: 7, 9: BT2020, 10: BT2020}  # what swscale can convert from
WHITE = 203.0  # candelas per square metre that BT.2408 gives to a white that standard video shows as its brightest
# A header that says more is damaged; 2.39:1 films on 4:3 tapes have the most extreme pixels in use, 2:1.
MAX_ASPECT = 4.0
THUMBNAIL = 96  # pixels; of the grey picture by which repeated pictures are told


class Converter:
    """Turns pictures into BGR arrays; keeps FFmpeg's tables between pictures of one kind."""

    def __init__(self):
        self._colours, self._grey = VideoReformatter(), VideoReformatter()

    def bgr(self, frame, aspect: float, matrix) -> np.ndarray:
        """uint8 [H, W, 3] of a `av.VideoFrame`; `aspect`: width of a pixel through its height; `matrix`: see `orientation`."""
        size = {}
        if aspect > 1:
            size["width"] = max(1, round(frame.width * aspect))
        elif aspect < 1:
            size["height"] = max(1, round(frame.height / aspect))
        image = self._array(frame, "bgr24", **size)
        if frame.color_trc in (PQ, HLG):
            image = standard_range(image, frame.color_trc, frame.color_primaries == BT2020)
        return turned(image, matrix)

    def thumbnail(self, frame) -> np.ndarray:
        """Grey uint8 [96, 96], as stored: only to compare pictures of one video."""
        small = self._grey.reformat(frame, width=THUMBNAIL, height=THUMBNAIL, format="gray", **_meaning(frame))
        return _view(small, 1)[..., 0].copy()

    def _array(self, frame, name, **size):
        return _view(self._colours.reformat(frame, format=name, **size, **_meaning(frame)), 3)


def _view(frame, channels):
    """The picture's own memory as an array, which keeps it alive."""
    plane = frame.planes[0]
    return np.ndarray((frame.height, frame.width, channels), np.uint8, plane, strides=(plane.line_size, channels, 1))


def _meaning(frame):
    """Colour matrix of the picture, for swscale. Where none is given, as players do: BT.709 in high definition, else BT.601."""
    matrix = KNOWN_MATRICES.get(int(frame.colorspace))
    if matrix is None:
        matrix = BT709 if frame.height >= 720 or frame.width >= 1280 else BT601
    return {"src_colorspace": matrix, "dst_color_range": FULL, "threads": 1}


def _light_table(transfer):
    """float64 [256]: light of each value of HLG or PQ video, in units of WHITE, on a screen of 1000 candelas."""
    signal = np.arange(256) / 255
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = 1000 * np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12) ** 1.2
    else:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = signal ** (1 / m2)
        light = 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return np.minimum(light / WHITE, BRIGHTEST)


def _value_table():
    """uint8 [65536]: the value in standard video of light that is given in parts of BRIGHTEST."""
    value = (np.arange(65536) / 65535 * BRIGHTEST) ** (1 / 2.4)
    top = BRIGHTEST ** (1 / 2.4)
    above = np.clip((value - KNEE) / (top - KNEE), 0, 1)
    bent = KNEE + (1 - KNEE) * (1 - (1 - above) ** ((top - KNEE) / (1 - KNEE)))
    return np.round(255 * np.where(value <= KNEE, value, bent)).astype(np.uint8)


BRIGHTEST = 1000 / WHITE
KNEE = 0.4  # values below stay; those above make room for what is brighter than WHITE
LIGHT = {transfer: np.round(_light_table(transfer) / BRIGHTEST * 65535).astype(np.uint16) for transfer in (HLG, PQ)}
VALUES = _value_table()
# Light in BT.2020's colours to light in BT.709's (BT.2087), blue first.
NARROWER = np.array([[1.1187, -0.1006, -0.0182], [-0.0083, 1.1329, -0.1246], [-0.0728, -0.5876, 1.6605]])


def standard_range(image: np.ndarray, transfer: int, wide: bool) -> np.ndarray:
    """BGR uint8 [H, W, 3] as standard video would have it, from values of HLG or PQ video (ITU-R BT.2100), `wide`: in BT.2020.

    A white of 203 candelas (BT.2408) would be standard video's brightest but for the knee. Good to some 15 % of brightness.
    """
    light = cv2.LUT(image, LIGHT[transfer])
    if wide:
        light = cv2.transform(light, NARROWER)
    return VALUES[np.asarray(light, np.uint16)]


def aspect_of(ratio) -> float:
    """Width of a pixel through its height from a Fraction or None; 1 where it says nothing, or nothing that can be true."""
    aspect = float(ratio) if ratio else 1.0
    return aspect if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else 1.0


def orientation(frame) -> tuple[int, int, int, int]:
    """(a, b, c, d), each -1, 0 or 1: a stored pixel (x, y) is shown at (a x + c y, b x + d y), by the display matrix.

    Quarter turns and mirrors; any other angle becomes the nearest quarter turn. (1, 0, 0, 1) without a matrix.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None or len(bytes(side_data)) < 36:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(side_data), np.int32).astype(float)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1), 0, 0, (-1 if d < 0 else 1)
    return 0, (-1 if b < 0 else 1), (-1 if c < 0 else 1), 0


def turned(image: np.ndarray, matrix) -> np.ndarray:
    """The image [H, W, C] turned and mirrored as `matrix` of `orientation` says."""
    a, b, c, d = matrix
    if a:
        left_right, up_down = a < 0, d < 0
    else:
        image, left_right, up_down = cv2.transpose(image), c < 0, b < 0
    if left_right and up_down:
        return cv2.flip(image, -1)
    if left_right or up_down:
        return cv2.flip(image, 1 if left_right else 0)
    return image

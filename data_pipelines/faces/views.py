"""Parts of a frame at another size and turn, as a detector looks at them, and the way back to the frame's pixels."""

import math

import cv2
import numpy as np

from data_pipelines.faces.images import power_of_two, reduced


class Whole:
    """The whole image with its longer side at most `side` pixels; never enlarged."""

    def __init__(self, image: np.ndarray, side: float):
        height, width = image.shape[:2]
        self.factor = min(1.0, side / max(width, height))
        self.image, self.factors = image, np.ones(2)
        if self.factor < 1:
            size = max(1, round(width * self.factor)), max(1, round(height * self.factor))
            # The factor that rounding to whole pixels leaves, along x and y.
            self.factors = np.array(size) / (width, height)
            self.image = _resized(image, size)

    def points_out(self, points) -> np.ndarray:
        """Points [N, 2] of the view in the frame's pixels."""
        return np.asarray(points, np.float64) / self.factors

    def box_out(self, box) -> np.ndarray:
        """A box x, y, width, height of the view in the frame's pixels."""
        return np.asarray(box, np.float64) / np.tile(self.factors, 2)


class Turned:
    """A part of the image around `centre`, turned upright: `out` (width, height) pixels, each of `scale` pixels of the frame.

    `angle` (radians, clockwise in the image) is the turn of what is looked at. Beyond the image its edge is continued.
    """

    def __init__(self, image: np.ndarray, centre, scale: float, out: tuple[int, int], angle: float = 0.0):
        height, width = image.shape[:2]
        factor = power_of_two(scale)  # most of the reduction is done by averages: the warp alone would skip pixels
        cos, sin = math.cos(angle), math.sin(angle)
        across, along = scale * out[0] / 2, scale * out[1] / 2
        reach = abs(cos) * across + abs(sin) * along + factor, abs(sin) * across + abs(cos) * along + factor
        low, high, most = centre - np.array(reach), centre + np.array(reach), (width, height)
        x0, y0 = (int(min(max(v, 0), max(m - factor, 0))) for v, m in zip(low, most))
        x1, y1 = (int(min(max(v, v0 + factor), m)) for v, v0, m in zip(high, (x0, y0), most))
        x1, y1 = x0 + (x1 - x0) // factor * factor, y0 + (y1 - y0) // factor * factor
        part = reduced(image[y0:y1, x0:x1], factor)
        # From the view's pixels to the frame's: the middles of both lie on one another.
        turn = scale * np.array([[cos, -sin], [sin, cos]])
        self._turn, self._shift = turn, centre - turn @ ((np.array(out) - 1) / 2)
        self.factor = 1 / scale
        # Middles of pixels: x = factor (x_part + 1/2) - 1/2 + x0.
        half = (factor - 1) / 2
        matrix = np.column_stack([turn / factor, (self._shift - [x0 + half, y0 + half]) / factor])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        self.image = cv2.warpAffine(part, matrix, out, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def points_out(self, points) -> np.ndarray:
        """Points [N, 2] of the view in the frame's pixels."""
        return np.asarray(points, np.float64) @ self._turn.T + self._shift

    def box_out(self, box) -> np.ndarray:
        """The box of the view, x, y, width, height, in the frame's pixels: around the same middle, its sides not turned."""
        size = np.asarray(box[2:], np.float64) / self.factor
        middle = self.points_out(np.asarray(box[:2], np.float64) + np.asarray(box[2:], np.float64) / 2)
        return np.concatenate([middle - size / 2, size])


def _resized(image, size):
    """The image at (width, height) `size`; halved first as long as that leaves no edge over, which would shift what is seen."""
    factor = power_of_two(min(image.shape[1] / size[0], image.shape[0] / size[1]))
    while image.shape[0] % factor or image.shape[1] % factor:
        factor //= 2
    image = reduced(image, factor)
    smaller = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)

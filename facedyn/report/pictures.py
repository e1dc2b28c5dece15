"""Pictures of faces and of dynamic representations, as PNG bytes."""

import io

import cv2
import matplotlib
import numpy as np
from matplotlib.image import imsave

# Pictures have at most so many pixels a side: they are shown small, and there are many.
LARGEST_PICTURE = 72


def frame_png(frame, largest: int = LARGEST_PICTURE) -> bytes:
    """uint8 [H, W, C] -> PNG of at most `largest` pixels a side."""
    frame = _small(frame, largest)
    return _png(np.broadcast_to(frame, (*frame.shape[:2], 3)))


def overlay_png(dynamic_map, frame, limit: float) -> bytes:
    """A dynamic representation [H, W, C], mean over its channels, over its centre frame in grey.

    Blue is -limit, red +limit; the more colour, the larger the value.
    """
    colours, strength = _coloured(dynamic_map, limit)
    grey = _small(frame).astype(float).mean(-1, keepdims=True) / 255
    alpha = np.minimum(1.0, 1.4 * strength)[..., None]
    return _png((255 * ((1 - alpha) * grey + alpha * colours)).astype(np.uint8))


def _coloured(dynamic_map, limit):
    """Colours [H, W, 3] in [0, 1] and strengths [H, W] in [0, 1]."""
    value = np.clip(_small(dynamic_map).mean(-1) / (limit or 1.0), -1, 1)
    return matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * value)[..., :3], np.abs(value)


def _small(image, largest: int = LARGEST_PICTURE):
    height, width = image.shape[:2]
    factor = largest / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(factor * width)), max(1, round(factor * height))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)


def _png(image) -> bytes:
    out = io.BytesIO()
    imsave(out, np.ascontiguousarray(image), format="png")
    return out.getvalue()

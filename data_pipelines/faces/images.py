"""Encoding and decoding of single frames: RGB or grey uint8 arrays to and from PNG or JPEG bytes; two channels side by side.

One place for the order of the colours: OpenCV has blue first, all arrays of ours have red first; only whole frames on their
way from the decoder to the crop stay as they were decoded, since turning them round costs as much as following the face.
"""

import math

import cv2
import numpy as np

PNG = (cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)


def power_of_two(factor: float) -> int:
    """The largest power of two that is not above `factor`; 1 where that is below 1."""
    return 2 ** max(0, math.floor(math.log2(factor))) if factor >= 1 else 1


def reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """The image averaged over blocks of `factor` x `factor` pixels, a power of two by which its sides can be divided.

    OpenCV halves an image many times as fast as it reduces it by any other number.
    """
    while factor > 1:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
        factor //= 2
    return image


def decode_image(encoded: bytes, channels: int) -> np.ndarray:
    """uint8 [H, W, C] from an encoded image; RGB, grey, or two channels. Raises ValueError for other bytes."""
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError(f"These {len(encoded)} bytes are no image.")
    if channels == 2:
        return np.stack(np.split(image, 2, axis=1), -1)
    return image if channels == 3 else image[..., None]


def encode_image(image: np.ndarray, image_format: str) -> bytes:
    """Encodes uint8 [H, W, C], RGB or grey: 'png' without loss, 'jpeg' at quality 95.

    Of two channels, which neither format knows, the second stands to the right of the first in one grey image [H, 2 W].
    The PNG is filtered but not deflated: ArrayRecord compresses what it stores, to less than deflate does, and a face is
    encoded in a tenth of the time and decoded in a fifth (benchmarks/loader.py).
    """
    if image.shape[-1] == 2:
        image = np.concatenate([image[..., 0], image[..., 1]], 1)
    elif image.shape[-1] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if image_format == "png":
        return cv2.imencode(".png", image, PNG)[1].tobytes()
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

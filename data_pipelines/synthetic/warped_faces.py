"""Pictures of the second bench: one mean face with a texture of each person's own, warped by what moves.

Nothing is drawn with edges, as `rendering` does: features are soft blobs, skin is noise of all sizes, every movement is a
smooth displacement of the picture, and the camera adds drifting exposure, noise and JPEG compression. Coordinates of the face
are shares of the picture's side, x to the right, y down.
"""

import dataclasses

import cv2
import numpy as np

from data_pipelines.faces.images import decode_image
from data_pipelines.synthetic.appearance import triple
from data_pipelines.synthetic.warped_dynamics import INDEX, UNITS

OVERSAMPLING = 2
# What a unit does at a value of 1: (x, y of the middle, radius in x and y, displacement in x and y), shares of the side.
MUSCLES = {
    "jaw": ((0.50, 0.86, 0.26, 0.14, 0.0, 0.050), (0.50, 0.70, 0.12, 0.05, 0.0, -0.006)),
    "lips_round": ((0.40, 0.76, 0.08, 0.07, 0.016, 0.0), (0.60, 0.76, 0.08, 0.07, -0.016, 0.0)),
    "corner_left": ((0.38, 0.75, 0.09, 0.09, -0.010, -0.016),),
    "corner_right": ((0.62, 0.75, 0.09, 0.09, 0.010, -0.016),),
    "cheek_left": ((0.30, 0.58, 0.12, 0.10, 0.0, -0.012),),
    "cheek_right": ((0.70, 0.58, 0.12, 0.10, 0.0, -0.012),),
    "brow_left": ((0.32, 0.26, 0.14, 0.08, 0.0, -0.016),),
    "brow_right": ((0.68, 0.26, 0.14, 0.08, 0.0, -0.016),),
}
# The head's turns move what lies before the eyes; the eyes stay, as they do in an aligned crop.
HEAD_TURN = {"turn": (0.014, 0.0), "nod": (0.0, 0.012), "tilt": (0.0, 0.0)}
EYES, EYE_LINE = ((0.32, 0.38), (0.68, 0.38)), 0.38


@dataclasses.dataclass(frozen=True)
class WarpedAppearance:
    """All that decides how one person of the second bench looks."""

    tone: tuple[float, float, float]  # RGB, 0 to 255
    contrast: float  # of the features against the skin
    hair: float  # darkness of brows and hair
    light: tuple[float, float]  # brightness gradient along x and y
    noise: float  # standard deviation in grey levels
    quality: int  # of the JPEG compression
    seed: int  # of texture and shape


def draw_appearance(rng: np.random.Generator) -> WarpedAppearance:
    """A face of the population."""
    lightness = rng.uniform(0.35, 1.0)
    tone = lightness * np.array([222.0, 178.0, 150.0]) + rng.normal(0, 6, 3)
    return WarpedAppearance(
        tone=triple(np.clip(tone, 30, 245)),
        contrast=float(rng.uniform(0.7, 1.2)),
        hair=float(rng.uniform(0.3, 0.85)),
        light=(float(rng.normal(0, 0.25)), float(rng.normal(0, 0.25))),
        noise=float(rng.uniform(1.5, 4.0)),
        quality=int(rng.integers(70, 93)),
        seed=int(rng.integers(2**31)),
    )


def render(appearance: WarpedAppearance, tracks: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Aligned face crops, uint8 RGB [T, size, size, 3], of tracks [T, U]; `rng` makes what the camera adds."""
    side = OVERSAMPLING * size
    open_eyes, shut_eyes, mouth, frown = _textures(appearance, side)
    fields = _fields(side)
    shape = _shape(appearance, side)
    exposure = 1 + 0.03 * np.cumsum(rng.standard_normal(len(tracks))) / np.sqrt(len(tracks) + 1)
    frames = np.empty((len(tracks), size, size, 3), np.uint8)
    for t, track in enumerate(np.asarray(tracks, np.float32)):
        lids, jaw = np.clip(track[INDEX["lids"]], 0, 1), np.clip(track[INDEX["jaw"]], 0, 1.5)
        brows = track[INDEX["brow_left"]] + track[INDEX["brow_right"]]
        picture = (1 - lids) * open_eyes + lids * shut_eyes
        picture = picture * (1 - np.clip(0.6 * jaw, 0, 0.9) * mouth) * (1 - 0.05 * np.clip(brows, -2, 2) * frown)
        # A field says whereto the skin moves; the picture is looked up from where it came.
        places = shape - np.tensordot(track, fields, 1)
        warped = cv2.remap(picture, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        small = exposure[t] * cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
        noisy = small + appearance.noise * np.sqrt(small.clip(8) / 128) * rng.standard_normal(small.shape)
        frame = np.clip(noisy, 0, 255).astype(np.uint8)
        _, compressed = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, appearance.quality])
        frames[t] = decode_image(compressed.tobytes(), 3)
    return frames


def _grid(side):
    return np.meshgrid(*2 * [(np.arange(side, dtype=np.float32) + 0.5) / side])


def _blob(side, x0, y0, rx, ry):
    """A soft spot of height 1, [side, side]."""
    x, y = _grid(side)
    return np.exp(-0.5 * (((x - x0) / rx) ** 2 + ((y - y0) / ry) ** 2))


def _fields(side):
    """Displacement of every pixel at a value of 1 of each unit: float32 [U, side, side, 2], pixels."""
    x, y = _grid(side)
    depth = np.exp(-0.5 * (((x - 0.5) / 0.22) ** 2 + ((y - 0.62) / 0.22) ** 2)) - 0.35
    found = np.zeros((len(UNITS), side, side, 2), np.float32)
    for name, parts in MUSCLES.items():
        for x0, y0, rx, ry, dx, dy in parts:
            found[INDEX[name]] += _blob(side, x0, y0, rx, ry)[..., None] * np.array([dx, dy], np.float32)
    for name, (dx, dy) in HEAD_TURN.items():
        found[INDEX[name]] = depth[..., None] * np.array([dx, dy], np.float32)
    found[INDEX["tilt"]] = 0.02 * np.stack([y - EYE_LINE, 0.5 - x], -1)
    return found * side


def _shape(appearance, side):
    """Where in the mean face each pixel of this person's resting face comes from: float32 [side, side, 2], pixels."""
    x, y = _grid(side)
    coarse = np.random.default_rng(appearance.seed).normal(0, 0.014, (5, 5, 2)).astype(np.float32)
    bent = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    still = 1 - np.sum([_blob(side, *eye, 0.08, 0.08) for eye in EYES], 0).clip(0, 1)  # the eyes are where alignment puts them
    return (np.stack([x, y], -1) + still[..., None] * bent) * side - 0.5


def _texture_noise(seed, side):
    """Noise of all sizes, as skin and light make it, of unit variance [side, side]."""
    rng, total = np.random.default_rng(seed), np.zeros((side, side), np.float32)
    for cells, weight in ((4, 1.0), (9, 0.7), (20, 0.5), (45, 0.35)):
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        total += weight * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return total / total.std()


def _textures(appearance, side):
    """(face with open eyes, with shut eyes, float32 [side, side, 3]; where the open mouth and the frown darken it [.., 1])."""
    a = appearance
    x, y = _grid(side)
    skin = 1 + 0.06 * _texture_noise(a.seed + 1, side) + a.light[0] * (x - 0.5) + a.light[1] * (y - 0.5)
    skin *= 0.75 + 0.35 * _blob(side, 0.5, 0.55, 0.30, 0.42)  # the face is rounder than it is flat
    skin *= 1 - 0.18 * a.contrast * sum(_blob(side, *eye, 0.10, 0.07) for eye in EYES)
    skin *= 1 + 0.12 * a.contrast * _blob(side, 0.5, 0.52, 0.03, 0.12) - 0.2 * a.contrast * _blob(side, 0.5, 0.61, 0.06, 0.018)
    brows = np.sum([_blob(side, ex, 0.28, 0.09, 0.018) for ex, _ in EYES], 0)
    skin *= 1 - a.hair * a.contrast * 0.7 * brows.clip(0, 1)
    skin *= 1 - a.hair * (1 / (1 + np.exp((y - 0.10) / 0.02)))
    shut = skin * (1 - 0.25 * sum(_blob(side, ex, ey + 0.012, 0.07, 0.008) for ex, ey in EYES))
    whites = sum(_blob(side, *eye, 0.055, 0.022) for eye in EYES)
    pupils = np.sum([_blob(side, *eye, 0.02, 0.022) for eye in EYES], 0)
    opened = skin * (1 + 0.45 * whites) * (1 - 0.85 * pupils.clip(0, 1))
    lips = _blob(side, 0.5, 0.76, 0.09, 0.026)
    colour = np.array(a.tone, np.float32)
    red = 1 - lips[..., None] * a.contrast * np.array([0.12, 0.38, 0.34], np.float32)
    mouth = _blob(side, 0.5, 0.765, 0.075, 0.018)[..., None]
    frown = (_blob(side, 0.5, 0.16, 0.22, 0.03) - _blob(side, 0.5, 0.20, 0.22, 0.02))[..., None]
    pictures = [np.ascontiguousarray(shade[..., None] * colour * red, np.float32) for shade in (opened, shut)]
    return *pictures, mouth.astype(np.float32), frown.astype(np.float32)

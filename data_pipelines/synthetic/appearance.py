"""How a synthetic person looks: colours, shape, light and texture, drawn apart from how the person moves.

Lengths are in units of the distance between the eyes; the origin lies midway between them, x to the right of the image,
y down. The skull is painted once for a person (`paint_head`); eyes, brows and mouth move and are drawn frame by frame.
"""

import dataclasses
import functools

import cv2
import numpy as np

HEAD_WINDOW = (-1.9, -2.2, 1.9, 2.9)  # x and y of the corners of the picture that `paint_head` makes
EYE_DEPTH = 0.95  # of the eyes in front of the axis of the head's turns

SKIN_TONES = np.array([(247, 217, 196), (234, 192, 160), (212, 160, 122), (172, 118, 82), (124, 79, 52), (84, 54, 38)], float)
HAIR_TONES = np.array([(24, 20, 20), (52, 34, 24), (96, 62, 36), (168, 122, 66), (206, 172, 110), (130, 128, 128)], float)
IRIS_TONES = np.array([(62, 38, 22), (92, 60, 30), (84, 98, 62), (82, 116, 146), (104, 118, 122)], float)


@dataclasses.dataclass(frozen=True)
class Appearance:
    """All that decides how one person looks. Colours are RGB, 0 to 255."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    background: tuple[float, float, float]
    lip_red: float  # how far the lips' colour is from the skin's
    beard: float  # darkness of the lower face, 0 = none
    face_width: float  # half of it
    chin: float  # y of the chin
    jaw_squareness: float  # exponent of the outline below the eyes
    hairline: float  # y of the hairline at the middle of the forehead
    hair_length: float  # y down to which the hair falls beside the face
    eye_width: float
    eye_height: float
    eye_slant: float  # y by which the outer corner is higher
    brow_height: float  # y of the brows at rest, negative
    brow_thickness: float
    brow_arch: float
    nose_length: float
    nose_width: float
    mouth_height: float  # y of the mouth at rest
    mouth_width: float
    lip_thickness: float
    light: tuple[float, float, float]  # direction towards the light, unit length
    ambient: float
    sensor_noise: float  # standard deviation in grey levels, in a picture of any size
    texture_seed: int


def triple(values) -> tuple[float, float, float]:
    """Three numbers, such as those of a colour, as Python's."""
    first, second, third = map(float, values)
    return first, second, third


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """A face of the population."""

    def tone(tones, spread, position):
        position *= len(tones) - 1
        i = min(int(position), len(tones) - 2)
        colour = tones[i] + (position - i) * (tones[i + 1] - tones[i]) + rng.normal(0, spread, 3)
        return triple(np.clip(colour, 8, 248))

    darkness = rng.uniform(0, 1)  # of the skin; fair hair is rarer with it
    azimuth, elevation = rng.uniform(-0.8, 0.8), rng.uniform(0.1, 0.7)
    light = (np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
    background = rng.uniform(40, 215) + rng.normal(0, 22, 3)
    return Appearance(
        skin=tone(SKIN_TONES, 4, darkness),
        hair=tone(HAIR_TONES, 5, rng.uniform(0, 1 - 0.75 * darkness)),
        iris=tone(IRIS_TONES, 5, rng.uniform(0, 1 - 0.75 * darkness)),
        background=triple(np.clip(background, 15, 240)),
        lip_red=float(rng.uniform(0.25, 0.75)),
        beard=float(max(0.0, rng.uniform(-0.7, 0.5))),
        face_width=float(rng.normal(1.10, 0.05)),
        chin=float(rng.normal(1.62, 0.06)),
        jaw_squareness=float(rng.uniform(1.9, 2.7)),
        hairline=float(rng.normal(-0.86, 0.10)),
        hair_length=float(rng.choice([-0.2, 0.3, 1.2, 2.2]) + rng.normal(0, 0.1)),
        eye_width=float(rng.normal(0.50, 0.025)),
        eye_height=float(rng.normal(0.215, 0.018)),
        eye_slant=float(rng.normal(0.02, 0.02)),
        brow_height=float(rng.normal(-0.36, 0.03)),
        brow_thickness=float(rng.uniform(0.065, 0.12)),
        brow_arch=float(rng.uniform(0.02, 0.09)),
        nose_length=float(rng.normal(0.66, 0.04)),
        nose_width=float(rng.normal(0.21, 0.02)),
        mouth_height=float(rng.normal(1.04, 0.035)),
        mouth_width=float(rng.normal(0.80, 0.05)),
        lip_thickness=float(rng.uniform(0.075, 0.12)),
        light=triple(light),
        ambient=float(rng.uniform(0.45, 0.65)),
        sensor_noise=float(rng.uniform(1.0, 2.0)),
        texture_seed=int(rng.integers(2**31)),
    )


def depth(x: np.ndarray, y: np.ndarray, a: Appearance) -> np.ndarray:
    """Distance of the face's surface in front of the head's axis: an ellipsoid and the nose. Same shape as x and y."""
    bowl = np.sqrt(np.clip(1 - (x / (1.08 * a.face_width)) ** 2 - ((y - 0.15) / 2.0) ** 2, 0, None))
    return 1.05 * bowl + 0.30 * _nose(x, y, a)


def paint_head(a: Appearance, pixels_per_unit: float) -> np.ndarray:
    """The head without eyes, brows and mouth, uint8 RGBA [H, W, 4], colours premultiplied by alpha; covers HEAD_WINDOW."""
    x, y = head_grid(pixels_per_unit)
    height, width = x.shape
    smooth = 1.2 / pixels_per_unit

    def inside(distance):
        """Anti-aliased mask of distance < 0."""
        return np.clip(0.5 - distance / smooth, 0, 1)

    face = inside(_outline_distance(x, y, a, a.face_width, a.chin, -1.55))
    noise = 0.7 * _random_field(a.texture_seed, x.shape, 7) + 0.5 * _random_field(a.texture_seed + 5, x.shape, 28)
    strands = cv2.GaussianBlur(
        _random_field(a.texture_seed + 1, (height, width), 40), (0, 0), 0.3, sigmaY=pixels_per_unit * 0.1
    )

    skin = np.array(a.skin, np.float32) * np.ones((height, width, 1), np.float32)
    skin *= (1 + 0.05 * noise)[..., None]
    blush = np.exp(-(((np.abs(x) - 0.62) / 0.25) ** 2) - ((y - 0.6) / 0.25) ** 2)
    skin *= 1 - 0.10 * blush[..., None] * np.array([0.0, 1.0, 0.9], np.float32)
    stubble = 1 / (1 + np.exp(-(y - 0.80 + 0.25 * np.exp(-((x / 0.4) ** 2))) / 0.07)) * (1 + 0.15 * noise)
    skin += (a.beard * np.clip(stubble, 0, 1))[..., None] * (np.array(a.hair, np.float32) - skin)
    skin *= _shade(x, y, a)[..., None]
    nostrils = np.exp(-(((np.abs(x) - 0.45 * a.nose_width) / 0.05) ** 2) - ((y - a.nose_length - 0.03) / 0.032) ** 2)
    skin *= (1 - 0.60 * nostrils)[..., None]

    hair = np.array(a.hair, np.float32) * (1 + 0.22 * strands + 0.25 * np.exp(-(((y + 1.3) / 0.3) ** 2)))[..., None]
    curve = a.hairline + 0.55 * (np.abs(x) / a.face_width) ** 3 + 0.02 * np.sin(9 * x + a.texture_seed % 7)
    cap = _outline_distance(x, y, a, a.face_width + 0.17, 2.3, -1.80)
    fringe = inside((y - curve) * 0.7) * inside(cap)
    sides = inside(cap - 0.04 * (y > 0.4)) * inside((y - a.hair_length) * 0.5) * (1 - face)
    sides *= np.clip((np.abs(x) - 0.55 - 0.2 * np.clip(y - 1.2, 0, 1)) / 0.1, 0, 1)  # none below the chin

    neck = inside(np.abs(x) - 0.62 - 0.25 * np.clip(y - 2.2, 0, None) ** 2) * (y > 1.0)
    neck_colour = np.array(a.skin, np.float32) * (0.62 + 0.05 * noise)[..., None]

    picture, alpha = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    for colour, mask in ((neck_colour, neck), (hair, sides), (skin, face), (hair, fringe)):
        picture += mask[..., None] * (colour - picture)
        alpha += mask * (1 - alpha)
    return np.clip(np.dstack([picture, 255 * alpha]), 0, 255).astype(np.uint8)


def head_grid(pixels_per_unit: float) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the middle of each pixel of HEAD_WINDOW, float32 [H, W] each."""
    left, top, right, bottom = HEAD_WINDOW
    x = left + (np.arange(round((right - left) * pixels_per_unit), dtype=np.float32) + 0.5) / pixels_per_unit
    y = top + (np.arange(round((bottom - top) * pixels_per_unit), dtype=np.float32) + 0.5) / pixels_per_unit
    across, down = np.meshgrid(x, y)
    return across, down


def paint_background(a: Appearance, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A wall with a gradient and soft blotches, uint8 RGB [H, W, 3]."""
    height, width = shape
    blotches = _random_field(a.texture_seed + 2 + seed, shape, 4) + 0.3 * _random_field(a.texture_seed + 3 + seed, shape, 24)
    ramp = np.linspace(-1, 1, width) * a.light[0] + np.linspace(0.4, -0.4, height)[:, None]
    level = 1 + 0.09 * blotches + 0.15 * ramp
    return np.clip(level[..., None] * np.array(a.background), 0, 255).astype(np.uint8)


def skin_at(x: float, y: float, a: Appearance) -> np.ndarray:
    """The colour of the skin around a place of the face, light included, RGB [3]."""
    pixels = 24.0
    head = _small_head(a, pixels)
    column, row = round((x - HEAD_WINDOW[0]) * pixels), round((y - HEAD_WINDOW[1]) * pixels)
    return head[row - 1 : row + 2, column - 1 : column + 2, :3].mean((0, 1))


@functools.lru_cache(maxsize=4)
def _small_head(a, pixels_per_unit):
    return paint_head(a, pixels_per_unit).astype(np.float64)


def _nose(x, y, a):
    """Height of the nose, 0 to 1: a ridge that grows from the bridge to the tip."""
    along = np.clip((y + 0.05) / (a.nose_length + 0.05), 0, 1)
    tail = np.exp(-((np.clip(y - a.nose_length + 0.06, 0, None) / 0.07) ** 2))
    return along * tail * np.exp(-((x / (a.nose_width * (0.45 + 0.4 * along))) ** 2))


def _outline_distance(x, y, a, half_width, bottom, top):
    """About the distance to a head's outline, negative inside: an ellipse above the eyes, a superellipse below."""
    lower = y > 0.1
    vertical = np.where(lower, (y - 0.1) / (bottom - 0.1), (0.1 - y) / (0.1 - top))
    power = np.where(lower, a.jaw_squareness, 2.0)
    radius = (np.abs(x / half_width) ** power + np.abs(vertical) ** power) ** (1 / power)
    return (radius - 1) * half_width


def _shade(x, y, a):
    """Lambert's law on a relief of the face: sockets, brow ridge, nose, cheeks, lips and chin."""

    def bump(cx, cy, sx, sy):
        """A hill of height 1 at (cx, cy) and at its mirror image."""
        return np.exp(-(((np.abs(x) - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)

    relief = 0.8 * depth(x, y, a) + 0.12 * _nose(x, y, a)
    relief += -0.13 * bump(0.47, 0.0, 0.30, 0.17) + 0.05 * bump(0.45, -0.32, 0.35, 0.12) + 0.09 * bump(0.62, 0.55, 0.30, 0.25)
    relief += 0.06 * bump(0.0, a.mouth_height, 0.35, 0.16) + 0.08 * bump(0.0, a.chin - 0.18, 0.25, 0.14)
    relief += -0.05 * bump(0.0, a.mouth_height + 0.22, 0.3, 0.07) + 0.04 * bump(
        a.nose_width * 0.75, a.nose_length - 0.04, 0.07, 0.08
    )
    step_y, step_x = float(y[1, 0] - y[0, 0]), float(x[0, 1] - x[0, 0])
    slope_y, slope_x = np.gradient(relief, step_y, step_x)
    slope_x, slope_y = np.clip(slope_x, -2, 2), np.clip(slope_y, -2, 2)
    lambert = (-slope_x * a.light[0] - slope_y * a.light[1] + a.light[2]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    occlusion = (
        1 - 0.30 * bump(0.47, -0.02, 0.27, 0.15) - 0.12 * bump(0.18, 0.0, 0.10, 0.2)
    )  # the sockets, also in frontal light
    return ((a.ambient + (1.1 - a.ambient) * np.clip(lambert, 0, 1)) * occlusion).astype(np.float32)


def _random_field(seed, shape, cells):
    """Smooth noise of about unit variance [H, W]; the same field at every resolution."""
    height, width = shape
    coarse = np.random.default_rng(seed).standard_normal((max(4, round(cells * 1.35)), cells)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

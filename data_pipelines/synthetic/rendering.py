"""Action units to pictures: textured, anti-aliased faces, as aligned face crops.

The head's texture is warped by the pose, the jaw and the cheeks; eyes, brows and mouth are polygons whose corners follow
the units. All is drawn larger than asked for and averaged down, so that a move of a tenth of a pixel shows.
"""

import cv2
import numpy as np

from data_pipelines.synthetic.appearance import EYE_DEPTH, HEAD_WINDOW, Appearance, depth, paint_background, paint_head, skin_at
from data_pipelines.synthetic.dynamics import INDEX, UNITS

LARGEST_TURN = np.deg2rad([3.0, 2.1, 1.2])  # yaw, pitch and roll at a track's value of 1
CROP_SIDE = 2.5  # of an aligned crop, in distances between the eyes
EYE_LINE = 0.38  # height of the eyes in an aligned crop, share of its side from the top
SHIFT = 4  # fractional bits of OpenCV's coordinates
JAW_TRAVEL, SMILE_LIFT, SMILE_STRETCH = 0.46, 0.19, 0.11


def render(appearance: Appearance, tracks: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Aligned face crops, uint8 RGB [T, size, size, 3], of tracks [T, U]; `rng` makes the sensor's noise."""
    return _add_noise(_crops(appearance, tracks, size, CROP_SIDE, EYE_LINE), appearance.sensor_noise, rng)


# The face that everybody shares: even light, strong brows and lips, and skin rich in texture, on which motion shows everywhere.
SHARED = Appearance(
    skin=(206.0, 158.0, 128.0),
    hair=(40.0, 28.0, 22.0),
    iris=(62.0, 84.0, 96.0),
    background=(118.0, 122.0, 126.0),
    lip_red=0.75,
    beard=0.0,
    face_width=1.10,
    chin=1.62,
    jaw_squareness=2.3,
    hairline=-0.86,
    hair_length=0.3,
    eye_width=0.50,
    eye_height=0.215,
    eye_slant=0.02,
    brow_height=-0.36,
    brow_thickness=0.10,
    brow_arch=0.05,
    nose_length=0.66,
    nose_width=0.21,
    mouth_height=1.04,
    mouth_width=0.80,
    lip_thickness=0.10,
    light=(0.0, -0.35, 0.937),
    ambient=0.6,
    sensor_noise=0.0,
    texture_seed=5,
)
FRECKLES = 0.09  # contrast of its skin's texture, about six grains between the eyes


def draw_shared_face(size: int, crop_side: float, eye_line: float) -> np.ndarray:
    """The face that everybody shares, at rest: uint8 RGB [size, size, 3].

    crop_side: of the crop, in distances between the eyes; eye_line: height of the eyes, share of the side from the top.
    """
    face = _crops(SHARED, np.zeros((1, len(UNITS)), np.float32), size, crop_side, eye_line)[0]
    cells = round(6 * crop_side)
    grains = np.random.default_rng(SHARED.texture_seed).standard_normal((cells, cells)).astype(np.float32)
    grains = cv2.resize(grains, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.clip(face * (1 + FRECKLES * grains), 0, 255).astype(np.uint8)


def _crops(appearance, tracks, size, crop_side, eye_line):
    """Face crops without noise, uint8 [T, size, size, 3]."""
    factor = 4 if size <= 96 else 2
    side = size * factor
    scale = side / crop_side
    origin = (0.5 * side, eye_line * side)
    # The texture is anti-aliased already: half of the polygons' resolution does for it.
    half, half_origin = (side // 2, side // 2), (0.5 * origin[0], 0.5 * origin[1])
    background = paint_background(appearance, half)
    fields, texture = _warp_fields(appearance, half, half_origin, scale / 2), paint_head(appearance, scale / 2)
    shapes = _shapes(appearance, tracks, origin, scale)
    weights = _warp_weights(tracks)
    frames = np.empty((len(tracks), size, size, 3), np.uint8)
    for t in range(len(tracks)):
        head = _over(_warp(texture, fields, weights[t], half), background)
        canvas = cv2.resize(head, (side, side), interpolation=cv2.INTER_LINEAR)
        _draw(canvas, shapes, t)
        cv2.resize(canvas, (size, size), dst=frames[t], interpolation=cv2.INTER_AREA)
    return frames


def _warp_fields(a, shape, origin, scale):
    """Fields whose weighted sum says from where in the texture a pixel comes: float32 [K, 2 H W].

    To first order in the angles: a turn shifts a point in proportion to its depth behind or before the eyes, which stay
    where they are, as they do in an aligned crop.
    """
    height, width = shape
    left, top, _, _ = HEAD_WINDOW
    x = ((np.arange(width, dtype=np.float32) + 0.5) - origin[0]) / scale
    y = ((np.arange(height, dtype=np.float32) + 0.5) - origin[1]) / scale
    x, y = np.meshgrid(x, y)
    zero, before_eyes = np.zeros_like(x), depth(x, y, a) - EYE_DEPTH
    fields = [
        (x, y),  # texture's own coordinates
        (-before_eyes, zero),  # yaw
        (zero, before_eyes),  # pitch
        (y, -x),  # roll
        (zero, -_jaw_share(x, y, a)),
        (zero, _cheek_share(x, y, -1)),
        (zero, _cheek_share(x, y, 1)),
        (zero, np.exp(-(((y + 0.50) / 0.22) ** 2))),  # forehead
    ]
    pixels = np.stack([np.stack(field) for field in fields]) * scale
    pixels[0] += np.array([-left * scale - 0.5, -top * scale - 0.5], np.float32)[:, None, None]
    return np.ascontiguousarray(pixels.reshape(len(fields), -1), np.float32)


def _warp_weights(tracks):
    """Weights of the fields for each frame, float32 [T, K]."""

    def get(name):
        return tracks[:, INDEX[name]]

    yaw, pitch, roll = (np.sin(LARGEST_TURN[i] * get(name)) for i, name in enumerate(("head_yaw", "head_pitch", "head_roll")))
    columns = [np.ones(len(tracks)), yaw, pitch, roll, JAW_TRAVEL * get("jaw_drop")]
    columns += [0.09 * get("smile_left"), 0.09 * get("smile_right"), 0.12 * get("brow_raise") - 0.08 * get("brow_lower")]
    return np.stack(columns, axis=1).astype(np.float32)


def _warp(texture, fields, weights, shape):
    height, width = shape
    source = (weights @ fields).reshape(2, height, width)
    return cv2.remap(texture, source[0], source[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _over(head, background):
    """The premultiplied RGBA picture over the background, uint8 RGB."""
    see_through = cv2.cvtColor(255 - head[..., 3], cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.cvtColor(head, cv2.COLOR_RGBA2RGB), cv2.multiply(background, see_through, scale=1 / 255))


def _add_noise(frames, sigma, rng):
    for frame in frames:
        noisy = frame + np.float32(sigma) * rng.standard_normal(frame.shape, dtype=np.float32)
        np.clip(noisy + 0.5, 0, 255, out=noisy)
        frame[...] = noisy
    return frames


def _jaw_share(x, y, a):
    """How far a point goes with the jaw: nothing above the mouth, all at the chin."""
    t = np.clip((y - a.mouth_height + 0.10) / (a.chin - a.mouth_height), 0, 1)
    return t * t * (3 - 2 * t) * np.exp(-((np.abs(x) / 1.1) ** 4)) * (1 - np.clip((y - a.chin - 0.1) / 0.4, 0, 1))


def _cheek_share(x, y, side):
    return np.exp(-(((side * x - 0.60) / 0.28) ** 2) - ((y - 0.68) / 0.28) ** 2)


def _draw(canvas, shapes, t):
    channels = canvas.shape[2]
    for points, colours in shapes:
        cv2.fillPoly(canvas, [points[t]], (*colours[t], 255.0)[:channels], cv2.LINE_AA, SHIFT)


def _shapes(a, tracks, origin, scale):
    """Everything that is drawn over the texture, in order: list of (points int32 [T, N, 2], colours T lists of 3)."""
    shapes = []
    angles = [LARGEST_TURN[i] * tracks[:, INDEX[name], None] for i, name in enumerate(("head_yaw", "head_pitch", "head_roll"))]

    def add(x, y, colour):
        """x, y [T, N] on the face at rest; colour [3] or [T, 3]."""
        yaw, pitch, roll = angles
        before = depth(x, y, a) - EYE_DEPTH
        px, py = x * np.cos(yaw) + before * np.sin(yaw), y * np.cos(pitch) - before * np.sin(pitch)
        px, py = px * np.cos(roll) - py * np.sin(roll), px * np.sin(roll) + py * np.cos(roll)
        pixels = np.stack([px * scale + origin[0], py * scale + origin[1]], axis=-1) - 0.5
        colours = np.broadcast_to(np.clip(colour, 0, 255), (len(tracks), 3))
        shapes.append((np.round(pixels * 2**SHIFT).astype(np.int32), colours.tolist()))

    _add_creases(add, a, tracks)
    for side in (-1, 1):
        _add_eye(add, a, tracks, side)
    for side in (-1, 1):
        _add_brow(add, a, tracks, side)
    _add_mouth(add, a, tracks)
    return shapes


def _unit(tracks, name):
    return tracks[:, INDEX[name], None].astype(np.float64)


def _polygon(x, upper, lower):
    """What lies between two lines over x: [T, N] each -> x and y [T, 2 N]."""
    return np.concatenate([x, x[:, ::-1]], 1), np.concatenate([upper, lower[:, ::-1]], 1)


def _stroke(x, y, half_width):
    """A tapered line as a polygon: x, y [T, N] -> [T, 2 N]; the width is measured in y."""
    taper = half_width * np.sin(np.linspace(0.15, np.pi - 0.15, x.shape[1]))
    return _polygon(x, y - taper, y + taper)


def _add_creases(add, a, tracks):
    """Folds that come with a unit: beside the nose with the smile, between the brows, above raised brows."""
    u = np.linspace(0, 1, 7)[None]
    one = np.ones((len(tracks), 1))
    for side, name in ((-1, "smile_left"), (1, "smile_right")):
        smile = _unit(tracks, name)
        x = side * (a.nose_width + 0.06 + (0.20 + 0.08 * smile) * u**0.8)
        y = (a.nose_length - 0.02 - 0.05 * smile) + (a.mouth_height - a.nose_length + 0.02) * u
        x0, y0 = np.concatenate([x, x[:, ::-1] + side * 0.045], 1), np.concatenate([y, y[:, ::-1]], 1)
        add(x0, y0, (1 - 0.30 * smile) * skin_at(side * 0.4, 0.85, a))
    lower, raised = _unit(tracks, "brow_lower"), _unit(tracks, "brow_raise")
    for side in (-1, 1):
        x, y = (
            side * (0.07 - 0.02 * lower) + np.array([[0, 0.02, 0.02, 0]]) * side,
            np.array([[-0.38, -0.38, -0.2, -0.2]]) * one,
        )
        add(x * one, y, (1 - 0.35 * lower) * skin_at(side * 0.08, -0.28, a))
    x = np.linspace(-0.6, 0.6, 7)[None] * one
    for k in (0.24, 0.36):
        y = max(a.brow_height - k, a.hairline + 0.12) - 0.10 * raised + 0.06 * lower + 0.03 * np.cos(2.5 * x)
        add(*_stroke(x, y, 0.014), (1 - 0.22 * raised) * skin_at(0, a.brow_height - k, a))


def _add_eye(add, a, tracks, side):
    blink, widen = _unit(tracks, "blink"), _unit(tracks, "eye_widen")
    one = np.ones((len(tracks), 1))
    skin = skin_at(side * 0.5, 0.22, a)  # below the socket
    light = np.clip(skin.mean() / np.mean(a.skin), 0.35, 1.1)
    u = np.linspace(-1, 1, 13)[None]
    x = side * 0.5 + 0.5 * a.eye_width * u
    corner = -a.eye_slant * side * u
    bow = 1 - np.abs(u) ** 2.3
    opening = a.eye_height * (1 + 0.42 * widen)
    closed = 0.26 * a.eye_height * bow  # where the lids meet
    upper = (1 - blink) * -0.66 * opening * bow + blink * closed + corner
    lower = (1 - 0.5 * blink) * 0.34 * opening * bow + 0.5 * blink * closed + corner
    lower = np.maximum(lower, upper)

    add(*_polygon(x * one, upper, lower), light * (0.8 + 0.2 * max(a.skin) / 250) * np.array([226, 222, 216]))
    gaze = -0.05 * _unit(tracks, "head_yaw")  # the eyes stay on the camera
    turn = np.linspace(0, 2 * np.pi, 17)[:-1][None]
    for radius, colour in ((0.125, light * np.array(a.iris)), (0.058, np.array([14, 12, 12]))):
        ix, iy = side * 0.5 + gaze + radius * np.cos(turn), -0.015 + radius * np.sin(turn) * one
        add(ix, _between(ix - side * 0.5, iy, x[0] - side * 0.5, upper, lower), colour)
    gx, gy = side * 0.5 + gaze + 0.04 * np.sign(a.light[0]) + 0.022 * np.cos(turn), -0.06 + 0.022 * np.sin(turn) * one
    add(gx, _between(gx - side * 0.5, gy, x[0] - side * 0.5, upper, lower), np.array([240, 240, 240]))

    dark = 0.35 * np.array(a.hair) + 0.08 * np.array(a.skin)
    add(*_stroke(x * one, upper - 0.012, 0.030), dark)  # lashes
    add(*_stroke(x * one, lower + 0.008, 0.012), 0.72 * skin)
    crease = -(0.66 + 0.26) * a.eye_height * (1 + 0.25 * widen - 0.25 * blink) * bow + corner
    add(*_stroke(x * one, crease, 0.014), 0.68 * skin)


def _between(x, y, lid_x, upper, lower):
    """y kept between the lids at x: [T, N]; lids [T, M] over lid_x [M] (evenly spaced, ascending)."""
    position = np.clip((x - lid_x[0]) / (lid_x[-1] - lid_x[0]) * (len(lid_x) - 1), 0, len(lid_x) - 1)
    i = np.minimum(position.astype(int), len(lid_x) - 2)
    part = position - i
    low = np.take_along_axis(upper, i, 1) * (1 - part) + np.take_along_axis(upper, i + 1, 1) * part
    high = np.take_along_axis(lower, i, 1) * (1 - part) + np.take_along_axis(lower, i + 1, 1) * part
    return np.clip(y, low, high)


def _add_brow(add, a, tracks, side):
    raised, lower = _unit(tracks, "brow_raise"), _unit(tracks, "brow_lower")
    u = np.linspace(0, 1, 9)[None]  # inner end to outer end
    x = side * (0.19 - 0.04 * lower + 0.62 * u)
    y = a.brow_height - a.brow_arch * np.sin(np.pi * np.clip(u * 0.8 + 0.1, 0, 1)) + 0.07 * u**2
    y = y + 0.05 - raised * (0.17 + 0.04 * np.sin(np.pi * u)) + lower * (0.13 - 0.07 * u)
    half = 0.5 * a.brow_thickness * (1 - 0.75 * u**1.5)
    skin = skin_at(side * 0.45, a.brow_height, a)
    colour = 0.75 * np.clip(skin.mean() / np.mean(a.skin), 0.35, 1.1) * np.array(a.hair) + 0.12 * skin
    add(*_polygon(x, y - half, y + half), colour)


def _add_mouth(add, a, tracks):
    jaw, press, pucker = _unit(tracks, "jaw_drop"), _unit(tracks, "lip_press"), _unit(tracks, "lip_pucker")
    one = np.ones((len(tracks), 1))
    u = np.linspace(-1, 1, 15)[None]
    smile = np.where(u < 0, _unit(tracks, "smile_left"), _unit(tracks, "smile_right"))
    narrow = (1 - 0.42 * pucker) * (1 + 0.05 * press - 0.10 * jaw)
    x = 0.5 * a.mouth_width * u * narrow + np.sign(u) * u**2 * SMILE_STRETCH * smile
    line = a.mouth_height - (SMILE_LIFT * smile - 0.01) * np.abs(u) ** 1.8
    bow = np.sqrt(np.clip(1 - u**2, 0, None))
    open_ = np.clip(jaw - 0.10, 0, None) * JAW_TRAVEL * (1 - 0.8 * press) * bow
    thick = a.lip_thickness * (1 - 0.80 * press) * (1 + 0.55 * pucker) * (1 - 0.15 * smile)
    seam_top, seam_low = line - 0.08 * open_, line + 0.92 * open_
    cupid = 1 - 0.22 * np.exp(-((u / 0.14) ** 2)) + 0.08 * np.exp(-(((np.abs(u) - 0.3) / 0.15) ** 2))
    top, low = seam_top - 0.9 * thick * bow**1.2 * cupid - 0.012, seam_low + 1.25 * thick * bow + 0.012

    around = skin_at(0, a.mouth_height + 0.25, a)
    light = np.clip(skin_at(0, a.nose_length - 0.2, a).mean() / np.mean(a.skin), 0.35, 1.1)
    red = np.array([170.0, 62.0, 66.0]) * (0.45 + 0.55 * max(a.skin) / 250)
    lips = light * (np.array(a.skin) + a.lip_red * (red - np.array(a.skin)))

    shadow = low + 0.05 + 0.05 * bow
    add(*_polygon(x, low, shadow), 0.86 * around)
    add(*_polygon(x, top, seam_top + 0.01), 0.82 * lips)
    add(*_polygon(x, seam_low - 0.01, low), 1.02 * lips)
    add(*_polygon(x, seam_top, seam_low), np.array([62.0, 22.0, 24.0]))
    add(*_polygon(x, seam_top, np.minimum(seam_low, seam_top + 0.11 * bow)), light * np.array([228.0, 222.0, 208.0]))  # teeth
    add(
        *_stroke(x * one, 0.5 * (seam_top + seam_low) * (open_ < 1e-3) + seam_top * (open_ >= 1e-3), 0.016 + 0.006 * press),
        0.42 * lips,
    )

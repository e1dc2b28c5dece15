"""Synthetic faces filmed from afar: a person before a wall, whose face has to be found."""

import cv2
import numpy as np

from data_pipelines.synthetic import rendering
from data_pipelines.synthetic.appearance import HEAD_WINDOW, Appearance, paint_background, paint_head


def render_scene(appearance: Appearance, tracks, shape: tuple[int, int], rng) -> tuple[np.ndarray, np.ndarray]:
    """A person before a wall, slowly moving: uint8 RGB [T, H, W, 3], and where the eyes are, float32 [T, 2, 2] (left and
    right in the image, x and y, pixels) when the head looks ahead. They are a sixth of H apart.
    """
    height, width = shape
    factor = 2
    scale = factor * (height / 6)
    left, top, right, bottom = HEAD_WINDOW
    local = (round((bottom - top) * scale), round((right - left) * scale))
    origin = (-left * scale, -top * scale)
    fields, texture = rendering._warp_fields(appearance, local, origin, scale), paint_head(appearance, scale)
    shapes = rendering._shapes(appearance, tracks, origin, scale)
    weights = rendering._warp_weights(tracks)
    wall = _scene_background(appearance, (height * factor, width * factor))

    n = len(tracks)
    phase, speed = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.008, 0.02, 3)
    sway = np.sin(phase + speed * np.arange(n)[:, None])  # [T, 3]
    centre = np.array([width / 2, height * 0.42]) + sway[:, :2] * np.array([0.12 * width, 0.04 * height])
    zoom = 1 + 0.06 * sway[:, 2]
    eyes = centre[:, None] + zoom[:, None, None] * scale / factor * np.array([[-0.5, 0.0], [0.5, 0.0]])

    frames = np.empty((n, height, width, 3), np.uint8)
    for t in range(n):
        head = rendering._warp(texture, fields, weights[t], local)
        rendering._draw(head, shapes, t)
        at = factor * centre[t] - zoom[t] * np.array(origin)
        canvas = wall.copy()
        _draw_shoulders(canvas, appearance, factor * centre[t], zoom[t] * scale)
        move = np.array([[zoom[t], 0, at[0]], [0, zoom[t], at[1]]])
        moved = cv2.warpAffine(head, move, (width * factor, height * factor), flags=cv2.INTER_LINEAR)
        cv2.resize(rendering._over(moved, canvas), (width, height), dst=frames[t], interpolation=cv2.INTER_AREA)
    return rendering._add_noise(frames, appearance.sensor_noise, rng), eyes.astype(np.float32)


def _scene_background(appearance, shape):
    wall = paint_background(appearance, shape, seed=10)
    rng = np.random.default_rng(appearance.texture_seed + 20)
    height, width = shape
    for side in (0, 1):  # a shelf or picture on either side, for a detector to be tempted by
        x0, y0 = int(width * (0.04 + 0.74 * side)), int(height * rng.uniform(0.05, 0.4))
        x1, y1 = x0 + int(width * rng.uniform(0.1, 0.2)), y0 + int(height * rng.uniform(0.1, 0.4))
        cv2.rectangle(wall, (x0, y0), (x1, y1), tuple(float(c) for c in rng.uniform(40, 210, 3)), -1, cv2.LINE_AA)
    return wall


def _draw_shoulders(canvas, a, centre, scale):
    x = np.linspace(-2.6, 2.6, 25)
    y = 2.15 + 0.30 * np.abs(x / 1.4) ** 2.2
    points = np.concatenate([np.stack([x, y], 1), [[2.6, 9.0], [-2.6, 9.0]]]) * scale + centre
    cloth = np.random.default_rng(a.texture_seed + 30).uniform(30, 200, 3)
    cv2.fillPoly(canvas, [np.round(points * 2**rendering.SHIFT).astype(np.int32)], tuple(cloth), cv2.LINE_AA, rendering.SHIFT)

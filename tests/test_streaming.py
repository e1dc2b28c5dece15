"""Crops are cut while the video passes: smoothed block by block they are what the whole track would give, in little memory."""

import itertools
import tracemalloc

import numpy as np
from test_alignment import EYES, NoisyDetector, motion_at, texture

from data_pipelines.faces.alignment import (
    DETECTION_SECONDS,
    eye_parameters,
    eyes_between,
    eyes_of,
    gaussian_smooth,
    look_ahead,
    track_eyes,
)
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.faces.cropping import BLOCK, Cropper
from data_pipelines.faces.detection import Face
from data_pipelines.faces.tracking import Track, Tracker, moved

SMOOTHING = 0.1


def long_track(n, motion, noise, every=5, fps=25):
    """A track of n frames of a head that moves by `motion(t)`, matrices [2, 3], with a detection `every` so many."""
    random = np.random.default_rng(0)
    poses = [np.vstack([motion(t), [0, 0, 1]]) for t in range(n)]
    track = Track(0, seconds=[t / fps for t in range(n)])
    track.motions = [(after @ np.linalg.inv(before))[:2] for before, after in itertools.pairwise(poses)]
    for t in sorted({*range(0, n, every), n - 1}):
        eyes = moved(poses[t][:2], EYES) + random.normal(0, noise, (2, 2))
        track.see(t, Face(np.array([0, 0, 80.0, 80]), eyes, 0.9))
    return track


def test_blocks_give_what_the_whole_track_gives():
    # Noise of 0.4 % of the eyes' distance. With several times as much, some detections lie at the border between noise and
    # outlier, where two blocks may judge differently.
    track = long_track(700, motion_at, noise=0.1)
    track.faces[300].eyes[0] += [12, 9]  # an outlier
    whole = eyes_between(track, 0, 700, SMOOTHING)
    for length in (BLOCK, 37):
        blocks = [eyes_between(track, i, min(i + length, 700), SMOOTHING) for i in range(0, 700, length)]
        assert np.abs(np.concatenate(blocks) - whole).max() < 0.005


def test_a_head_at_rest_is_smoothed_as_by_two_gaussians_over_the_whole_track():
    track = long_track(700, lambda t: np.eye(2, 3), noise=0.05)
    seconds, seen = np.array(track.seconds), sorted(track.faces)
    found = eye_parameters(np.stack([track.faces[t].eyes for t in seen]))
    found = gaussian_smooth(found, seconds[seen], seconds, DETECTION_SECONDS * SMOOTHING)
    reference = eyes_of(gaussian_smooth(found, seconds, seconds, SMOOTHING))
    assert np.abs(track_eyes(track, SMOOTHING) - reference).max() < 0.03


def test_memory_does_not_grow_with_the_track():
    frame = texture(0, 160, 200)
    settings = PrepareSettings(image_size=48, crop_scale=1.6, smoothing_seconds=0.05, image_format="jpeg")
    detector = NoisyDetector(np.repeat(EYES[None] + 40, 256, 0))
    kept, waiting, used = [], [], []
    tracker, cropper = Tracker(detector, 5), Cropper(settings, lambda image: kept.append(len(image)))
    tracemalloc.start()
    try:
        for t in range(900):
            tracker.step(t, t / 25, frame)
            cropper.step(tracker, frame)
            waiting.append(t + 1 - len(kept))
            if t in (399, 899):
                used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    (track,) = tracker.finish()
    assert len(cropper.finish()[track].matrices) == len(kept) == 900
    assert max(waiting) <= look_ahead(0.05) * 25 + BLOCK + 10
    assert (used[1] - used[0]) / 500 < 2000  # bytes a frame; a crop has 7000

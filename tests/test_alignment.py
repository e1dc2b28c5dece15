"""Following and aligning a face, on a textured patch that moves in a known way and a detector that errs in a known way."""

import cv2
import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.faces.alignment import (
    canonical_eyes,
    crop_jitter,
    crop_matrices,
    eye_parameters,
    eyes_of,
    gaussian_smooth,
    track_eyes,
)
from data_pipelines.faces.clip_faces import two_faces
from data_pipelines.faces.cropping import Surroundings
from data_pipelines.faces.cuts import CutDetector
from data_pipelines.faces.detection import Face, HaarDetector, make_detector, overlap
from data_pipelines.faces.tracking import Tracker, moved, similarity

HEIGHT, WIDTH = 160, 200
EYES = np.array([[38.0, 40.0], [62.0, 40.0]])  # in the patch, 100 pixels wide


def texture(seed, height, width):
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.cvtColor(cv2.normalize(noise, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def motion_at(t):
    """Where the patch is in frame t: a slow drift, a nod, a little turning and growing."""
    turn, scale = 0.08 * np.sin(t / 15), 1 + 0.05 * np.sin(t / 20)
    a, b = scale * np.cos(turn), scale * np.sin(turn)
    return np.array([[a, -b, 40 + 0.3 * t + 3 * np.sin(t / 4)], [b, a, 30 + 6 * np.sin(t / 7)]])


def film(n):
    """(frames, true eyes [n, 2, 2]); a frame's number is hidden in its corner, for the detector below."""
    patch, ground = texture(1, 100, 100), texture(2, HEIGHT, WIDTH)
    frames = []
    for t in range(n):
        frame = ground.copy()
        mask = cv2.warpAffine(np.full((100, 100), 255, np.uint8), motion_at(t), (WIDTH, HEIGHT))
        moved_patch = cv2.warpAffine(patch, motion_at(t), (WIDTH, HEIGHT))
        frame[mask > 0] = moved_patch[mask > 0]
        frame[0, 0] = t
        frames.append(frame)
    return frames, np.stack([moved(motion_at(t), EYES) for t in range(n)])


class NoisyDetector:
    """Finds the true eyes but for noise; sees nothing in the frames `blind`; `others`: further boxes, always there."""

    def __init__(self, eyes, noise=0.0, blind=(), others=()):
        self.eyes = eyes + np.random.default_rng(0).normal(0, noise, eyes.shape)
        self.blind, self.others, self.looked = set(blind), others, []

    def detect(self, rgb, near=None, smallest=0.0):
        t = int(rgb[0, 0, 0])
        self.looked.append(t)
        faces = []
        if t not in self.blind:
            centre = self.eyes[t].mean(0)
            faces.append(Face(np.array([centre[0] - 40, centre[1] - 35, 80, 80]), self.eyes[t], 0.9))
        faces += [Face(np.array(box, float), np.array([[0, 0], [1.0, 0]]) + box[:2], 0.9) for box in self.others]
        return faces if near is None else [f for f in faces if overlap(f.box, near.box) > 0.3]


def follow(frames, detector, every=5):
    tracker = Tracker(detector, every)
    for t, frame in enumerate(frames):
        tracker.step(t, t / 25, frame)
    return tracker, tracker.finish()


def test_the_matrix_maps_the_eyes_exactly_where_they_belong():
    eyes = np.random.default_rng(0).uniform(0, 300, (20, 2, 2))
    target = canonical_eyes(112, 2.5)
    assert np.linalg.norm(target[1] - target[0]) == pytest.approx(112 / 2.5)
    for matrix, pair in zip(crop_matrices(eyes, 112, 2.5), eyes):
        np.testing.assert_allclose(moved(matrix, pair), target, atol=1e-6)
        assert matrix[0, 0] == pytest.approx(matrix[1, 1])  # turning and scaling only, no mirror, no shear
        assert matrix[0, 1] == pytest.approx(-matrix[1, 0])


def test_without_smoothing_the_detections_stand():
    frames, eyes = film(31)
    detector = NoisyDetector(eyes, noise=1.0)
    _, (track,) = follow(frames, detector)
    found = track_eyes(track, 0.0)
    seen = sorted(track.faces)
    assert seen[::6] == [0, 30]
    np.testing.assert_allclose(found[seen], detector.eyes[seen], atol=1e-6)


@pytest.mark.parametrize("every", [1, 5])
def test_smoothing_takes_the_detectors_noise_away_and_keeps_the_heads_way(every):
    frames, eyes = film(100)
    _, (track,) = follow(frames, NoisyDetector(eyes, noise=1.5), every)
    assert len(track.seconds) == 100
    rough, steady = track_eyes(track, 0.0), track_eyes(track, 0.1)
    size = 64
    jitter_rough, jitter_steady, jitter_true = (crop_jitter(crop_matrices(e, size, 2.5), size) for e in (rough, steady, eyes))
    assert jitter_steady < 0.35 * jitter_rough
    assert jitter_steady < 1.2 * jitter_true
    error_rough, error_steady = (np.sqrt(np.mean((e - eyes) ** 2)) for e in (rough, steady))
    assert error_steady < 0.75 * error_rough
    assert error_steady < 0.9


def test_one_wild_detection_is_overruled():
    frames, eyes = film(60)
    detector = NoisyDetector(eyes, noise=0.2)
    detector.eyes[30] += [[12, 9], [-8, 9]]
    _, (track,) = follow(frames, detector)
    assert 30 in track.faces
    assert np.abs(track_eyes(track, 0.1)[25:36] - eyes[25:36]).max() < 1.5


def test_the_flow_alone_carries_the_eyes_between_two_detections():
    frames, eyes = film(31)
    _, (track,) = follow(frames, NoisyDetector(eyes), every=10)
    assert sorted(track.faces) == [0, 10, 20, 30]
    assert np.abs(track_eyes(track, 0.0) - eyes).max() < 0.5  # a straight line in between would be 2 pixels off


def test_frames_of_a_loss_are_left_out_and_a_flicker_is_bridged():
    frames, eyes = film(80)
    blind = [20, *range(40, 60)]
    _, tracks = follow(frames, NoisyDetector(eyes, blind=blind))
    kept = {track.start + i for track in tracks for i in range(len(track.seconds))}
    assert kept >= set(range(40 - 5)) | set(range(60, 80))
    assert not kept & set(range(40, 60))


def test_nothing_is_joined_over_a_cut_or_a_gap_in_the_numbers():
    frames, eyes = film(60)
    scene = [frame.copy() for frame in frames]
    for t in range(30, 60):
        scene[t] = scene[t][:, ::-1].copy()
        scene[t][0, 0] = t
    mirrored = eyes.copy()
    mirrored[30:, :, 0] = WIDTH - 1 - eyes[30:, ::-1, 0]
    tracker, tracks = follow(scene, NoisyDetector(mirrored))
    assert tracker.n_cuts == 1
    assert [(t.start, t.newest) for t in tracks] == [(0, 29), (30, 59)]  # and not a frame is lost by it
    tracker = Tracker(NoisyDetector(eyes))
    for t, frame in enumerate(frames):
        tracker.step(t if t < 30 else t + 7, t / 25, frame)
    assert [(t.start, t.newest) for t in tracker.finish()] == [(0, 29), (30, 59)]


def test_light_and_motion_are_no_cuts():
    cuts = CutDetector()
    frames, _ = film(40)
    grey = [frame[..., 0] for frame in frames]
    grey[20:] = [(frame * 0.5).astype(np.uint8) for frame in grey[20:]]
    assert not any(cuts.step(frame) for frame in grey)
    assert cuts.step(texture(9, HEIGHT, WIDTH)[..., 0])


def test_two_faces_are_counted():
    frames, eyes = film(60)
    tracker, tracks = follow(frames, NoisyDetector(eyes, others=[(150, 100, 45, 45)]))
    assert tracker.n_searched > 1
    assert two_faces(tracks, tracks[:1], 60) == 60
    tracker, tracks = follow(frames, NoisyDetector(eyes, others=[(150, 100, 30, 30)]))  # below min_face_pixels
    assert two_faces(tracks, tracks, 60) == 0
    assert tracker.largest_too_small == 30
    assert len(tracks) == 1


def test_parameters_go_there_and_back_and_angles_do_not_jump():
    angles = np.linspace(-4, 4, 50)
    eyes = np.stack([[10 - 5 * np.cos(angles), 20 - 5 * np.sin(angles)], [10 + 5 * np.cos(angles), 20 + 5 * np.sin(angles)]])
    eyes = eyes.transpose(2, 0, 1)
    parameters = eye_parameters(eyes)
    np.testing.assert_allclose(np.diff(parameters[:, 3]), np.diff(angles), atol=1e-9)
    np.testing.assert_allclose(eyes_of(parameters), eyes, atol=1e-9)


def test_smoothing_follows_a_straight_line_to_its_ends_and_shrinks_noise():
    times = np.arange(200) / 25
    line = np.column_stack([3 + 2 * times, -times])
    np.testing.assert_allclose(gaussian_smooth(line, times, times, 0.2), line, atol=0.05)
    noise = np.random.default_rng(0).normal(size=(200, 2))
    # A Gaussian kernel of s frames leaves 1 / sqrt(2 sqrt(pi) s) of white noise.
    expected = 1 / np.sqrt(2 * np.sqrt(np.pi) * 5)
    assert gaussian_smooth(noise, times, times, 0.2)[20:-20].std() == pytest.approx(expected, rel=0.25)


def test_the_jitter_of_white_noise():
    eyes = np.tile(np.array([[80.0, 80], [120, 80]]), (4000, 1, 1))
    shift = np.random.default_rng(0).normal(0, 0.5, (4000, 1, 2))
    size = 100  # the crop has one pixel a pixel of the frame at crop_scale 2.5
    assert crop_jitter(crop_matrices(eyes, size, 2.5), size) == 0
    assert crop_jitter(crop_matrices(eyes + shift, size, 2.5), size) == pytest.approx(np.sqrt(6) * 0.5, rel=0.05)


def test_a_strongly_reduced_crop_does_not_alias():
    board = ((np.indices((800, 800)).sum(0) % 2) * 255).astype(np.uint8)
    part = Surroundings(np.repeat(board[..., None], 3, -1), (0, 0), (800, 800), 10)
    crop = part.warped(similarity([[0, 0], [800, 0]], [[0, 0], [80, 0]]), 80)
    assert np.abs(crop.astype(int) - 127).max() < 20


def test_empty_scenes_hold_no_faces_for_haar():
    random = np.random.default_rng(0)
    detector = HaarDetector()
    for image in (
        np.full((240, 320, 3), 127, np.uint8),
        random.integers(0, 255, (240, 320, 3), np.uint8),
        texture(3, 240, 320),
        np.tile(np.arange(320, dtype=np.uint8)[None, :, None], (240, 1, 3)),
    ):
        assert detector.detect(image) == []


def test_a_missing_or_broken_yunet_model_is_said(tmp_path):
    with pytest.raises(InputError, match="no YuNet model"):
        make_detector("yunet", str(tmp_path / "nowhere.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="cannot be loaded"):
        make_detector("auto", str(tmp_path / "bad.onnx"))
    assert isinstance(make_detector("auto"), HaarDetector)

"""A face that everybody shares: directions, hidden places, the reference, the code of a motion."""

import cv2
import numpy as np
import pytest

from data_pipelines.faces import shared_face

SIDE, CROP_SCALE = 128, 2.5


def texture(seed=0, side=SIDE):
    """Something that flow finds hold on, grey uint8 [side, side]."""
    noise = np.random.default_rng(seed).standard_normal((side // 4, side // 4)).astype(np.float32)
    return np.clip(128 + 40 * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def opened_jaw(side=SIDE, pixels=6.0):
    """A displacement that moves the lower face downwards, [side, side, 2]."""
    y = np.linspace(0, 1, side, dtype=np.float32)[:, None]
    down = pixels * np.clip((y - 0.55) / 0.2, 0, 1) * np.ones((1, side), np.float32)
    return np.stack([np.zeros_like(down), down], -1)


def moved(image, displacement):
    """The image after its places have gone where the displacement, given at the places of the result, says they came from."""
    return shared_face.sampled(image, -displacement)


def middle(x):
    """Without the edge, where the flow has nothing to look at."""
    return x[20:-20, 28:-28]


def test_motion_has_the_direction_in_which_the_face_moves():
    """The chin goes down, so y is above 0 there, at the places of the reference."""
    reference = texture()
    window = np.ones((SIDE, SIDE), np.float32)
    motion, hidden = shared_face.motion_of(
        reference, moved(reference, opened_jaw()), shared_face.make_flow(), window, towards="frame"
    )
    assert hidden < 0.2
    assert np.median(motion[100:115, 40:90, 1]) == pytest.approx(6, abs=0.5)
    assert abs(np.median(motion[20:50, 40:90, 1])) < 0.3
    assert abs(np.median(motion[..., 0])) < 0.3


def test_the_shared_face_makes_the_movement_of_the_clip():
    """Carried over to the clip's own reference, the motion gives the frame again; to another picture, that one moved alike."""
    reference, other = texture(0), texture(1)
    window = np.ones((SIDE, SIDE), np.float32)
    frame = moved(reference, opened_jaw())
    came_from, _ = shared_face.motion_of(reference, frame, shared_face.make_flow(), window, towards="reference")
    for picture in (reference, other):
        wanted = moved(picture, opened_jaw()).astype(float)
        made = shared_face.carried_over(picture, came_from)[..., 0].astype(float)
        assert np.abs(middle(made - wanted)).mean() < 0.3 * np.abs(middle(picture.astype(float) - wanted)).mean()


def test_a_hand_before_the_face_is_hidden_and_filled():
    """What passes in front has no counterpart in the reference: its places count as hidden and follow their surroundings."""
    reference = texture()
    frame = reference.copy()
    frame[40:90, 30:70] = texture(7)[40:90, 30:70]
    flow = shared_face.make_flow()
    there = flow(reference, frame)
    hidden = shared_face.disagreement(there, flow(frame, reference)) | shared_face.mismatch(reference, frame, there)
    assert hidden[45:85, 35:65].mean() > 0.5
    assert hidden[:, 90:].mean() < 0.05
    window = np.ones((SIDE, SIDE), np.float32)
    still, share = shared_face.motion_of(reference, reference, flow, window, "frame")
    assert share == 0
    assert np.abs(still).max() < 0.1
    _, share = shared_face.motion_of(reference, frame, flow, window, "frame")
    assert 0.5 * 50 * 40 / SIDE**2 < share < 2 * 50 * 40 / SIDE**2


def test_hidden_places_are_filled_from_those_around_and_with_nothing_far_from_any():
    displacement = np.full((SIDE, SIDE, 2), 3, np.float32)
    hidden = np.zeros((SIDE, SIDE), bool)
    hidden[60:64, 60:64] = True
    displacement[hidden] = 99
    assert np.abs(shared_face.filled(displacement, hidden) - 3).max() < 0.5
    assert np.abs(shared_face.filled(displacement, np.ones_like(hidden))).max() < 1e-3


def test_the_window_is_of_the_face_and_has_no_step():
    window = shared_face.face_window(SIDE, CROP_SCALE)
    eyes_y, left, right = round(0.33 * SIDE), round(SIDE * (0.5 - 0.2)), round(SIDE * (0.5 + 0.2))
    assert window[eyes_y, left] == window[eyes_y, right] == window[round(0.75 * SIDE), SIDE // 2] == 1
    assert window[-1, 0] == window[-1, -1] == window[0, 0] == 0
    assert max(np.abs(np.diff(window, axis=0)).max(), np.abs(np.diff(window, axis=1)).max()) < 0.25
    # Of another size or scale it is the same place of the face.
    np.testing.assert_allclose(cv2.resize(shared_face.face_window(256, CROP_SCALE), (SIDE, SIDE)), window, atol=0.05)


def test_the_reference_is_near_the_median_sharp_and_not_told_by_the_light():
    face = texture().astype(np.float32)
    still = [np.clip(face + np.random.default_rng(i).normal(0, 2, face.shape), 0, 255) for i in range(6)]
    blurred = [cv2.GaussianBlur(face, (0, 0), 3)] * 4
    turned = [moved(face, 3 * opened_jaw())] * 2
    frames = np.stack([*turned, *blurred, *still]).astype(np.uint8)
    chosen = shared_face.choose_reference(frames, CROP_SCALE)
    assert chosen >= 6
    dark = np.stack([frame // (1 + (i % 2)) for i, frame in enumerate(frames)])
    assert shared_face.choose_reference(dark, CROP_SCALE) >= 6


@pytest.mark.parametrize("size", [32, 64, SIDE])
def test_coded_motion_comes_back(size):
    """Of every size, in shares of the crop's side, to half a step of the code; what is too large is cut and counted."""
    displacement = np.zeros((SIDE, SIDE, 2), np.float32)
    displacement[..., 0], displacement[..., 1] = 5.0, -2.5
    picture, beyond = shared_face.coded(displacement, size)
    assert picture.shape == (size, size, 2)
    assert picture.dtype == np.uint8
    assert beyond == 0
    half_a_step = 0.51 * shared_face.LARGEST / 127
    np.testing.assert_allclose(shared_face.decoded(picture)[..., 0], 5 / SIDE, atol=half_a_step)
    np.testing.assert_allclose(shared_face.decoded(picture)[..., 1], -2.5 / SIDE, atol=half_a_step)
    still, _ = shared_face.coded(0 * displacement, size)
    assert (still == shared_face.STILL).all()
    displacement[: SIDE // 2] = 0.5 * SIDE
    cut, beyond = shared_face.coded(displacement, size)
    assert beyond == pytest.approx(0.5)
    np.testing.assert_allclose(shared_face.decoded(cut)[: size // 2], shared_face.LARGEST)


def test_the_shared_face_is_one_and_sharp():
    """Eyes where aligned crops have them, whatever the scale of the crop; no blur."""
    face = shared_face.shared_face(SIDE, CROP_SCALE, 1)
    np.testing.assert_array_equal(face, shared_face.shared_face(SIDE, CROP_SCALE, 1))
    assert face.shape == (SIDE, SIDE, 1)
    assert shared_face.shared_face(64, CROP_SCALE, 3).shape == (64, 64, 3)
    assert cv2.Laplacian(face, cv2.CV_32F).var() > 100
    for scale in (2.5, 3.5):
        grey = shared_face.shared_face(SIDE, scale, 1)[..., 0].astype(float)
        half, y = SIDE / scale / 2, round(0.33 * SIDE)
        for x in (SIDE / 2 - half, SIDE / 2 + half):
            pupil = grey[y - 2 : y + 3, round(x) - 3 : round(x) + 3]
            assert pupil.min() < 60


def test_colours_of_a_motion_show_direction_and_strength():
    still = np.full((4, 4, 2), shared_face.STILL, np.uint8)
    right, left = still.copy(), still.copy()
    right[..., 0], left[..., 0] = 255, 1
    assert (shared_face.as_colours(still) == 255).all()
    assert shared_face.as_colours(np.stack([still, right])).shape == (2, 4, 4, 3)
    assert np.abs(shared_face.as_colours(right).astype(int) - shared_face.as_colours(left)).max() > 200

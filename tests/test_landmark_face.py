"""The shared face moved by landmarks: nothing but movement is in its pictures, and each belongs to its own moment."""

import dataclasses

import numpy as np
import pytest
from conftest import drifting_blob, write_video
from test_landmarks import moved_head
from test_openface import change_rows, write_output

from data_pipelines.dataset.clip_keys import clip_key
from data_pipelines.errors import InputError
from data_pipelines.faces import landmark_face, shared_face
from data_pipelines.faces.clip_faces import PrepareSettings, process_clip
from data_pipelines.faces.images import decode_image
from data_pipelines.faces.landmark_face import LandmarkFace, deviations, mean_face
from data_pipelines.faces.landmarks import stable_points
from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry
from facedyn.config import default_config
from facedyn.stages.embed_model import refuse_landmarks

SIDE, CROP_SCALE, FRAMES = 64, 2.5, 30
LIPS = {68: np.arange(48, 68), 478: np.array([13, 14, 17, 0, 61, 291])}


def talking(n=68, seed=None, frames=FRAMES):
    """Landmarks [T, n, 2] of a mouth that opens and shuts; `seed`: of the shape of the face, None = the mean face."""
    shape = mean_face(n)
    if seed is not None:
        wider = np.random.default_rng(seed).normal(0, 0.1, (n, 2))
        wider[list(stable_points(n))] = 0
        shape = shape + wider
    found = np.repeat(shape[None], frames, 0)
    found[:, LIPS[n], 1] += 0.1 * np.sin(np.arange(frames) / 3)[:, None]
    return found


@pytest.mark.parametrize("n", [68, 468, 478])
def test_the_mean_face_has_its_eyes_where_they_belong(n):
    left, right = (mean_face(n)[list(corners)].mean(0) for corners in landmark_face.CORNERS[n])
    np.testing.assert_allclose([left, right], [[-0.5, 0], [0.5, 0]], atol=0.01)


def test_68_points_lie_in_the_order_of_their_markup():
    points = mean_face(68)
    jaw, brows, nose, eyes, lips = (points[a:b] for a, b in ((0, 17), (17, 27), (27, 36), (36, 48), (48, 68)))
    assert (np.diff(jaw[:, 0]) > -0.02).all()  # upright at its ends
    assert (np.diff(brows[:, 0]) > 0).all()
    assert jaw[8, 1] == points[:, 1].max()
    assert brows[:, 1].max() < eyes[:, 1].min() < nose[3:, 1].min() < nose.max(0)[1] < lips[:, 1].min() < jaw[8, 1]


def test_other_numbers_of_landmarks_are_refused():
    with pytest.raises(InputError, match="Files of 70 landmarks cannot move the shared face; it takes those of 68, 468 or 478"):
        mean_face(70)


@pytest.mark.parametrize("n", [68, 478])
def test_neither_the_head_nor_the_shape_of_the_face_is_in_the_deviations(n):
    expected = deviations(talking(n))
    np.testing.assert_allclose(deviations(moved_head(talking(n))), expected, atol=1e-6)
    np.testing.assert_allclose(deviations(talking(n, seed=1)), expected, atol=1e-6)
    np.testing.assert_allclose(expected[:, LIPS[n], 0], 0, atol=1e-6)
    assert np.ptp(expected[:, LIPS[n], 1]) == pytest.approx(0.2, rel=0.05)


def test_where_places_went_and_where_they_came_from_undo_each_other():
    face, moved = LandmarkFace(68, SIDE, CROP_SCALE), deviations(talking())[5]
    went, came = (face.displacement(moved, towards) for towards in ("frame", "reference"))
    assert 1.5 < np.abs(went).max() < 0.12 * SIDE / CROP_SCALE
    np.testing.assert_allclose(shared_face.sampled(went, came) + came, 0, atol=0.05)
    assert not went[0].any()  # the edge is still


def test_a_point_takes_its_place_along():
    """Where a landmark lies the displacement is its own."""
    face, moved = LandmarkFace(68, 256, CROP_SCALE), np.zeros((68, 2))
    tip = 30  # of the nose, in the middle of the face
    moved[tip] = 0.05, -0.02
    x, y = np.rint(mean_face(68)[tip] * 256 / CROP_SCALE + [127.5, landmark_face.EYE_LINE * 256 - 0.5]).astype(int)
    found = face.displacement(moved, "frame")[y, x] * CROP_SCALE / 256
    np.testing.assert_allclose(found, moved[tip], atol=0.01)


@pytest.fixture
def clip(tmp_path):
    """(entry, settings, a function that writes landmarks of the clip)."""
    write_video(tmp_path / "a.avi", drifting_blob(FRAMES, 0, 32))
    settings = PrepareSettings(image_size=32, channels=1, appearance="canonical", landmarks=str(tmp_path), workers=1)
    write = lambda points: np.savez(tmp_path / "a.npz", landmarks=points)  # noqa: E731
    write(moved_head(talking()))
    return ClipEntry("a", "p", tmp_path / "a.avi", split="train"), settings, write


def processed(entry, settings):
    kept = []
    faces = process_clip(entry, settings, kept.append)
    assert not faces.traceback
    return faces, np.stack([decode_image(kept[i], settings.channels) for i in faces.positions])


@pytest.mark.parametrize(("appearance", "channels"), [("canonical", 1), ("canonical", 3), ("motion", 2)])
def test_pictures_are_of_the_landmarks_alone(clip, tmp_path, appearance, channels):
    entry, settings, write = clip
    settings = dataclasses.replace(settings, appearance=appearance, channels=channels)
    faces, first = processed(entry, settings)
    assert faces.row.verdict == "ok"
    assert faces.frame_indices.tolist() == list(range(FRAMES))
    assert np.abs(np.diff(first.astype(int), axis=0)).max() > 5
    write_video(tmp_path / "a.avi", 255 - drifting_blob(FRAMES, 1, 32))  # somebody else before the camera
    write(moved_head(talking(seed=3), seed=2))
    _, second = processed(entry, settings)
    assert np.abs(first.astype(int) - second).max() <= 1


def test_every_picture_is_of_its_own_moment(clip, tmp_path):
    """At half the rate every second frame's landmarks are drawn; where there are none, there is a gap."""
    entry, settings, write = clip
    _, every = processed(entry, settings)
    _, half = processed(entry, dataclasses.replace(settings, fps=12.5))
    np.testing.assert_array_equal(half, every[::2])
    points = talking()
    points[10:13] = np.nan
    write(points)
    faces, left = processed(entry, settings)
    assert faces.frame_indices.tolist() == [*range(10), *range(13, FRAMES)]
    assert (faces.row.n_frames, faces.row.n_found) == (FRAMES, FRAMES - 3)
    assert len(left) == FRAMES - 3


@pytest.mark.parametrize("fps", [0.0, 10.0, 30.0])
def test_moments_are_those_of_the_frames(clip, fps):
    entry, _, _ = clip
    shown = [(index, seconds, image.copy()) for index, seconds, image in Video(entry.path, fps).passing_frames()]
    all_of_them = [image.copy() for _, _, image in Video(entry.path).passing_frames()]
    moments = list(Video(entry.path, fps).moments())
    assert [(index, seconds) for index, seconds, _ in moments] == [(index, seconds) for index, seconds, _ in shown]
    for (_, _, number), (_, _, image) in zip(moments, shown):
        np.testing.assert_array_equal(all_of_them[number], image)


def test_a_clip_without_its_file_is_left_out_and_says_why(clip, tmp_path):
    entry, settings, write = clip
    (tmp_path / "a.npz").unlink()
    faces = process_clip(entry, settings, [].append)
    assert faces.row.verdict != "ok"
    assert "there is no a.npz or a.csv in it" in faces.row.reason
    write(np.full((FRAMES, 68, 2), np.nan))
    assert "has landmarks in none of its frames" in process_clip(entry, settings, [].append).row.reason
    write(np.zeros((FRAMES, 68, 2)))
    assert "both eyes lie in one place" in process_clip(entry, settings, [].append).row.reason
    write(np.zeros((FRAMES, 70, 2)) + np.arange(70)[:, None])
    assert "Files of 70 landmarks" in process_clip(entry, settings, [].append).row.reason


def test_other_landmarks_are_another_clip(clip):
    entry, settings, write = clip
    before, as_filmed = (clip_key(entry, s) for s in (settings, dataclasses.replace(settings, appearance="own")))
    write(talking(seed=4))
    assert clip_key(entry, settings) != before
    assert clip_key(entry, dataclasses.replace(settings, landmarks="")) != before
    assert clip_key(entry, dataclasses.replace(settings, appearance="own")) == as_filmed


def test_a_model_of_landmarks_embeds_no_videos():
    config = default_config()
    config.data.update(dict(appearance="canonical", landmarks="somewhere"))
    with pytest.raises(InputError, match="which videos alone do not have"):
        refuse_landmarks(config)
    config.data.appearance = "own"
    refuse_landmarks(config)


def test_openfaces_own_tables_move_the_face(tmp_path):
    """Numbers from 1, rows without success left out."""
    images = write_output(tmp_path, "anna", FRAMES, space=" ")
    table = tmp_path / "anna.csv"
    header, *lines = table.read_text().splitlines()
    points = 80 * talking() + 300  # where it is in one frame it is in the next, or it is not the same face
    more = "".join(f", {axis}_{i}" for axis in "xy" for i in range(68))
    cells = ["".join(f", {value:.4f}" for value in frame.T.ravel()) for frame in points]
    table.write_text("\n".join([header + more, *(line + own for line, own in zip(lines, cells))]) + "\n")
    change_rows(table, lambda row: row | {"success": "0"} if row["frame"] == "7" else row)
    settings = PrepareSettings(image_size=32, channels=1, appearance="canonical", landmarks=str(tmp_path), workers=1)
    faces, found = processed(ClipEntry("anna", "p", images), settings)
    assert np.diff(faces.frame_indices).tolist() == [1] * 5 + [2] + [1] * 22
    points[6] = np.nan
    np.savez(tmp_path / "b.npz", landmarks=points)
    write_video(tmp_path / "b.avi", drifting_blob(FRAMES, 0, 32))
    _, expected = processed(ClipEntry("b", "p", tmp_path / "b.avi"), settings)
    assert np.abs(found.astype(int) - expected).max() <= 1
    change_rows(table, lambda row: row | {"face_id": str(int(row["frame"]) % 2)})
    assert "has rows of 2 faces" in process_clip(ClipEntry("anna", "p", images), settings, [].append).row.reason

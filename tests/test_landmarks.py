"""Landmarks that come with the data: what is read, what is refused, and that the head's place is taken out."""

import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.faces import landmarks


def mesh(frames=20, points=68, seed=0):
    """A face whose mouth moves and whose eyes and nose do not: [T, N, 2]."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform(-1, 1, (points, 2))
    mouth = np.setdiff1d(np.arange(points), landmarks.stable_points(points))[-8:]
    found = np.repeat(shape[None], frames, 0)
    found[:, mouth, 1] += 0.2 * np.sin(np.arange(frames) / 3)[:, None]
    return found


def moved_head(points, seed=1):
    """The same face elsewhere, turned and larger in every frame."""
    rng = np.random.default_rng(seed)
    n = len(points)
    angle, scale = rng.uniform(-0.5, 0.5, n), rng.uniform(50, 90, n)
    turn = scale[:, None, None] * np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], 1
    )
    return np.einsum("tij,tnj->tni", turn, points) + rng.uniform(100, 400, (n, 1, 2))


@pytest.mark.parametrize("points", [68, 468])
def test_place_size_and_roll_of_the_head_are_taken_out(points):
    face = mesh(points=points)
    still, moving = (landmarks.without_similarity(x) for x in (face, moved_head(face)))
    # Up to one turn for the whole clip, that of its first frame.
    turn = np.vdot(moving.view(complex)[0, :, 0], still.view(complex)[0, :, 0])
    turned = moving.view(complex)[..., 0] * (turn / abs(turn))
    np.testing.assert_allclose(turned, still.view(complex)[..., 0], atol=1e-9)
    stable = list(landmarks.stable_points(points))
    assert np.ptp(still[:, stable], axis=0).max() < 1e-9
    assert np.ptp(still[..., 1], axis=0).max() > 0.1


def test_csv_of_openface_gives_points_and_action_units(tmp_path):
    face = moved_head(mesh())
    names = ["frame", "timestamp", "confidence", "success", *(f"x_{i}" for i in range(68)), *(f"y_{i}" for i in range(68))]
    names += ["AU01_r", "AU12_r", "AU01_c"]
    for separator, decimal in ((", ", "."), (";", ",")):
        lines = [separator.join(names)]
        for t in range(20):
            values = [t + 1, t / 25, 0.9, t != 7, *face[t, :, 0], *face[t, :, 1], 0.1 * t, 5 - 0.1 * t, 1]
            lines.append(separator.join(f"{float(v):.6f}".replace(".", decimal) for v in values))
        path = tmp_path / "clip.csv"
        path.write_text("\n".join(lines))
        found = landmarks.read_landmarks(path)
        assert found.frames.tolist() == [t + 1 for t in range(20) if t != 7]
        np.testing.assert_allclose(found.points, face[found.frames - 1], atol=1e-5)
        np.testing.assert_allclose(found.units[:, 0], 0.1 * (found.frames - 1), atol=1e-5)
        assert landmarks.tracks(found, "landmarks").shape == (19, 136)
        assert landmarks.tracks(found, "action_units").shape == (19, 2)
    assert landmarks.find_landmarks(tmp_path, "clip") == path
    assert landmarks.find_landmarks(tmp_path, "other") is None


def test_npz_of_a_mesh(tmp_path):
    """Of three coordinates two count; frames without a face are NaN and left out, and so is one that is named twice."""
    points = np.concatenate([moved_head(mesh(points=468)), np.ones((20, 468, 1))], -1)
    points[3] = np.nan
    np.savez(tmp_path / "clip.npz", landmarks=points, frames=np.r_[np.arange(19), 18])
    found = landmarks.read_landmarks(tmp_path / "clip.npz")
    assert found.frames.tolist() == [0, 1, 2, *range(4, 19)]
    np.testing.assert_allclose(found.points, points[found.frames][..., :2])
    assert found.units.shape == (18, 0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "frame,confidence\n1,0.9\n", "no landmarks"),
        ("a.csv", "frame,x_0,y_1\n1,2,3\n", "cannot be read"),
        ("a.npz", {"points": np.zeros((3, 4, 2))}, "no array `landmarks`"),
        ("a.npz", {"landmarks": np.zeros((3, 4))}, "must be"),
        ("a.npz", {"landmarks": np.zeros((3, 4, 2)), "frames": np.arange(2)}, "must be"),
        ("a.npz", "no archive", "cannot be read"),
    ],
)
def test_what_is_no_file_of_landmarks_is_refused_in_a_sentence(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.savez(path, **content)
    with pytest.raises(InputError, match=words) as refused:
        landmarks.read_landmarks(path)
    assert len(str(refused.value).splitlines()) == 1


def test_a_clip_without_a_face_has_no_frames(tmp_path):
    np.savez(tmp_path / "clip.npz", landmarks=np.full((4, 68, 2), np.nan))
    found = landmarks.read_landmarks(tmp_path / "clip.npz")
    assert len(found.frames) == 0
    assert len(landmarks.tracks(found, "landmarks")) == 0

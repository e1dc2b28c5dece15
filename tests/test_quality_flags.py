"""Tiny, blurred, dark and turned faces: flagged by the thresholds, kept all the same, and said in the quality table."""

import dataclasses

import cv2
import numpy as np
import pytest
from conftest import write_video
from test_alignment import NoisyDetector, film, texture

from data_pipelines.dataset.clip_keys import clip_key
from data_pipelines.faces import clip_faces, reasons
from data_pipelines.faces.clip_faces import PrepareSettings, process_clip
from data_pipelines.faces.detection import nose_turn
from data_pipelines.faces.quality import QualityRow
from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry
from data_pipelines.prepare import prepare_face_clips

SETTINGS = PrepareSettings(image_size=48)
FLAGS = ("n_tiny", "n_blurred", "n_dark", "n_turned")


def flagged(row):
    return {name: getattr(row, name) for name in FLAGS if getattr(row, name)}


def row_of(path, frames, **changes):
    """The quality row of the frames as a clip that is aligned already."""
    write_video(path, np.stack([frame[:, :: (-1) ** i] for i, frame in enumerate(frames)]))  # one picture would be a frozen one
    return process_clip(ClipEntry("a", "p", path, aligned=True), dataclasses.replace(SETTINGS, **changes), [].append).row


def test_each_kind_is_flagged_and_kept(tmp_path):
    sharp = texture(0, 48, 48)
    blurred, dark, tiny = cv2.GaussianBlur(sharp, (0, 0), 3), sharp // 10, cv2.resize(sharp, (20, 20))
    assert flagged(row_of(tmp_path / "sharp.avi", [sharp] * 40)) == {}

    row = row_of(tmp_path / "blurred.avi", [sharp] * 10 + [blurred] * 30)
    assert (row.verdict, row.n_kept, flagged(row)) == ("ok", 40, {"n_blurred": 30})
    assert row.reason == "the face is blurred in 75% of its frames"

    row = row_of(tmp_path / "dark.avi", [sharp] * 20 + [dark] * 20, min_sharpness=0.0)
    assert (row.verdict, row.n_kept, flagged(row), row.reason) == ("ok", 40, {"n_dark": 20}, "")

    row = row_of(tmp_path / "tiny.avi", [tiny] * 40, min_sharpness=0.0)
    assert (row.verdict, row.n_kept, flagged(row)) == ("ok", 40, {"n_tiny": 40})


def test_frames_are_counted_as_the_file_holds_them_and_as_they_were_looked_at(tmp_path):
    frames = [texture(i, 48, 48) for i in range(60)]
    frames[20:50] = [frames[20]] * 30
    write_video(tmp_path / "frozen.avi", np.stack(frames))
    entry = ClipEntry("a", "p", tmp_path / "frozen.avi", aligned=True)
    row = process_clip(entry, SETTINGS, [].append).row
    assert (row.n_decoded, row.n_repeated, row.n_frames, row.share_found) == (60, 29, 31, 1.0)
    assert row.reason == "29 of 60 pictures were left out: they repeat those before them"
    row = process_clip(entry, dataclasses.replace(SETTINGS, fps=12.5), [].append).row
    assert (row.n_decoded, row.n_found, row.share_found) == (60, row.n_frames, 1.0)
    assert 14 <= row.n_frames <= 17


def test_sentences_are_joined_with_one_full_stop_at_most():
    assert reasons.joined("", "One.", "two", "Three.") == "One; two; Three."
    assert reasons.joined("One.", "two") == "One; two"
    assert reasons.joined("", "") == reasons.joined() == ""
    row = QualityRow("a", "p", "a.mp4", n_decoded=9)
    assert reasons.repeated(row) == ""
    assert reasons.repeated(dataclasses.replace(row, n_repeated=1)).startswith("1 of 9 pictures was left out")


def test_only_a_clip_that_is_dark_throughout_is_left_out(tmp_path):
    dark = [texture(0, 48, 48) // 10] * 40
    row = row_of(tmp_path / "dark.avi", dark)
    assert (row.verdict, row.n_kept) == ("left_out", 0)
    assert "too dark" in row.reason
    assert "config.data.min_brightness asks for 20" in row.reason
    assert row_of(tmp_path / "asked.avi", dark, min_brightness=5.0).verdict == "ok"


def test_the_turn_does_not_depend_on_size_place_and_tilt():
    head = np.array([[-1.0, 0, 0], [1, 0, 0], [0, 1, 1]])  # eyes, and the nose as far before them as beside
    for yaw in np.radians([-60, -45, -10, 0, 30, 45]):
        around = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        seen = (head @ around.T)[:, :2]
        for tilt, scale in ((0, 1), (0.7, 20), (-1.2, 300)):
            rotation = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
            assert nose_turn(*(scale * seen @ rotation.T + [50, 70])) == pytest.approx(np.tan(yaw), abs=1e-6)


class TurningDetector(NoisyDetector):
    """Sees the face turned away in the frames before `until`."""

    until = 0

    def detect(self, rgb, near=None, smallest=0.0):
        turn = -1.5 if int(rgb[0, 0, 0]) < self.until else 0.2
        return [dataclasses.replace(face, turn=turn) for face in super().detect(rgb, near, smallest)]


def detected(path, frames, detector, monkeypatch, **changes):
    write_video(path, np.stack(frames))
    monkeypatch.setattr(clip_faces, "make_detector", lambda *a: detector)
    settings = dataclasses.replace(SETTINGS, **({"crop_scale": 1.6} | changes))
    return process_clip(ClipEntry("a", "p", path), settings, [].append)


def test_turned_and_enlarged_faces_of_a_video(tmp_path, monkeypatch):
    frames, eyes = film(100)
    detector = TurningDetector(eyes)
    detector.until = 60
    row = detected(tmp_path / "a.avi", frames, detector, monkeypatch, max_enlargement=1.25).row
    assert row.n_kept == 100
    assert row.n_turned == pytest.approx(60, abs=5)
    assert "turned away in" in row.reason
    # 48 pixels for 1.6 times 24, which the head's size divides.
    sizes = 1 + 0.05 * np.sin(np.arange(100) / 20)
    assert row.n_tiny == pytest.approx((1.25 / sizes > 1.25).sum(), abs=12)
    assert row.n_dark == row.n_blurred == 0


def test_black_frames_between_two_detections_are_never_kept(tmp_path, monkeypatch):
    frames, eyes = film(60)
    black = {12, 13, 31, 32, 33, 34, 46}
    for t in black:
        frames[t][1:] = 0
    faces = detected(tmp_path / "a.avi", frames, NoisyDetector(eyes, blind=black), monkeypatch)
    kept = set(faces.frame_indices.tolist())
    assert not kept & black
    assert len(kept) > 40
    assert faces.row.n_dark == 0


def test_an_older_version_and_other_thresholds_are_not_taken_over(tmp_path, monkeypatch):
    write_video(tmp_path / "a.avi", np.stack([texture(t, 48, 48) for t in range(12)]))
    entry = ClipEntry("a", "p", tmp_path / "a.avi", aligned=True, split="train")
    settings = dataclasses.replace(SETTINGS, workers=1)

    def reused():
        return prepare_face_clips([entry], tmp_path / "data", settings, tmp_path / "quality.parquet", [].append)["clips_reused"]

    assert [reused(), reused()] == [0, 1]
    monkeypatch.setattr(clip_faces, "VERSION", clip_faces.VERSION + 1)
    assert [reused(), reused()] == [0, 1]
    for changes in ({"min_sharpness": 1.0}, {"min_brightness": 1.0}, {"max_enlargement": 1.0}):
        assert clip_key(entry, dataclasses.replace(SETTINGS, **changes)) != clip_key(entry, SETTINGS)
    assert clip_key(entry, dataclasses.replace(SETTINGS, max_turn=2.0)) == clip_key(entry, SETTINGS)  # nothing is detected


def test_a_real_face_has_a_flag_only_when_it_is_damaged(shared, tmp_path):
    settings = PrepareSettings(yunet_model=str(shared / "models" / "yunet.onnx"))
    frames = [image for _, _, image in Video(shared / "data" / "clips" / "grid_bbaf2n.mpg")][:20]
    damaged = {
        "": frames,
        "n_blurred": [cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames],
        "n_dark": [frame // 8 for frame in frames],
        "n_tiny": [cv2.resize(frame, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA) for frame in frames],
    }
    for name, changed in damaged.items():
        write_video(tmp_path / f"{name}.avi", np.stack(changed))
        row = process_clip(ClipEntry("a", "p", tmp_path / f"{name}.avi"), settings, [].append).row
        assert row.n_found == 20, name
        if name:
            assert flagged(row)[name] == 20, (name, row)
            assert row.verdict == ("left_out" if name == "n_dark" else "ok")
        else:
            assert flagged(row) == {}

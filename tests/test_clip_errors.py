"""An error at any step of a clip becomes its row, and the traceback is handed on; what ends a run goes through."""

import dataclasses

import cv2
import numpy as np
import pytest
from conftest import write_video
from test_alignment import NoisyDetector, film

from data_pipelines.errors import InputError
from data_pipelines.faces import clip_faces, cropping, quality, reasons, tracking
from data_pipelines.faces.clip_faces import PrepareSettings, process_clip
from data_pipelines.manifest import ClipEntry

SETTINGS = PrepareSettings(image_size=32, crop_scale=1.6)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.avi"
    frames, eyes = film(30)
    write_video(path, np.stack(frames))
    return ClipEntry("a", "p", path), eyes


def raising(error):
    def fail(*arguments, **more):
        raise error

    return fail


STEPS = {
    "open": (clip_faces.Video, "__init__"),
    "decode": (clip_faces.Video, "passing_frames"),
    "outputs": (clip_faces, "find_outputs"),
    "detector": (clip_faces, "make_detector"),
    "describer": (clip_faces, "make_describer"),
    "cut": (tracking.CutDetector, "step"),
    "detect": (NoisyDetector, "detect"),
    "flow": (tracking.FaceFlow, "step"),
    "track": (tracking.Tracker, "finish"),
    "crop": (cropping.Surroundings, "warped"),
    "encode": (cropping, "encode_image"),
    "light": (quality, "brightness_and_sharpness"),
    "who": (clip_faces, "people"),
    "flags": (quality, "flags"),
    "verdict": (quality, "longest_run"),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_any_step_becomes_the_row(clip, step, monkeypatch):
    entry, eyes = clip
    monkeypatch.setattr(clip_faces, "make_detector", lambda *a: NoisyDetector(eyes))
    assert process_clip(entry, SETTINGS, [].append).row.verdict == "ok"
    for error in (RuntimeError("it broke\nin two"), cv2.error("no such matrix"), ZeroDivisionError(), OSError(5, "bad sector")):
        with monkeypatch.context() as patch:
            patch.setattr(*STEPS[step], raising(error))
            faces = process_clip(entry, SETTINGS, [].append)
        assert (faces.row.verdict, faces.row.n_kept, len(faces.frame_indices)) == ("left_out", 0, 0)
        assert type(error).__name__ in faces.row.reason
        assert "\n" not in faces.row.reason
        assert "Traceback" in faces.traceback
        assert step in ("open", "decode") or type(error).__name__ in faces.traceback
    with monkeypatch.context() as patch:
        patch.setattr(*STEPS[step], raising(InputError("The file is not what it says; replace it.")))
        faces = process_clip(entry, SETTINGS, [].append)
    assert (faces.row.reason, faces.traceback) == ("The file is not what it says; replace it.", "")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_ends_a_run_goes_through(clip, stop, monkeypatch):
    entry, eyes = clip
    monkeypatch.setattr(clip_faces, "make_detector", lambda *a: NoisyDetector(eyes))
    monkeypatch.setattr(tracking.Tracker, "step", raising(stop()))
    with pytest.raises(stop):
        process_clip(entry, SETTINGS, [].append)


def test_a_full_disk_is_not_the_clips_fault(clip, monkeypatch):
    entry, eyes = clip
    monkeypatch.setattr(clip_faces, "make_detector", lambda *a: NoisyDetector(eyes))
    with pytest.raises(OSError, match="No space left"):
        process_clip(entry, SETTINGS, raising(OSError(28, "No space left on device")))


@pytest.mark.parametrize("n", range(1, 13))
@pytest.mark.parametrize("aligned", [True, False])
def test_clips_of_a_few_frames_have_a_row(n, aligned, tmp_path, monkeypatch):
    frames, eyes = film(n)
    write_video(tmp_path / "a.avi", np.stack(frames))
    monkeypatch.setattr(clip_faces, "make_detector", lambda *a: NoisyDetector(eyes))
    row = process_clip(ClipEntry("a", "p", tmp_path / "a.avi", aligned=aligned), SETTINGS, [].append).row
    assert (row.verdict == "ok") == (row.n_found >= SETTINGS.min_frames)
    if aligned or n == 1:
        assert row.n_found == n
        assert np.isfinite([row.brightness, row.sharpness]).all()
    if row.n_found == 1:
        assert "1 frame with a face stands alone" in row.reason


def test_means_of_nothing_are_not_numbers():
    assert np.isnan(list(quality.mean_light([]).values())).all()
    assert set(quality.flags(SETTINGS, 0, [], []).values()) == {0}


def test_the_sentence_of_an_error():
    assert "(ValueError: a b)" in reasons.of_error(ValueError("a b.\nc"))
    assert "(KeyError: without a message)" in reasons.of_error(KeyError())


def test_a_dataclass_row_holds_plain_numbers(clip, monkeypatch):
    entry, eyes = clip
    monkeypatch.setattr(clip_faces, "make_detector", lambda *a: NoisyDetector(eyes))
    row = process_clip(entry, SETTINGS, [].append).row
    assert {type(value) for value in dataclasses.asdict(row).values()} <= {str, int, float}

"""Real people: both detectors find the face, agree on it, and give steady crops; frames without a face stay out."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.faces import detection
from data_pipelines.faces.clip_faces import PrepareSettings, follow_faces, process_clip
from data_pipelines.faces.detection import HaarDetector, YuNetDetector, overlap
from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry, read_manifest
from data_pipelines.prepare import prepare_face_clips


@pytest.fixture(scope="module")
def entries(shared):
    return {entry.clip_id: entry for entry in read_manifest(shared / "data" / "clips.csv")}


@pytest.fixture(scope="module")
def models(shared):
    return str(shared / "models" / "yunet.onnx")


def test_both_detectors_find_the_face_and_agree(entries, models):
    yunet, haar = YuNetDetector(models), HaarDetector()
    looked = found = agree = 0
    for clip_id in ("grid_bbaf2n", "fexmetrica_test", "liveportrait_d12", "pyfeat_single_face"):
        for i, _, image in Video(entries[clip_id].path).passing_frames():
            if i % 40 == 0:
                looked += 1
                one, two = yunet.detect(image), haar.detect(image)
                assert len(one) == 1
                assert one[0].score > 0.8
                near = yunet.detect(image, near=one[0])
                assert overlap(near[0].box, one[0].box) > 0.7
                found += len(two) > 0
                agree += len(two) > 0 and overlap(one[0].box, two[0].box) >= 0.5
                if two:
                    distance = np.linalg.norm(one[0].eyes[1] - one[0].eyes[0])
                    assert np.linalg.norm(two[0].eyes - one[0].eyes, axis=1).max() < 0.35 * distance
    assert found >= 0.97 * looked
    assert agree >= 0.97 * looked


def test_a_large_look_leans_as_the_cascade_says_at_the_mean_of_both_places(entries, models, monkeypatch):
    """Where the cascade sees both eyes; one eye says nothing of how the head leans."""
    monkeypatch.setattr(detection, "levelled", lambda image, eyes, share: eyes)
    _, _, image = next(Video(entries["grid_bbaf2n"].path).passing_frames())
    looks, moved = {}, np.array([[0.0, -6.0], [4.0, 6.0]])
    for seen in (0, 1, 2):
        yunet = YuNetDetector(models)
        (face,) = yunet.detect(image)
        monkeypatch.setattr(yunet._cascade, "near", lambda image, eyes, seen=seen: (eyes + moved, seen))
        (looks[seen],) = yunet.refined(image, face)
    np.testing.assert_allclose(looks[1].eyes, looks[0].eyes)
    eyes = looks[0].eyes
    mean, across = eyes + moved / 2, np.diff(eyes + moved, axis=0)[0]
    np.testing.assert_allclose(looks[2].eyes.mean(0), mean.mean(0))
    np.testing.assert_allclose(looks[2].roll, np.arctan2(across[1], across[0]))
    np.testing.assert_allclose(np.linalg.norm(np.diff(looks[2].eyes, axis=0)), np.linalg.norm(np.diff(mean, axis=0)))
    found, seen = YuNetDetector(models)._cascade.near(image, eyes)
    assert seen == 2
    assert np.linalg.norm(found - eyes, axis=1).max() < 0.1 * np.linalg.norm(eyes[1] - eyes[0])


def test_frames_without_a_face_are_kept_out(shared):
    settings = PrepareSettings(detector="haar", image_size=64)
    faces = process_clip(ClipEntry("a", "p", shared / "data" / "edge" / "face_noface.mov"), settings, [].append)
    assert faces.row.verdict == "ok"
    assert faces.frame_indices.tolist() == list(range(72))  # the person is gone from frame 72 on
    assert faces.row.share_found == pytest.approx(72 / 169)
    detector = HaarDetector()
    for i, _, image in Video(shared / "data" / "edge" / "no_face.mp4").passing_frames():
        assert i % 12 or detector.detect(image) == []


def test_a_person_who_enters_late(shared, models):
    settings = PrepareSettings(detector="yunet", yunet_model=models)
    tracker, numbers, _ = follow_faces(Video(shared / "data" / "edge" / "noface_face.mov"), settings)
    (track,) = tracker.finish()
    assert len(numbers) == 169
    assert 96 <= track.start <= 100
    assert track.newest == 167  # the last frame is black


def test_clips_become_a_dataset(entries, models, tmp_path):
    chosen = [entries[i] for i in ("grid_sbia1a", "grid_swiz3n")] + [ClipEntry("gone", "p000", tmp_path / "gone.mp4")]
    tables = {}
    for detector in ("haar", "yunet"):
        settings = PrepareSettings(detector=detector, yunet_model=models, workers=1)
        summary = prepare_face_clips(chosen, tmp_path / detector, settings, tmp_path / f"{detector}.parquet", [].append)
        tables[detector] = pd.read_parquet(tmp_path / f"{detector}.parquet")
        assert (summary["clips_used"], summary["clips_left_out"]) == (2, 1)
        assert summary["share_found"] == 1
        data = open_face_clips(tmp_path / detector)
        crops = data.frames(0)
        assert crops.shape == (75, 112, 112, 3)
        assert np.abs(np.diff(crops.astype(int), axis=0)).mean() < 4
    assert (tables["haar"].jitter[:2] < 0.05).all()
    assert (tables["yunet"].jitter[:2] < 0.05).all()
    rough = process_clip(chosen[0], dataclasses.replace(settings, smoothing_seconds=0.0), [].append).row
    assert rough.jitter > 3 * tables["yunet"].jitter[0]

"""prepare: from a manifest to the dataset and the quality table, with everything that users' clips can be."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import drifting_blob, write_video
from test_alignment import NoisyDetector, film

from data_pipelines.dataset import packing
from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.faces import clip_faces, images
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.faces.video import Video, quiet
from data_pipelines.manifest import ClipEntry, read_manifest
from data_pipelines.prepare import prepare_face_clips

SETTINGS = PrepareSettings(image_size=16, workers=1, min_frames=9)


def prepare(entries, folder, notes=None, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return prepare_face_clips(
        entries, folder / "data", settings, folder / "quality.parquet", [].append if notes is None else notes.append
    )


def blob_entries(folder, n=4, frames=20):
    entries = []
    for i in range(n):
        write_video(folder / f"{i}.avi", drifting_blob(frames + i, i))
        entries.append(
            ClipEntry(f"c{i}", f"p{i // 2}", folder / f"{i}.avi", aligned=True, task="talk", session="1", split="train")
        )
    return entries


@pytest.fixture
def counted(monkeypatch):
    """Ids of the clips that are processed, in order."""
    done, process = [], clip_faces.process_clip

    def counting(entry, settings, keep, folder=None):
        done.append(entry.clip_id)
        return process(entry, settings, keep, folder)

    monkeypatch.setattr(clip_faces, "process_clip", counting)
    return done


def test_round_trip_without_loss(blob_manifest, tmp_path, monkeypatch):
    names = ("bold", "calm")
    entries = read_manifest(blob_manifest, names)
    entries[0] = dataclasses.replace(entries[0], traits=(np.nan, 0.25), session="s1")
    summary = prepare(entries, tmp_path, trait_names=names)
    assert summary["clips_used"] == summary["clips"] == 24
    assert summary["people_by_split"] == {"test": 6, "train": 4, "validation": 2}
    data = open_face_clips(tmp_path / "data")
    assert (data.trait_names, data.image_size, data.channels) == (names, 16, 3)
    by_id = {entry.clip_id: entry for entry in entries}
    assert {clip.clip_id for clip in data.clips} == set(by_id)
    for i, clip in enumerate(data.clips):
        entry = by_id[clip.clip_id]
        frames = np.stack([image for _, _, image in Video(entry.path)])
        assert data.frames(i).tobytes() == frames.tobytes()
        assert (clip.person_id, clip.task, clip.session, clip.split) == (
            entry.person_id,
            entry.task,
            entry.session,
            entry.split,
        )
        assert clip.fps == 25
        assert clip.frame_indices.tolist() == list(range(len(frames)))
        np.testing.assert_array_equal(clip.traits, np.float32(entry.traits))
    decoded, imdecode = [], cv2.imdecode
    monkeypatch.setattr(images.cv2, "imdecode", lambda *a: decoded.append(1) or imdecode(*a))
    window = data.frames(3, [7, 2, 2, 30])
    assert len(decoded) == 3  # only the wanted ones, each once
    np.testing.assert_array_equal(window, data.frames(3)[[7, 2, 2, 30]])
    table = pd.read_parquet(tmp_path / "quality.parquet")
    assert table.clip_id.tolist() == [entry.clip_id for entry in entries]
    assert (table.verdict == "ok").all()
    assert (table.n_kept == table.n_decoded).all()
    assert not (tmp_path / "data" / "crops").exists()


def test_grey_jpeg_resized_resampled_and_in_parts(tmp_path):
    entries = blob_entries(tmp_path, 2, frames=50)
    prepare(entries, tmp_path, channels=1, image_format="jpeg", image_size=8, fps=12.5, max_frames_per_record=10)
    data = open_face_clips(tmp_path / "data")
    assert data.channels == 1
    for clip_id in ("c0", "c1"):
        assert sorted(data.index.part[data.index.clip_id == clip_id]) == [0, 1, 2]
        i = next(i for i, clip in enumerate(data.clips) if clip.clip_id == clip_id)
        numbers, frames = data.clips[i].frame_indices, data.frames(i)
        across = [21, 3, 9, 10, 21]  # any order, over the records' borders
        np.testing.assert_array_equal(data.frames(i, across), frames[across])
        assert len(list(data.encoded(i))) == len(frames)
        assert numbers.tolist() == list(range(len(numbers)))
        assert frames.shape == (len(numbers), 8, 8, 1)
        source = [image for _, _, image in Video(entries[int(clip_id[1])].path, fps=12.5)]
        expected = [cv2.cvtColor(cv2.resize(s, (8, 8), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY) for s in source]
        assert np.abs(frames[..., 0].astype(int) - expected).mean() < 3
    assert {clip.fps for clip in data.clips} == {12.5}


def test_every_bad_clip_gets_its_row_and_the_others_go_on(tmp_path):
    good = blob_entries(tmp_path, 2)
    data = (tmp_path / "1.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(data[: int(len(data) * 0.7)])
    (tmp_path / "text.mp4").write_text("no video")
    write_video(tmp_path / "short.avi", drifting_blob(8, 0))
    write_video(tmp_path / "black.avi", np.zeros((20, 16, 16, 3), np.uint8))
    flicker = drifting_blob(40, 1)
    flicker[[10, 11, 30]] = 0
    write_video(tmp_path / "flicker.avi", flicker)
    (tmp_path / "frames").mkdir()
    bad = [
        ClipEntry(name, "q", tmp_path / file, aligned=name != "unaligned", split="train")
        for name, file in (
            ("missing", "nowhere.mp4"),
            ("text", "text.mp4"),
            ("short", "short.avi"),
            ("black", "black.avi"),
            ("no_images", "frames"),
            ("unaligned", "0.avi"),
            ("half", "half.avi"),
            ("flicker", "flicker.avi"),
        )
    ]
    notes = []
    summary = prepare(good + bad, tmp_path, notes)
    table = pd.read_parquet(tmp_path / "quality.parquet").set_index("clip_id")
    left_out = {
        "missing": "no file or folder",
        "text": "opened as a video",
        "short": "Only 8 frames with a face follow one another, a window needs 9",
        "black": "All of its 20 frames are black",
        "no_images": "contains no images",
        "unaligned": "No face was found in any of its 20 frames",
    }
    assert set(table.index[table.verdict == "left_out"]) == set(left_out)
    for name, words in left_out.items():
        assert words in table.reason[name]
        assert any(name in note and words in note for note in notes)
    assert summary["clips_left_out"] == len(left_out)
    assert "can be decoded" in table.reason["half"]
    assert table.verdict["half"] == "ok"
    assert table.loc["flicker", ["n_decoded", "n_found", "n_kept", "n_gaps"]].tolist() == [40, 37, 37, 2]
    kept = next(clip for clip in open_face_clips(tmp_path / "data").clips if clip.clip_id == "flicker").frame_indices
    assert sorted(set(range(40)) - set(kept.tolist())) == [10, 11, 30]


def test_not_a_single_usable_clip_is_an_error_and_the_table_says_why(tmp_path):
    with pytest.raises(InputError, match="Not one of 1 clips can be used"):
        prepare([ClipEntry("a", "p", tmp_path / "nowhere.mp4")], tmp_path)
    assert pd.read_parquet(tmp_path / "quality.parquet").verdict.tolist() == ["left_out"]
    with pytest.raises(InputError, match="run the stage prepare first"):
        open_face_clips(tmp_path / "data")


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch, counted):
    entries = blob_entries(tmp_path, 6)
    encode, left = clip_faces.encode_image, [70]

    def dying(*arguments):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt  # amid the fourth clip
        return encode(*arguments)

    monkeypatch.setattr(clip_faces, "encode_image", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare(entries, tmp_path)
    monkeypatch.setattr(clip_faces, "encode_image", encode)
    cached = sorted((tmp_path / "data" / "crops").glob("*.json"))
    assert len(cached) == 3
    cached[0].write_bytes(cached[0].read_bytes()[:100])  # as a full disk or a crash of the machine may leave it
    counted.clear()
    assert prepare(entries, tmp_path)["clips_reused"] == 2
    assert counted == ["c0", "c3", "c4", "c5"]
    assert len(open_face_clips(tmp_path / "data").clips) == 6


def test_only_what_changed_is_done_again(tmp_path, counted):
    entries = blob_entries(tmp_path, 4)
    entries.append(ClipEntry("late", "p9", tmp_path / "late.avi", aligned=True, split="train"))

    def run(entries, **changes):
        counted.clear()
        prepare(entries, tmp_path, **changes)
        data = open_face_clips(tmp_path / "data")
        return list(counted), {clip.clip_id: (clip, data.frames(i)) for i, clip in enumerate(data.clips)}

    assert run(entries)[0] == ["c0", "c1", "c2", "c3", "late"]
    notes = []
    prepare(entries, tmp_path, notes)
    assert "up to date" in notes[0]
    assert len(counted) == 5
    write_video(tmp_path / "late.avi", drifting_blob(30, 7))  # was missing
    write_video(tmp_path / "2.avi", drifting_blob(33, 8))  # another video under the same name
    done, clips = run(entries)
    assert done == ["c2", "late"]
    assert len(clips["c2"][1]) == 33
    # Labels, people and the manifest's extent change the dataset, but no clip has to be looked at again.
    entries = [dataclasses.replace(e, traits=(0.5,), person_id="x", split="test") for e in entries[1:]]
    done, after = run(entries, trait_names=("calm",), max_frames_per_record=100)
    assert done == []
    assert set(after) == {"c1", "c2", "c3", "late"}
    for clip_id, (clip, frames) in after.items():
        assert (clip.person_id, clip.split, clip.traits.tolist()) == ("x", "test", [0.5])
        np.testing.assert_array_equal(frames, clips[clip_id][1])
    assert run(entries, trait_names=("calm",), image_size=8)[0] == ["c1", "c2", "c3", "late"]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), RuntimeError("write() failed: No space left on device; writing x")])
def test_packing_that_ends_early_loses_no_work(tmp_path, monkeypatch, end):
    entries = blob_entries(tmp_path, 3)

    def fail(*args):
        raise end

    monkeypatch.setattr(packing, "serialised", fail)
    with pytest.raises(InputError if isinstance(end, RuntimeError) else KeyboardInterrupt) as raised:
        prepare(entries, tmp_path)
    if isinstance(end, RuntimeError):
        assert "The disk is full" in str(raised.value)
        assert "run the same command again" in str(raised.value)
    monkeypatch.undo()
    assert prepare(entries, tmp_path)["clips_reused"] == 3
    assert len(open_face_clips(tmp_path / "data").clips) == 3
    assert sorted(f.name for f in (tmp_path / "data").iterdir()) == ["face_clips"]


class Bomb(str):
    """A session name that ends the process in which it is unpickled, as a crashing decoder would."""

    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.slow
def test_worker_processes_give_the_same_and_survive_a_crash(tmp_path):
    entries = blob_entries(tmp_path, 3)
    one, two = tmp_path / "one", tmp_path / "two"
    prepare(entries, one)
    entries.insert(1, dataclasses.replace(entries[0], clip_id="bomb", session=Bomb()))
    notes = []
    prepare(entries, two, notes, workers=2)
    assert [note for note in notes if "bomb" in note and "crashed" in note]
    one, two = open_face_clips(one / "data"), open_face_clips(two / "data")
    assert [clip.clip_id for clip in one.clips] == [clip.clip_id for clip in two.clips]
    for i in range(3):
        np.testing.assert_array_equal(one.frames(i), two.frames(i))


def test_detected_faces_are_cropped_counted_and_noted(tmp_path, monkeypatch):
    frames, eyes = film(90)
    write_video(tmp_path / "a.avi", np.stack(frames))
    detector = NoisyDetector(eyes, noise=0.5, blind=range(30, 50), others=[(150, 100, 45, 45)])
    monkeypatch.setattr(clip_faces, "make_detector", lambda *a: detector)
    entry = ClipEntry("a", "p", tmp_path / "a.avi")
    kept = []
    faces = clip_faces.process_clip(entry, dataclasses.replace(SETTINGS, image_size=48, crop_scale=1.6), kept.append)
    row = faces.row
    assert (row.verdict, row.n_decoded, row.n_gaps) == ("ok", 90, 1)
    kept = [kept[i] for i in faces.positions]  # the other face's crops come between
    assert row.n_kept == row.n_found == len(kept) == len(faces.frame_indices)
    assert 50 <= row.n_found <= 60  # a fifth of a second goes on either side of where the face was lost
    assert not set(faces.frame_indices.tolist()) & set(range(30, 50))
    assert row.n_two_faces > 0
    assert "more than one face" in row.reason
    assert "without this person's face were left out" in row.reason
    assert row.face_size == pytest.approx(80)
    assert row.mean_confidence == pytest.approx(0.9)
    # The crops hold the patch at rest: they differ far less from one another than the frames do.
    crops = np.stack([images.decode_image(f, 3) for f in kept]).astype(float)
    wild = np.stack([frames[i][40:88, 60:108] for i in faces.frame_indices]).astype(float)
    assert np.abs(np.diff(crops, axis=0)).mean() < 0.5 * np.abs(np.diff(wild, axis=0)).mean()
    assert crops.std(0).mean() < 0.5 * wild.std(0).mean()
    monkeypatch.setattr(detector, "blind", set(range(90)))
    too_small = clip_faces.process_clip(entry, dataclasses.replace(SETTINGS, min_face_pixels=60), kept.append)
    assert "config.data.min_face_pixels asks for 60" in too_small.row.reason
    left = clip_faces.process_clip(entry, dataclasses.replace(SETTINGS, main_person="left"), kept.append)
    assert "No face was found in the left half" in left.row.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 2}, "channels"),
        ({"image_format": "gif"}, "image_format"),
        ({"detector": "mtcnn"}, "detector"),
        ({"detector": "yunet"}, "yunet_model"),
        ({"yunet_model": "nowhere.onnx"}, "no YuNet model at nowhere.onnx"),
        ({"main_person": "middle"}, "main_person"),
        ({"min_confidence": 70.0}, "min_confidence"),
        ({"detect_every": 0}, "detect_every"),
        ({"fps": -1.0}, "fps"),
        ({"min_sharpness": float("nan")}, "min_sharpness"),
        ({"split_fractions": (0.5, 0.1, 0.1)}, "split_fractions"),
    ],
)
def test_unusable_settings_are_said_before_any_work(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        prepare([ClipEntry("a", "p", tmp_path / "a.mp4")], tmp_path, **changes)
    assert not (tmp_path / "data").exists()


def test_neither_workers_nor_the_dataset_pull_in_what_they_must_not(tmp_path):
    prepare(blob_entries(tmp_path, 1), tmp_path)
    code = f"""
import sys
import data_pipelines.faces.clip_faces
assert not {{"jax", "tensorflow", "tensorflow_datasets", "grain"}} & set(sys.modules), "worker"
from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.dataset.loaders import window_loader
data = open_face_clips({str(tmp_path / "data")!r})
next(window_loader(data, [0], scale=1, half_length=2, batch_size=2, seed=0, threads=2))
assert "tensorflow" not in sys.modules, "reader"
"""
    root = pathlib.Path(packing.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_quiet_can_be_called_twice():
    quiet()
    quiet()

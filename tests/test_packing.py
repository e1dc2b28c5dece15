"""The dataset on the disk: many shards, growth, replacement, kills at any moment, and what others read it with."""

import dataclasses
import errno
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from array_record.python import array_record_module
from conftest import drifting_blob, write_video
from tensorflow_datasets.proto import tf_example_pb2
from test_prepare import SETTINGS, blob_entries

from data_pipelines.dataset import clip_files, disk_space, face_clips, forgetting, packing, tfds_metadata
from data_pipelines.dataset.face_clips import NAME, VERSION, open_face_clips
from data_pipelines.doctor import check_dataset
from data_pipelines.errors import InputError
from data_pipelines.faces import clip_faces
from data_pipelines.manifest import ClipEntry, read_manifest
from data_pipelines.prepare import prepare_face_clips

SHARD = 0.25  # MB: a few clips fill one


def prepare(entries, folder, **changes):
    few = {"image_size": 48, "shard_mb": SHARD, "max_frames_per_record": 8, "trait_names": ("calm", "bold")}
    settings = dataclasses.replace(SETTINGS, **few | changes)
    return prepare_face_clips(entries, folder / "data", settings, folder / "quality.parquet", note=lambda text: None)


def content(folder):
    """{clip_id: (labels, frames)} of the dataset, and its quality rows."""
    data = open_face_clips(folder / "data")
    clips = {}
    for i, clip in enumerate(data.clips):
        labels = (clip.person_id, clip.task, clip.session, clip.split, clip.fps, str(clip.traits))
        clips[clip.clip_id] = (labels, clip.frame_indices.tolist(), data.frames(i).tobytes())
    return clips, pd.read_parquet(folder / "quality.parquet").astype(str).to_dict("records")


def shards(folder):
    """{name: (inode, size)} of the shards."""
    place = folder / "data" / NAME / VERSION
    return {f.name: (f.stat().st_ino, f.stat().st_size) for f in place.glob("*array_record*")}


@pytest.fixture
def entries(tmp_path):
    """Clips of six people in two splits, one of them unusable."""
    found = [
        dataclasses.replace(entry, split="train" if i < 8 else "test", traits=(i / 12, np.nan))
        for i, entry in enumerate(blob_entries(tmp_path, 12, 40))
    ]
    return [*found, ClipEntry("gone", "p9", tmp_path / "nowhere.avi", aligned=True, split="train", traits=(0.5, 0.5))]


def test_what_it_contains_depends_neither_on_workers_nor_on_the_size_of_shards(entries, tmp_path):
    prepare(entries, tmp_path / "one")
    prepare(entries, tmp_path / "two", workers=2, shard_mb=256.0)
    assert len(shards(tmp_path / "one")) > 4
    assert len(shards(tmp_path / "two")) == 2
    first, second = content(tmp_path / "one"), content(tmp_path / "two")
    assert first[0] == second[0]
    pd.testing.assert_frame_equal(*(pd.read_parquet(tmp_path / name / "quality.parquet") for name in ("one", "two")))
    sizes = [size for _, size in shards(tmp_path / "one").values()]
    assert max(sizes) < 3 * SHARD * 2**20


@pytest.mark.slow
def test_tfds_reads_it_without_tensorflow_and_without_us(entries, tmp_path, root):
    prepare(entries, tmp_path)
    data = open_face_clips(tmp_path / "data")
    expected = {(row.clip_id, row.part): row for row in data.index.itertuples()}
    code = f"""
import no_tensorflow, json
import numpy as np
import tensorflow_datasets as tfds

builder = tfds.builder_from_directory({str(data.folder)!r})
rows = []
for split in builder.info.splits:
    for example in builder.as_data_source(split=split):
        row = [example["clip_id"].decode(), int(example["part"]), split, np.stack(example["frames"]).tolist()]
        row += [np.array(example["frame_indices"]).tolist(), example["person_id"].decode()]
        rows.append([*row, float(example["traits"][0]), float(example["fps"])])
print(json.dumps(rows))
"""
    environment = os.environ | {"PYTHONPATH": str(root / "tests"), "FORBIDDEN": "tensorflow,facedyn,data_pipelines"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert {(clip_id, part) for clip_id, part, *_ in rows} == set(expected)
    number = {clip.clip_id: i for i, clip in enumerate(data.clips)}
    for clip_id, part, split, frames, indices, person_id, trait, fps in rows:
        clip = data.clips[number[clip_id]]
        assert (split, person_id, fps) == (clip.split, clip.person_id, clip.fps)
        assert trait == clip.traits[0]
        assert indices == clip.frame_indices[8 * part : 8 * part + 8].tolist()
        np.testing.assert_array_equal(frames, data.frames(number[clip_id], range(8 * part, 8 * part + len(frames))))


def test_a_record_is_what_tfds_itself_would_write(entries, tmp_path):
    prepare(entries[:1], tmp_path)
    data = open_face_clips(tmp_path / "data")
    layout = packing.stored_format(data.folder)
    features = tfds_metadata.tfds_features(layout)
    images = list(data.encoded(0))[:8]
    clip = data.clips[0]
    example = {name: getattr(clip, name) for name in ("clip_id", "person_id", "task", "session", "split", "fps")}
    example |= {"part": 0, "frame_indices": clip.frame_indices[:8], "traits": clip.traits}
    example["frames"] = [io.BytesIO(image) for image in images]
    theirs = tf_example_pb2.Example.FromString(features.serialize_example(features.encode_example(example)))
    reader = array_record_module.ArrayRecordReader(str(next(data.folder.glob("*array_record*"))), "")
    ours = tf_example_pb2.Example.FromString(reader.read([0])[0])
    assert ours == theirs


def test_a_new_clip_adds_a_shard_and_touches_no_other(entries, tmp_path):
    prepare(entries, tmp_path)
    before = shards(tmp_path)
    write_video(tmp_path / "new.avi", drifting_blob(30, 99))
    more = [*entries, ClipEntry("new", "p0", tmp_path / "new.avi", aligned=True, split="train", traits=(0.0, 1.0))]
    assert prepare(more, tmp_path)["clips_reused"] == len(entries)
    after = shards(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    assert content(tmp_path)[0].keys() == {e.clip_id for e in more} - {"gone"}


def test_a_changed_clip_rewrites_only_the_shard_that_holds_it(entries, tmp_path):
    prepare(entries, tmp_path)
    before, index = shards(tmp_path), open_face_clips(tmp_path / "data").index
    relabelled = [dataclasses.replace(e, task="other") if e.clip_id == "c3" else e for e in entries]
    relabelled = [e for e in relabelled if e.clip_id != "c9"]
    prepare(relabelled, tmp_path)
    own = index[index.clip_id.isin(["c3", "c9"])]
    touched = {face_clips.SHARD.format(split=row.split, number=row.shard) for row in own.itertuples()}
    after = shards(tmp_path)
    assert {name for name in before if after.get(name) != before[name]} <= touched
    clips = content(tmp_path)[0]
    assert "c9" not in clips
    assert clips["c3"][0][1] == "other"


def test_many_small_additions_are_joined(entries, tmp_path):
    for n in range(1, 13):
        prepare(entries[:n], tmp_path, shard_mb=1.0)
    assert len(shards(tmp_path)) < 8
    assert len(content(tmp_path)[0]) == 12


class Killed(BaseException):
    """Nothing catches it, as nothing would run after a kill."""


def changed(entries, folder):
    """The clips after the manifest and the files have changed in every way that there is."""
    write_video(folder / "new.avi", drifting_blob(30, 99))
    write_video(folder / "5.avi", drifting_blob(41, 77))
    now = [dataclasses.replace(e, person_id="x") if e.clip_id == "c2" else e for e in entries if e.clip_id != "c1"]
    now = [dataclasses.replace(e, split="train") if e.clip_id == "c10" else e for e in now]
    return [*now, ClipEntry("new", "p0", folder / "new.avi", aligned=True, split="train", traits=(1.0, 2.0))]


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_ends_where_an_undisturbed_one_does(entries, tmp_path, monkeypatch):
    before = tmp_path / "before"
    prepare(entries, before)
    clips_before = content(before)
    now = changed(entries, tmp_path)
    subprocess.run(["cp", "-a", before, tmp_path / "whole"], check=True)
    prepare(now, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    assert len(expected[0]) == 12
    calls = 0
    while True:
        calls += 7  # every so many operations on the disk, so that the test ends soon; each of them was tried once
        place = tmp_path / "killed"
        subprocess.run(["rm", "-rf", place], check=True)
        subprocess.run(["cp", "-a", before, place], check=True)
        left = [calls]

        def counting(function, left=left):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] <= 0:
                    raise Killed
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for owner, name in (
                (pathlib.Path, "replace"),
                (pathlib.Path, "unlink"),
                (packing, "serialised"),
                (packing, "_move"),
                (clip_files.os, "replace"),
            ):
                patch.setattr(owner, name, counting(getattr(owner, name)))
            try:
                prepare(now, place)
            except Killed:
                pass
            else:
                break
        try:  # what can be opened is the dataset before or after, never something between
            assert content(place)[0] in (clips_before[0], expected[0])
        except InputError as error:
            assert "run prepare again" in str(error)  # noqa: PT017
        prepare(now, place)
        assert content(place) == expected
        inside = {f.name for f in (place / "data" / NAME / VERSION).iterdir()}
        assert not inside & {"UNFINISHED"}
        assert not list((place / "data" / NAME / VERSION / "pending").iterdir())
        assert not (place / "data" / "crops").exists()
    assert calls > 40


def test_the_disk_never_holds_much_more_than_the_dataset(entries, tmp_path, monkeypatch):
    most, write = [0], packing.serialised

    def watching(*args):
        most[0] = max(most[0], sum(f.stat().st_size for f in (tmp_path / "w" / "data").rglob("*") if f.is_file()))
        return write(*args)

    monkeypatch.setattr(packing, "serialised", watching)
    entries = [dataclasses.replace(e, split="train") for e in entries]
    prepare(entries, tmp_path / "w")
    final = sum(f.stat().st_size for f in (tmp_path / "w" / "data").rglob("*array_record*"))
    assert final > 6 * SHARD * 2**20
    assert most[0] < final + 2.5 * SHARD * 2**20  # what waits, and what is being packed


def test_a_long_clip_lies_in_several_shards_and_its_crops_go_as_they_are_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_files, "FILE_BYTES", 200_000)
    write_video(tmp_path / "long.avi", drifting_blob(400, 1))
    entries = [ClipEntry("long", "p", tmp_path / "long.avi", aligned=True, split="train", traits=(0.0, 1.0))]
    prepare(entries, tmp_path, shard_mb=0.1)
    assert len(shards(tmp_path)) > 2
    data = open_face_clips(tmp_path / "data")
    assert data.clips[0].frame_indices.tolist() == list(range(400))
    assert len(data.frames(0)) == 400


def test_no_more_shards_are_open_than_a_process_may_have(entries, tmp_path, monkeypatch):
    prepare(entries, tmp_path)
    monkeypatch.setattr(face_clips, "MAX_OPEN", 2)
    data = open_face_clips(tmp_path / "data", cache_bytes=0)
    assert len(shards(tmp_path)) > 3
    for i in range(len(data.clips)):
        data.frames(i, [0])
        assert data._shard_of.cache_info().currsize <= 2


def test_a_dataset_of_the_old_format_is_refused_in_one_sentence_and_replaced(entries, tmp_path):
    old = tmp_path / "data" / NAME / "1.0.0"
    old.mkdir(parents=True)
    (old / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match=r"has the format 1\.0\.0 of an older facedyn, this one reads 2\.0\.0; run the stage"):
        open_face_clips(tmp_path / "data")
    prepare(entries, tmp_path)
    assert not old.exists()
    open_face_clips(tmp_path / "data")


def test_a_missing_shard_is_named(entries, tmp_path):
    prepare(entries, tmp_path)
    data = open_face_clips(tmp_path / "data", cache_bytes=0)
    first = next(data.folder.glob("*array_record*"))
    for shard in data.folder.glob("*array_record*"):
        shard.rename(shard.with_name("moved-" + shard.name))
    with pytest.raises(InputError, match="lacks its shard"):
        data.frames(0)
    assert not first.exists()


def test_a_disk_that_is_too_small_is_said_before_any_work(entries, tmp_path, monkeypatch):
    needed = disk_space.expected_bytes(entries, SETTINGS)
    frames = sum(40 + i for i in range(12)) / 12
    assert needed == pytest.approx(13 * frames * disk_space.bytes_per_frame(SETTINGS))  # of the missing one nothing is known
    monkeypatch.setattr(disk_space, "free", lambda place: 1000)
    with pytest.raises(InputError, match=r"needs about \d+ MB, 1 MB free: choose another disk by config\.data\.data_dir"):
        prepare(entries, tmp_path)
    assert not (tmp_path / "data").exists()
    defects = check_dataset.disk_defects(tmp_path / "data", entries, SETTINGS)
    assert [(d.kind, d.severity) for d in defects] == [("too_little_disk", "error")]
    monkeypatch.undo()
    assert check_dataset.disk_defects(tmp_path / "data", entries, SETTINGS) == []
    prepare(entries, tmp_path)
    monkeypatch.setattr(disk_space, "free", lambda place: 0)
    prepare(entries, tmp_path)  # nothing more is needed


def test_the_estimate_is_near_what_real_faces_take(shared, tmp_path):
    entries = [entry for entry in read_manifest(shared / "data" / "clips.csv") if entry.clip_id.startswith("grid")][:2]
    settings = dataclasses.replace(SETTINGS, image_size=64, min_frames=9)
    expected = disk_space.expected_bytes(entries, settings)
    prepare_face_clips(entries, tmp_path / "data", settings, tmp_path / "q.parquet", note=lambda text: None)
    assert 0.5 < expected / sum(size for _, size in shards(tmp_path).values()) < 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_what_the_machine_lacks_is_not_the_clips_fault(entries, tmp_path, monkeypatch, number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(clip_faces, "Video", fail)
        with pytest.raises(InputError, match="run the same command again"):
            prepare(entries, tmp_path)
    assert prepare(entries, tmp_path)["clips_used"] == 12


def test_an_unexpected_error_of_a_clip_is_logged_and_a_person_s_is_forgotten(entries, tmp_path, monkeypatch):
    video = clip_faces.Video

    def failing(path, *args):
        if path.name == "3.avi":
            raise ZeroDivisionError("nobody expected this")
        return video(path, *args)

    monkeypatch.setattr(clip_faces, "Video", failing)
    prepare(entries, tmp_path)
    log = tmp_path / "data" / "errors.jsonl"
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["clip_id"], line["person_id"]) == ("c3", "p1")
    assert "ZeroDivisionError: nobody expected this" in line["traceback"]
    table = pd.read_parquet(tmp_path / "quality.parquet").set_index("clip_id")
    assert "ZeroDivisionError" in table.reason["c3"]
    assert forgetting.forget_in_file(log, forgetting.Person("p1", frozenset({"c2", "c3"}))) == 1
    assert log.read_text() == ""


def test_threads_that_read_at_once_find_everything_imported(entries, tmp_path, root):
    """An import that the first of several threads begins can wait for ever for one that the second has begun."""
    prepare(entries[:1], tmp_path)
    code = f"""
import sys
from data_pipelines.dataset.face_clips import open_face_clips

data = open_face_clips({str(tmp_path / "data")!r})
before = set(sys.modules)
data.frames(0)
print(sorted(name for name in set(sys.modules) - before if name.startswith("tensorflow_datasets")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.splitlines() == ["[]"], done.stderr

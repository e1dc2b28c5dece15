"""A moved or copied project is the same project; a renamed file is the same clip, a changed one is done again alone."""

import dataclasses
import json
import os
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import FORGOTTEN, TINY, drifting_blob, write_video

from data_pipelines import content
from data_pipelines.dataset.clip_keys import clip_key
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.manifest import ClipEntry
from data_pipelines.prepare import prepare_face_clips
from facedyn.config import default_config
from facedyn.main import main
from facedyn.store import stamps

SETTINGS = PrepareSettings(image_size=16, min_frames=5, workers=1)


def times(workdir):
    folders = ("data", "generic", "representations", "traits", "report")
    return {
        str(path.relative_to(workdir)): path.stat().st_mtime_ns
        for folder in folders
        for path in (workdir / folder).rglob("*")
        if path.is_file()
    }


def test_a_copied_project_goes_on_where_it_was(workdir, blob_manifest, root, tmp_path, hear):
    shutil.copytree(blob_manifest.parent, tmp_path / "disk" / "videos")
    shutil.copytree(workdir, tmp_path / "disk" / "w")
    moved, manifest = tmp_path / "disk" / "w", tmp_path / "disk" / "videos" / "manifest.csv"
    for path in (tmp_path / "disk").rglob("*.avi"):
        os.utime(path)  # as a copy without times
    before = times(moved)
    settings = TINY | {"data.manifest": manifest}
    flags = [f"--config={root}/configs/videos.py", *(f"--config.{name}={value}" for name, value in settings.items())]
    assert main(["run", f"--workdir={moved}", *flags]) == 0
    said = hear()
    assert "is up to date" in said
    for stage in ("pretrain", "fit", "traits", "report"):
        assert f"{stage}: done before, unchanged" in said
    after = times(moved)
    # Which hashes are remembered depends on how long ago the videos were written.
    assert {name for name in before if before[name] != after.get(name)} <= {"data/hashes.json"}
    table = pd.read_parquet(moved / "quality.parquet")
    assert table["path"].str.startswith(str(tmp_path / "disk")).all()

    assert main(["doctor", f"--workdir={moved}", *flags]) == 0
    assert "stale_frames" not in hear()


def test_settings_that_a_later_stage_refuses_leave_the_dataset_as_it_is(workdir, arguments, tmp_path, capsys):
    shutil.copytree(workdir, tmp_path / "w")
    before = times(tmp_path / "w")
    assert main(arguments("run", tmp_path / "w", data__image_size=32)) == 2
    assert "data.image_size was 16, is 32" in capsys.readouterr().err
    assert times(tmp_path / "w") == before


def test_another_generic_model_to_start_from_is_noticed_wherever_it_lies(tmp_path):
    config, names = default_config(), []
    for name, text in (("one.safetensors", "1"), ("two.safetensors", "1"), ("two.safetensors", "2")):
        (tmp_path / name).write_text(text)
        config.pretrain.init_from = str(tmp_path / name)
        names.append(stamps.relevant(config, "pretrain", "data"))
    assert stamps.changes({"relevant": names[0]}, names[1]) == []
    assert stamps.changes({"relevant": names[1]}, names[2]) != []
    (tmp_path / name).unlink()  # once it has been learnt from it need not be kept
    assert stamps.changes({"relevant": names[0]}, stamps.relevant(config, "fit", "data")) == []


@pytest.fixture
def clips(tmp_path):
    """Three videos, a folder of images, and what prepares them: (entries, () -> clips that were processed)."""
    rng, entries = np.random.default_rng(0), []
    for name in "abc":
        write_video(tmp_path / "v" / f"{name}.avi", drifting_blob(12, int(rng.integers(99))))
        entries.append(ClipEntry(name, f"p{name}", tmp_path / "v" / f"{name}.avi", aligned=True))
    (tmp_path / "v" / "images").mkdir()
    for i in range(8):
        cv2.imwrite(str(tmp_path / "v" / "images" / f"{i:03d}.bmp"), drifting_blob(1, i)[0])
    entries.append(ClipEntry("d", "pd", tmp_path / "v" / "images", aligned=True))

    def done(chosen=None):
        chosen = entries if chosen is None else chosen
        summary = prepare_face_clips(chosen, tmp_path / "data", SETTINGS, tmp_path / "q.parquet", [].append)
        assert summary["clips_used"] == len(chosen)
        return len(chosen) - summary["clips_reused"]

    assert done() == 4
    return entries, done


def test_renamed_files_are_the_same_clips_and_changed_ones_are_done_alone(clips, tmp_path):
    entries, done = clips
    renamed = [dataclasses.replace(e, path=e.path.rename(e.path.with_name(f"new {e.path.name}"))) for e in entries]
    assert done(renamed) == 0
    assert done(renamed) == 0
    write_video(renamed[1].path, drifting_blob(12, 1234))
    assert done(renamed) == 1
    image = renamed[3].path / "004.bmp"
    image.write_bytes(bytes(image.read_bytes()[:-30]) + bytes(range(30)))  # of the same size
    assert done(renamed) == 1
    # Two files that change places: the clip is what the file holds.
    one, two = renamed[0].path, renamed[2].path
    one.rename(tmp_path / "x"), two.rename(one), (tmp_path / "x").rename(two)
    assert done(renamed) == 2


def test_a_left_out_clip_is_looked_at_again_once_its_file_is_there(clips, tmp_path):
    entries, done = clips
    lost = dataclasses.replace(entries[0], path=tmp_path / "elsewhere.avi")
    prepare_face_clips([lost, *entries[1:]], tmp_path / "data", SETTINGS, tmp_path / "q.parquet", [].append)
    assert pd.read_parquet(tmp_path / "q.parquet").verdict[0] == "left_out"
    other = dataclasses.replace(lost, path=tmp_path / "somewhere.avi")
    prepare_face_clips([other, *entries[1:]], tmp_path / "data", SETTINGS, tmp_path / "q.parquet", [].append)
    row = pd.read_parquet(tmp_path / "q.parquet").iloc[0]
    assert "elsewhere" not in row.reason + row.path
    shutil.copy(entries[0].path, other.path)
    assert done([other, *entries[1:]]) == 1


def test_the_detectors_file_counts_by_its_content(tmp_path):
    write_video(tmp_path / "a.avi", drifting_blob(5, 0))
    entry, key = ClipEntry("a", "p", tmp_path / "a.avi"), []
    for name, text in (("one.onnx", "1"), ("two.onnx", "1"), ("two.onnx", "2")):
        (tmp_path / name).write_text(text)
        key.append(clip_key(entry, dataclasses.replace(SETTINGS, yunet_model=str(tmp_path / name))))
    assert key[0] == key[1] != key[2]


def test_large_files_and_folders_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(content, "STRETCH_BYTES", 20)
    data = bytearray(np.random.default_rng(0).bytes(10_000))
    place = tmp_path / "large"
    place.write_bytes(data)
    names = {content.of_file(place)}
    for i in (0, 7 * (10_000 - 20) // 15, 9_999):  # head, a stretch between, tail
        changed = bytearray(data)
        changed[i] ^= 1
        place.write_bytes(changed)
        names.add(content.of_file(place))
    place.write_bytes(data[:-1])
    names.add(content.of_file(place))
    assert len(names) == 5
    files = {f"{i:03d}": tmp_path / f"{i:03d}" for i in range(40)}
    for path in files.values():
        path.write_bytes(bytes(data[:100]))
    names = {content.of_files(files), content.of_files({f"x{n}": p for n, p in files.items()})}
    files["000"].write_bytes(bytes(data[1:101]))
    names.add(content.of_files(files))
    files["001"].write_bytes(bytes(data[:99]))
    names.add(content.of_files(files))
    assert len(names) == 4


def test_what_is_known_is_not_read_again_and_names_nobody(tmp_path, monkeypatch):
    place = tmp_path / f"{FORGOTTEN}.avi"
    place.write_bytes(b"1" * 100)
    os.utime(place, ns=(10**18, 10**18))
    known = content.Known(tmp_path / "data")
    name = known.of_files({"": place})
    known.save()
    assert FORGOTTEN not in (tmp_path / "data" / content.CACHE).read_text()
    monkeypatch.setattr(content, "of_file", lambda path: pytest.fail("it was read again"))
    assert content.Known(tmp_path / "data").of_files({"": place}) == name
    monkeypatch.undo()
    place.write_bytes(b"2" * 100)
    just_now = content.Known(tmp_path / "data")
    assert just_now.of_files({"": place}) != name
    just_now.save()
    assert json.loads((tmp_path / "data" / content.CACHE).read_text()) == {}  # it may change again within the clock's tick
    (tmp_path / "data" / content.CACHE).write_text("nonsense")
    assert content.Known(tmp_path / "data").of_files({"": place}) == content.of_file(place)

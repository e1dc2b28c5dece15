"""Known layouts of folders, small copies of them: UDIVA, VoxCeleb, plain folders; and what a listing must survive."""

import json
import math
import os
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import drifting_blob, hash_seed, write_video

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry, read_manifest, write_manifest
from data_pipelines.sources import SOURCES, SourceSettings, make_manifest
from data_pipelines.sources.listing import list_files
from data_pipelines.suffixes import VIDEOS
from facedyn.main import main


def collected(name, root, tmp_path, **settings):
    place = tmp_path / "w" / "manifest.csv"
    collection = make_manifest(name, SourceSettings(root, **settings), place)
    entries = {entry.clip_id: entry for entry in read_manifest(place, collection.trait_names)}
    return collection, entries, json.loads(place.with_suffix(".json").read_text())


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not looked into")


def test_a_manifest_comes_back_as_it_was_written(tmp_path):
    entries = [
        ClipEntry("007", "01", tmp_path / "a, b" / 'ü "x".mp4', "s", "talk", "test", 29.97, True, (0.1 + 0.2, math.nan)),
        ClipEntry("-x", "_y", tmp_path.parent / "elsewhere.mp4", traits=(-1e-300, 1.0)),
        ClipEntry("tilde", "p", tmp_path / "~root" / "a.mp4", traits=(0.0, 2.0)),
        ClipEntry("space", "p", tmp_path / " a.mp4", traits=(0.0, 2.0)),
        ClipEntry("line\nbreak", "p", tmp_path / "a\nb.mp4", traits=(0.0, 2.0)),
    ]
    write_manifest(tmp_path / "manifest.csv", entries, ("calm", "bold"))
    assert repr(read_manifest(tmp_path / "manifest.csv", ("calm", "bold"))) == repr(entries)
    text = (tmp_path / "manifest.csv").read_text()
    assert str(tmp_path / "a, b") not in text  # the folder can be moved with its manifest
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.csv"]


@pytest.fixture
def udiva(tmp_path):
    """Two sessions of train, one of val, one of test; session 007011 has lost a video; nobody knows 192's traits."""
    root = tmp_path / "udiva"
    header = "ID,GENDER,AGE,OPENMINDEDNESS_Z,CONSCIENTIOUSNESS_Z,EXTRAVERSION_Z,AGREEABLENESS_Z,NEGATIVEEMOTIONALITY_Z\n"
    sessions = {"train": ["002003", "007011"], "val": ["020192"], "test": ["100101"]}
    traits = {"002": "0.5,-1.25,2,0,-0.5", "003": "1,1,1,1,1", "007": "0,0,0,0,0", "011": "3,3,3,3,3", "020": "-1,-1,-1,-1,-1"}
    for split, names in sessions.items():
        folder = root / f"metadata_{split}"
        folder.mkdir(parents=True)
        rows = [f"{name},{name[:3]},{name[3:]},1,2020" for name in names]
        (folder / f"sessions_{split}.csv").write_text("ID, PART.1, PART.2,KNOWN,DATE\n" + "\n".join(rows) + "\n")
        people = [name[i : i + 3] for name in names for i in (0, 3)]
        rows = "".join(f"{p},F,30,{traits[p]}\n" for p in people if p in traits)
        if split == "train":
            (folder / "parts_train.csv").write_text(header + rows)
        else:
            (folder / f"parts_{split}.csv").write_text("ID,GENDER,AGE\n" + "".join(f"{p},F,30\n" for p in people))
            (folder / f"parts_{split}_unmasked.csv").write_text(header + rows + ("192,M,41,,,,,\n" if split == "val" else ""))
        for name in names:
            for task, letter in (("talk", "T"), ("lego", "L")):
                for camera in (1, 2):
                    touch(root / split / "recordings" / f"{task}_recordings_{split}" / name / f"FC{camera}_{letter}.mp4")
    (root / "train" / "recordings" / "lego_recordings_train" / "007011" / "FC2_L.mp4").unlink()
    return root


def test_udiva(udiva, tmp_path):
    talk = udiva / "train" / "recordings" / "talk_recordings_train"
    touch(talk / "002003" / "GB_T.mp4")  # the camera on both
    collection, entries, provenance = collected("udiva", udiva, tmp_path)
    assert len(entries) == 16
    one = entries["002003_FC2_L"]
    assert (one.person_id, one.session, one.task, one.split) == ("003", "002003", "lego", "train")
    assert entries["002003_FC1_T"].person_id == "002"
    assert entries["002003_FC1_T"].traits == (0.5, -1.25, 2, 0, -0.5)
    assert {entry.split for entry in entries.values()} == {"train", "validation", "test"}
    assert collection.missing == ("007011_FC2_L",)
    assert entries["007011_FC2_L"].path == udiva / "train/recordings/lego_recordings_train/007011/FC2_L.mp4"
    assert entries["020192_FC1_T"].traits == (-1,) * 5  # from the unmasked table
    assert all(map(math.isnan, entries["020192_FC2_T"].traits))
    assert all(map(math.isnan, entries["100101_FC1_T"].traits))
    assert provenance["left_out"].keys() == {"train/recordings/talk_recordings_train/002003/GB_T.mp4"}
    assert any("opposite" in note for note in provenance["notes"])
    assert any("6 clips have no label, those of 192, 100, 101" in note for note in provenance["notes"])
    assert not any("disjoint" in note for note in provenance["notes"])


def test_udiva_with_ids_that_a_spreadsheet_has_shortened(udiva, tmp_path):
    table = udiva / "metadata_train" / "sessions_train.csv"
    table.write_text("ID,PART.1,PART.2,KNOWN\n2003,2.0,3.0,1\n")
    parts = udiva / "metadata_train" / "parts_train.csv"
    parts.write_text(parts.read_text().replace("\n002,", "\n2,").replace("\n003,", "\n3,"))
    (udiva / "metadata_val" / "parts_val_unmasked.csv").unlink()
    collection, entries, _ = collected("udiva", udiva, tmp_path)
    assert (entries["002003_FC2_T"].person_id, entries["002003_FC2_T"].traits) == ("003", (1,) * 5)
    assert entries["007011_FC2_T"].person_id == "011"  # no longer in the table, told by the session's number
    text = "\n".join(collection.notes)
    assert "take their people from their number: 007011" in text
    assert "parts_val.csv holds no traits" in text
    table.write_text("ID,PART.1,KNOWN\n002003,002,1\n")
    with pytest.raises(InputError, match=r"sessions_train\.csv has no column PART\.2"):
        collected("udiva", udiva, tmp_path)
    shutil.rmtree(udiva / "train")
    with pytest.raises(InputError):
        collected("udiva", udiva / "metadata_val", tmp_path)


def test_voxceleb_with_and_without_its_upper_folders(tmp_path):
    names = (
        "id00012/21Uxsk56VDQ/00001.mp4",
        "id00012/21Uxsk56VDQ/00002.mp4",
        "id00012/_raOc3-IRsw/00001.mp4",
        "id00015/-0/1.mp4",
    )
    for name in names:
        touch(tmp_path / "plain" / name)
        touch(tmp_path / "full" / ("dev/mp4" if "id00012" in name else "test/mp4") / name)
    touch(tmp_path / "plain" / "stray.mp4")
    touch(tmp_path / "plain" / "id00012" / "21Uxsk56VDQ" / "00001.txt")
    collection, entries, provenance = collected("voxceleb", tmp_path / "plain", tmp_path)
    assert {(e.clip_id, e.person_id, e.session, e.split) for e in entries.values()} == {
        (name.removesuffix(".mp4"), name.split("/")[0], name.split("/")[1], "") for name in names
    }
    assert provenance["left_out"].keys() == {"stray.mp4"}
    assert collection.trait_names == ()
    _, entries, _ = collected("voxceleb", tmp_path / "full", tmp_path)
    assert {(e.person_id, e.session, e.split) for e in entries.values()} == {
        ("id00012", "21Uxsk56VDQ", "train"),
        ("id00012", "_raOc3-IRsw", "train"),
        ("id00015", "-0", "test"),
    }
    _, entries, _ = collected("voxceleb", tmp_path / "full", tmp_path, split_protocol="person_disjoint")
    assert {entry.split for entry in entries.values()} == {""}


def test_a_plain_folder_by_place(tmp_path):
    root = tmp_path / "my videos"
    for name in ("anna/1.mp4", "anna/1.mov", "anna/ß and ü/2.MKV", "007/x.y.avi", "ben.webm", "notes.txt", ".trash/old.mp4"):
        touch(root / name)
    _, entries, provenance = collected("folder", root, tmp_path)
    assert {e.clip_id: (e.person_id, e.session) for e in entries.values()} == {
        "007/x.y": ("007", ""),
        "anna/1.mov": ("anna", ""),
        "anna/1.mp4": ("anna", ""),
        "anna/ß and ü/2": ("anna", "ß and ü"),
        "ben": ("ben", ""),
    }
    assert any("several folders deep" in note for note in provenance["notes"])
    (root / "anna" / "none").mkdir()
    with pytest.raises(InputError, match="no video"):
        collected("folder", root / "anna" / "none", tmp_path)


def test_a_plain_folder_by_pattern(tmp_path):
    for name in ("S01_talk_003.mp4", "S01_watch_004.mp4", "S02_talk_003.mp4", "warm-up.mp4", "deep/S03_talk_001.mp4"):
        touch(tmp_path / "d" / name)
    pattern = r"S(?P<person>\d+)_(?P<task>[a-z]+)_(?P<session>\d+)"
    _, entries, provenance = collected("folder", tmp_path / "d", tmp_path, person_pattern=pattern)
    assert {(e.person_id, e.task, e.session) for e in entries.values()} == {
        ("01", "talk", "003"),
        ("01", "watch", "004"),
        ("02", "talk", "003"),
        ("03", "talk", "001"),
    }
    assert provenance["left_out"].keys() == {"warm-up.mp4"}
    with_clip = pattern.replace("(?P<session>", "(?P<clip>")
    for bad, words in (
        ("(?P<person>", "is not a regular expression"),
        (r"(\w+)_", "must have a group named person"),
        (r"(?P<person>\w+)_(?P<age>\d+)", "only session, task and clip"),
        (r"(?P<person>X\d+)", "fits none of 5 clips, for example S01_talk_003.mp4"),
        (with_clip, "would both be the clip '003'"),
    ):
        with pytest.raises(InputError) as error:
            collected("folder", tmp_path / "d", tmp_path, person_pattern=bad)
        assert words in str(error.value)


def test_a_listing_survives_what_folders_hold(tmp_path, monkeypatch):
    root = tmp_path / "d"
    touch(root / "z" / "real.mp4")
    touch(tmp_path / "outside" / "linked.mp4")
    (root / "a").symlink_to(root / "z")  # is listed under its own name
    (root / "loop").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "self.mp4").symlink_to(root / "self.mp4")
    (root / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (root / "elsewhere").symlink_to(tmp_path / "outside")
    (root / "folder.mp4").mkdir()
    os.mkfifo(root / "pipe.mp4")
    touch(root / "locked" / "secret.mp4")
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    scandir = os.scandir

    def locked(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    listing = list_files(root, VIDEOS)
    assert [str(file.relative_to(root)) for file in listing.files] == [
        "elsewhere/linked.mp4",
        "gone.mp4",
        "self.mp4",
        "z/real.mp4",
    ]
    text = "\n".join(listing.notes)
    assert "locked cannot be read (Permission denied)" in text
    assert "1 files or folders" in text
    assert "pipe.mp4 under" in text


def test_prepare_from_a_folder_of_videos(tmp_path, root, capsys):
    source = tmp_path / "videos"
    for name in ("anna/1", "anna/2", "ben/1", "cleo/1"):
        write_video(source / f"{name}.avi", drifting_blob(12, hash_seed(name)))
    (source / "ben" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    touch(source / "ben" / "text.mp4")
    arguments = [f"--config={root}/configs/videos.py", "--config.data.dataset=folder", f"--workdir={tmp_path}/w"]
    assert main(["prepare", *arguments]) == 2
    assert "give --config.data.source=DIR" in capsys.readouterr().err
    assert main(["prepare", *arguments, f"--config.data.source={source}", "--config.data.workers=1"]) == 2
    assert "Not one of 6 clips can be used" in capsys.readouterr().err  # blobs are no faces
    table = pd.read_parquet(tmp_path / "w" / "quality.parquet").set_index("clip_id")
    assert set(table.index) == {"anna/1", "anna/2", "ben/1", "ben/gone", "ben/text", "cleo/1"}
    assert "no file or folder" in table.reason["ben/gone"]
    assert "opened as a video" in table.reason["ben/text"]
    assert main(["prepare", *arguments, "--config.data.dataset=udivva", f"--config.data.source={source}"]) == 2
    assert "the nearest to it is 'udiva'" in capsys.readouterr().err


def test_prepare_finds_the_faces_in_a_copy_of_udiva(tmp_path, root, shared):
    clips = pd.read_csv(shared / "data" / "clips.csv").drop_duplicates("person_id")
    source = tmp_path / "udiva"
    talk = source / "train" / "recordings" / "talk_recordings_train" / "002003"
    talk.mkdir(parents=True)
    for camera, path in zip((1, 2), clips.path):
        frames = [image for _, (_, _, image) in zip(range(20), Video(shared / "data" / path))]
        writer = cv2.VideoWriter(str(talk / f"FC{camera}_T.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, frames[0].shape[1::-1])
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
    shutil.copytree(talk, talk.with_name("004005"))
    (source / "sessions_train.csv").write_text("ID,PART.1,PART.2\n002003,002,003\n004005,004,005\n")
    arguments = [f"--config={root}/configs/udiva.py", f"--config.data.source={source}", f"--workdir={tmp_path}/w"]
    assert main(["prepare", *arguments, "--config.data.image_size=32", "--config.data.workers=1"]) == 0
    assert {clip.person_id for clip in open_face_clips(tmp_path / "w" / "data").clips} == {"002", "003", "004", "005"}


def test_every_source_has_its_config(root):
    for name in SOURCES:
        text = (root / "configs" / f"{name}.py").read_text()
        assert f"--config=configs/{name}.py" in text
        assert f'config.data.dataset = "{name}"' in text

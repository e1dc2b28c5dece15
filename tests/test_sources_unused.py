"""A folder of videos: every file is a clip, has a row with the reason why it is none, or is in a sentence."""

import shutil

import pandas as pd
import pytest
from conftest import drifting_blob, write_video
from test_sources import collected, touch

from data_pipelines.errors import InputError
from data_pipelines.sources import SourceSettings, make_manifest
from data_pipelines.sources.listing import list_files
from data_pipelines.suffixes import VIDEOS
from facedyn.main import main

SIDECARS = ("a.csv", "b.TXT", "notes.json", "a.srt", "sound.wav", "README", "portrait.jpg", "deep/er/c.csv")
HIDDEN = (".DS_Store", "Thumbs.db", "._a.mp4", ".trash/old.mp4", "__MACOSX/a.mp4")
STRANGE = ("film.bin", "recording", "clip.mp4.download")


def test_nothing_is_passed_over_without_a_word(tmp_path):
    root = tmp_path / "videos"
    good = [f"p{i}/clip{suffix.upper() if i % 2 else suffix}" for i, suffix in enumerate(VIDEOS)]
    for name in (*good, *SIDECARS, *HIDDEN, *STRANGE):
        touch(root / name)
    for i in range(12):
        touch(root / "frames" / f"{i:03d}.png")
    collection, entries, provenance = collected("folder", root, tmp_path)
    assert len(entries) == len(VIDEOS)
    assert collection.left_out.keys() == {*STRANGE, "frames"}
    assert "suffix .bin" in collection.left_out["film.bin"]
    assert "no suffix" in collection.left_out["recording"]
    assert "folder of 12 images" in collection.left_out["frames"]
    (hidden,) = [note for note in provenance["notes"] if note.startswith("Hidden")]
    assert "5 (" in hidden
    assert all(name.split("/")[0] in hidden for name in HIDDEN)
    (others,) = [note for note in provenance["notes"] if note.startswith("Files other than videos")]
    assert "2 of .csv (a.csv, deep/er/c.csv)" in others
    assert all(name in others for name in SIDECARS)


def test_a_folder_without_a_video_says_what_lies_there(tmp_path):
    for i in range(12):
        touch(tmp_path / "d" / "anna" / f"{i:03d}.png")
    with pytest.raises(InputError, match=r"no video .*anna: it is a folder of 12 images: name it as a clip in a manifest"):
        make_manifest("folder", SourceSettings(tmp_path / "d"), tmp_path / "m.csv")
    touch(tmp_path / "e" / "a.wav")
    with pytest.raises(InputError, match=r"1 of \.wav"):
        make_manifest("folder", SourceSettings(tmp_path / "e"), tmp_path / "m.csv")


def test_a_folder_that_names_nobody_gets_a_row(tmp_path):
    for name in ("unknown/1.mp4", "unknown/2.mp4", "anna/1.mp4"):
        touch(tmp_path / "d" / name)
    collection, entries, _ = collected("folder", tmp_path / "d", tmp_path)
    assert set(entries) == {"anna/1"}
    assert set(collection.left_out) == {"unknown/1.mp4", "unknown/2.mp4"}
    assert "'unknown', a word for a missing value" in collection.left_out["unknown/1.mp4"]
    shutil.rmtree(tmp_path / "d" / "anna")
    with pytest.raises(InputError, match="No file under"):
        collected("folder", tmp_path / "d", tmp_path)


def test_names_of_250_bytes_in_every_alphabet(tmp_path, root):
    names = ["a" * 246, "é" * 123, "面" * 82, "x" * 120 + "/" + "y" * 120 + "/" + "z" * 246]
    for name in names:
        write_video(tmp_path / "d" / f"{name}.avi", drifting_blob(12, 1))
    arguments = [f"--config={root}/configs/videos.py", "--config.data.dataset=folder", f"--config.data.source={tmp_path}/d"]
    assert main(["prepare", *arguments, f"--workdir={tmp_path}/w", "--config.data.workers=1"]) == 2  # blobs are no faces
    table = pd.read_parquet(tmp_path / "w" / "quality.parquet")
    assert sorted(table.clip_id) == sorted(names)
    assert table.reason.str.contains("No face").all()


def test_suffixes_are_known_in_capital_letters(tmp_path):
    for suffix in VIDEOS:
        touch(tmp_path / f"a{suffix.upper()}")
    assert len(list_files(tmp_path, VIDEOS).files) == len(VIDEOS)

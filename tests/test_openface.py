"""OpenFace's output: images and rows joined by frame number, failures kept out, from the folder to the dataset."""

import dataclasses
import json

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import drifting_blob, hash_seed

from data_pipelines.dataset.clip_keys import clip_key
from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.faces import clip_faces
from data_pipelines.faces.clip_faces import PrepareSettings, process_clip
from data_pipelines.faces.images import decode_image
from data_pipelines.faces.openface import OpenFaceVideo, find_outputs
from data_pipelines.manifest import ClipEntry
from facedyn.main import main

SETTINGS = PrepareSettings(image_size=16, min_frames=5)


def write_output(folder, name, frames=30, *, space=" ", face_id=True, fps=30.0, face=0, names="frame_det_{:02d}_{:06d}.bmp"):
    """What FeatureExtraction writes for a video of so many frames: numbers from 1, further columns behind the five."""
    images = folder / f"{name}_aligned"
    images.mkdir(parents=True, exist_ok=True)
    columns = ["frame", *(["face_id"] if face_id else []), "timestamp", "confidence", "success", "gaze_0_x", "AU01_r"]
    lines = [f",{space}".join(columns)]
    for i, frame in enumerate(drifting_blob(frames, hash_seed(name + str(face)))):
        cv2.imwrite(str(images / names.format(face, i + 1)), frame[..., ::-1])
        cells = [str(i + 1), *([str(face)] if face_id else []), f"{i / fps:.3f}", "0.98", "1", "-0.1", "0.00"]
        lines.append(f",{space}".join(cells))
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return images


def change_rows(table, change):
    """`change` is handed {column: cell} of each row and returns it, or None to drop it."""
    header, *lines = table.read_text().splitlines()
    names = [name.strip() for name in header.split(",")]
    rows = [change(dict(zip(names, (cell.strip() for cell in line.split(","))))) for line in lines]
    table.write_text("\n".join([header, *(", ".join(row.values()) for row in rows if row)]) + "\n")


def process(path, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    kept = []
    faces = process_clip(ClipEntry("c", "p", path), settings, kept.append)
    return faces, [decode_image(image, 3) for image in kept]


@pytest.mark.parametrize("space", ["", " "])
@pytest.mark.parametrize("face_id", [True, False])
@pytest.mark.parametrize("which", ["aligned", "parent"])
def test_frames_and_rows_meet_by_number(tmp_path, space, face_id, which):
    images = write_output(tmp_path, "anna", space=space, face_id=face_id)
    path = images if which == "aligned" else tmp_path

    def change(row):
        number = int(row["frame"])
        if number in (4, 5):
            row["success"] = "0"
        if number == 9:
            row["confidence"] = "0.55"
        return None if number == 12 else row

    change_rows(tmp_path / "anna.csv", change)
    for number in (4, 15):  # 4 failed and is black, as OpenFace writes it; 15 is black with a success
        cv2.imwrite(str(images / f"frame_det_00_{number:06d}.bmp"), np.zeros((16, 16, 3), np.uint8))
    (images / "frame_det_00_000020.bmp").unlink()
    (images / "frame_det_00_000021.bmp").write_bytes(b"half an im")
    faces, kept = process(path)
    gone = {4, 5, 9, 12, 15, 20, 21}
    numbers = [n - 1 for n in range(1, 31) if n not in gone]
    assert faces.frame_indices.tolist() == numbers
    np.testing.assert_array_equal(np.stack(kept), drifting_blob(30, hash_seed("anna0"))[numbers])
    row = faces.row
    assert (row.verdict, row.n_decoded, row.n_found, row.n_kept, row.n_gaps) == (
        "ok",
        30,
        23,
        23,
        5,
    )  # 30: a row without an image is a frame, too
    assert row.fps == pytest.approx(30, abs=0.05)
    assert row.mean_confidence == pytest.approx(0.98)
    for words in (
        "6 of OpenFace's 29 images were left out",
        "1 black",
        "1 not in the CSV",
        "2 without success",
        "1 unreadable",
    ):
        assert words in row.reason, row.reason
    assert "1 of a confidence below 0.7" in row.reason
    assert "1 good rows of OpenFace's CSV have no image" in row.reason
    assert 8 in process(path, min_confidence=0.5)[0].frame_indices
    assert len(process(path, min_confidence=0.99)[0].frame_indices) == 0


def test_it_is_aligned_whatever_the_manifest_says_and_no_detector_is_made(tmp_path, monkeypatch):
    images = write_output(tmp_path, "anna")
    monkeypatch.setattr(clip_faces, "make_detector", lambda *a: pytest.fail("no face need be looked for"))
    for aligned in (True, False):
        entry = ClipEntry("c", "p", images, aligned=aligned)
        assert process_clip(entry, SETTINGS, lambda image: None).row.n_kept == 30


def test_of_several_faces_the_one_with_most_good_frames(tmp_path):
    images = write_output(tmp_path, "two", 20)
    head, *first = (tmp_path / "two.csv").read_text().splitlines()
    write_output(tmp_path, "two", 25, face=1)
    second = (tmp_path / "two.csv").read_text().splitlines()[1:]
    (tmp_path / "two.csv").write_text("\n".join([head, *first, *second]))
    faces, kept = process(images)
    assert faces.row.n_kept == 25
    np.testing.assert_array_equal(kept[24], drifting_blob(25, hash_seed("two1"))[24])
    assert "OpenFace saw 2 faces, number 1 with the most good frames was taken" in faces.row.reason
    change_rows(
        tmp_path / "two.csv", lambda row: row | ({"success": "0"} if row["face_id"] == "1" and int(row["frame"]) > 9 else {})
    )
    faces, kept = process(images)
    np.testing.assert_array_equal(np.stack(kept), drifting_blob(20, hash_seed("two0")))


def test_the_rate_and_the_times_are_the_tables(tmp_path):
    images = write_output(tmp_path, "anna", 60, fps=24.0)
    assert OpenFaceVideo(images).fps == pytest.approx(24, abs=0.01)
    assert OpenFaceVideo(images, source_fps=50.0).fps == 50
    at_twelve = list(OpenFaceVideo(images, fps=12.0))
    assert len(at_twelve) == 30
    np.testing.assert_array_equal(at_twelve[10][2], drifting_blob(60, hash_seed("anna0"))[20])
    change_rows(tmp_path / "anna.csv", lambda row: row | {"timestamp": "0"})  # as for single images
    video = OpenFaceVideo(images)
    assert [index for index, _, _ in video] == list(range(60))
    assert video.fps == 25
    assert "no timestamps" in video.note


def test_old_names_other_formats_and_no_table(tmp_path):
    old = write_output(tmp_path / "old", "anna", names="frame_det_{1:06d}.png", face_id=False)
    assert process(old)[0].row.n_kept == 30
    (tmp_path / "old" / "anna.csv").unlink()
    faces, _ = process(tmp_path / "old")
    assert faces.row.n_kept == 30
    assert "CSV is missing" in faces.row.reason


def test_what_cannot_be_used_gets_its_row(tmp_path):
    images = write_output(tmp_path / "a", "anna")
    table = tmp_path / "a" / "anna.csv"
    good = table.read_text()
    change_rows(table, lambda row: row | {"success": "0"})
    assert "Not one frame of the OpenFace output" in process(images)[0].row.reason
    table.write_text("a,b\n1,2\n")
    assert "it is not a CSV of OpenFace" in process(images)[0].row.reason
    table.write_text(good[: len(good) // 2])
    faces, _ = process(images)
    assert faces.row.verdict == "ok"
    assert "not in the CSV" in faces.row.reason
    write_output(tmp_path / "a", "ben")
    assert "2 OpenFace outputs (anna_aligned, ben_aligned)" in process(tmp_path / "a")[0].row.reason
    for file in images.iterdir():
        file.unlink()
    assert "no images frame_det_FF_NNNNNN" in process(images)[0].row.reason
    assert find_outputs(tmp_path) == []


def test_a_changed_table_or_threshold_makes_the_clip_anew(tmp_path):
    entry = ClipEntry("c", "p", write_output(tmp_path, "anna"))
    key = clip_key(entry, SETTINGS)
    assert clip_key(entry, dataclasses.replace(SETTINGS, detect_every=9)) == key
    assert clip_key(entry, dataclasses.replace(SETTINGS, min_confidence=0.5)) != key
    change_rows(tmp_path / "anna.csv", lambda row: row | {"success": "0"})
    assert clip_key(entry, SETTINGS) != key


def test_a_tree_of_outputs_from_the_command_line(tmp_path, root, hear):
    source = tmp_path / "openface out"
    for person, name in (("007", "monday.1"), ("007", "monday.2"), ("08", "tuesday.1"), ("08", "friday.2")):
        write_output(source / person, name)
    write_output(source, "carl_3")
    (source / "007" / "lost.csv").write_text((source / "carl_3.csv").read_text())
    (source / "notes.csv").write_text("who,what\na,b\n")
    arguments = [f"--config={root}/configs/openface.py", f"--config.data.source={source}", f"--workdir={tmp_path}/w"]
    small = ["--config.data.image_size=16", "--config.data.workers=1", "--config.rank_loss.half_length=2"]
    assert main(["prepare", *arguments, *small]) == 0
    output = hear()
    assert "1 CSV files have no folder of aligned faces (option -simalign): 007/lost." in output
    data = open_face_clips(tmp_path / "w" / "data")
    people = {clip.clip_id: clip.person_id for clip in data.clips}
    assert people == {
        "007/monday.1": "007",
        "007/monday.2": "007",
        "08/tuesday.1": "08",
        "08/friday.2": "08",
        "carl_3": "carl_3",
    }
    table = pd.read_parquet(tmp_path / "w" / "quality.parquet").set_index("clip_id")
    assert table.verdict["007/lost"] == "left_out"
    assert "no file or folder" in table.reason["007/lost"]
    provenance = json.loads((tmp_path / "w" / "manifest.json").read_text())
    assert provenance["missing"] == ["007/lost"]
    assert (provenance["dataset"], provenance["people"]) == ("openface", 3)
    pattern = r"--config.data.person_pattern=(?P<person>\w+)\.(?P<session>\d)\.csv"
    assert main(["prepare", *arguments, *small, pattern]) == 0
    clips = open_face_clips(tmp_path / "w" / "data").clips
    found = {(clip.person_id, clip.session) for clip in clips}
    assert found == {("monday", "1"), ("monday", "2"), ("tuesday", "1"), ("friday", "2")}
    with pytest.raises(InputError):
        OpenFaceVideo(source / "007")

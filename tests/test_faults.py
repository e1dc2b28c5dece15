"""Files of the kinds that people in this field reported trouble with, each with the right result (EXPECTED.csv beside them)."""

import csv
import dataclasses

import cv2
import numpy as np
import pandas as pd
import pytest

from data_pipelines.dataset.windows import centre_positions
from data_pipelines.doctor.check_quality import quality_defects
from data_pipelines.faces.clip_faces import PrepareSettings, process_clip
from data_pipelines.faces.images import decode_image
from data_pipelines.faces.quality import quality_table
from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry
from data_pipelines.prepare import prepare_face_clips

TESTED = {
    "interlaced.mpg": "test_interlaced_pictures_are_the_clips_own",
    "interlaced.mp4": "test_interlaced_pictures_are_the_clips_own",
    "progressive_then_interlaced.ts": "test_a_file_that_becomes_interlaced",
    "face_last_frame.mp4": "test_a_clip_of_one_face_ends_nothing",
    "one_photo": "test_a_clip_of_one_face_ends_nothing",
    "tilt20.mp4": "test_a_tilted_head_is_level_in_the_crops",
    "speaker_bystander.mp4": "test_the_speaker_is_kept_and_nobody_else",
    "interview_cuts.mp4": "test_one_person_of_an_interview",
    "dyad.mp4": "test_one_person_of_several_at_once",
    "zoom2x2.mp4": "test_one_person_of_several_at_once",
    "sar_2_1.mp4": "test_pixels_that_are_not_square",
    "vfr_stall2s.mp4": "test_a_hole_in_time",
    "browser_repeated_stamps.webm": "test_repeated_times",
    "frozen3s.mp4": "test_a_frozen_picture",
    "webrtc_turned.webm": "test_a_change_of_size",
    "turned90_nometa.mp4": "test_a_video_on_its_side",
    "hevc10_hlg.mov": "test_hlg_is_as_bright_as_sdr",
    "av1.mp4": "test_av1",
    "openface_multi.csv": "test_openface_with_several_faces",
}


@pytest.fixture(scope="module")
def faults(shared):
    folder = shared / "data" / "faults"
    if not (folder / "EXPECTED.csv").is_file():
        pytest.skip("needs the faulty files in the folder `shared` beside the repository")
    return folder


@pytest.fixture(scope="module")
def model(shared):
    return str(shared / "models" / "yunet.onnx")


@pytest.fixture(scope="module")
def prepared(faults, model):
    """(ClipFaces, kept crops uint8 [T, 112, 112, 3]) of a file, by name, detector and settings; each done once."""
    done = {}

    def prepare(name, detector="yunet", **changes):
        key = name, detector, *sorted(changes.items())
        if key not in done:
            images, settings = [], PrepareSettings(detector=detector, yunet_model=model, **changes)
            faces = process_clip(ClipEntry("a", "p", faults / name), settings, images.append)
            assert faces.traceback == "", faces.traceback
            done[key] = faces, np.array([decode_image(images[i], 3) for i in faces.positions])
        return done[key]

    return prepare


def rolls_and_squeezes(crops, model):
    """Of the faces in crops: how far the eyes' line leans, degrees [T], and the face's height over the eyes' distance [T]."""
    network, found = cv2.FaceDetectorYN.create(model, "", (320, 320), 0.5), []
    for crop in crops:
        large = cv2.copyMakeBorder(cv2.resize(crop[..., ::-1], None, fx=3, fy=3), 48, 48, 48, 48, cv2.BORDER_REPLICATE)
        network.setInputSize(large.shape[1::-1])
        seen = [network.detect(image)[1] for image in (large, large[:, ::-1].copy())]  # its errors are to one side
        if any(rows is None for rows in seen):
            found.append((np.nan, np.nan))
            continue
        straight, mirrored = (rows[np.argmax(rows[:, 2]), 4:14].reshape(5, 2) for rows in seen)
        mirrored = np.column_stack([large.shape[1] - 1 - mirrored[:, 0], mirrored[:, 1]])[[1, 0, 2, 4, 3]]
        points = (straight + mirrored) / 2
        across, down = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
        found.append((np.degrees(np.arctan2(across[1], across[0])), np.hypot(*down) / np.hypot(*across)))
    return np.array(found).T


def looks(crop):
    """A small grey vector of a crop, without its mean, of length 1."""
    small = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (28, 28), interpolation=cv2.INTER_AREA).astype(float)
    small -= small.mean()
    return small / np.linalg.norm(small)


def people_in(crops):
    """1 when all crops look like one person's, aligned and in one light: the least likeness of any to the first."""
    return min(float(looks(crops[0]).ravel() @ looks(crop).ravel()) for crop in crops)


def kinds(faces, **changes):
    row = dataclasses.replace(faces.row, clip_id="seen", **changes)
    return {defect.kind for defect in quality_defects(quality_table([row]), image_size=112)}


def test_every_row_has_its_test(faults):
    with open(faults / "EXPECTED.csv", newline="", encoding="utf-8") as file:
        assert {row["file"] for row in csv.DictReader(file)} == set(TESTED)
    assert set(TESTED.values()) <= set(globals())


@pytest.mark.parametrize("name", ["interlaced.mpg", "interlaced.mp4"])
def test_interlaced_pictures_are_the_clips_own(prepared, name):
    prepared("tilt20.mp4")  # another clip, whose pictures may lie in memory
    faces, crops = prepared(name)
    assert (faces.row.verdict, faces.row.n_decoded) == ("ok", 100)
    assert faces.row.n_kept >= 98
    assert crops.mean((1, 2, 3)).min() > 0.7 * crops.mean()
    colours = np.array([crop[30:90, 30:82].mean((0, 1)) for crop in crops])
    assert np.abs(colours - np.median(colours, axis=0)).max() < 60  # one face in one light, wherever it is
    assert (np.abs(np.diff(crops.astype(int), axis=0)).max((1, 2, 3)) > 0).all()


def test_a_file_that_becomes_interlaced(prepared):
    faces, crops = prepared("progressive_then_interlaced.ts")
    assert faces.row.n_kept >= 170
    assert (np.abs(np.diff(crops.astype(int), axis=0)).max((1, 2, 3)) > 0).all()


def test_a_clip_of_one_face_ends_nothing(faults, model, tmp_path):
    entries = [ClipEntry(name, name, faults / name) for name in ("face_last_frame.mp4", "one_photo", "tilt20.mp4")]
    settings = PrepareSettings(yunet_model=model, workers=1)
    summary = prepare_face_clips(entries, tmp_path / "data", settings, tmp_path / "quality.parquet", [].append)
    assert (summary["clips_used"], summary["clips_left_out"]) == (1, 2)
    table = pd.read_parquet(tmp_path / "quality.parquet").set_index("clip_id")
    for name, n in (("face_last_frame.mp4", 61), ("one_photo", 1)):
        row = table.loc[name]
        assert (row.verdict, row.n_decoded) == ("left_out", n)
        assert "1 frame with a face stands alone, a window needs 9" in row.reason


@pytest.mark.parametrize("detector", ["yunet", "haar"])
def test_a_tilted_head_is_level_in_the_crops(prepared, model, detector):
    faces, crops = prepared("tilt20.mp4", detector)
    assert faces.row.n_kept >= 118
    rolls, _ = rolls_and_squeezes(crops[::2], model)
    rolls = np.convolve(rolls, np.full(5, 1 / 5), "valid")  # the landmarks of single frames err by some degrees themselves
    assert np.mean(np.abs(rolls) <= 3) >= 0.95
    assert abs(np.mean(rolls)) < 1.5


def test_the_speaker_is_kept_and_nobody_else(prepared):
    faces, crops = prepared("speaker_bystander.mp4")
    row = faces.row
    assert (row.verdict, row.n_people) == ("ok", 2)
    assert 290 <= row.n_kept <= 310  # of 420, hidden 0.7 s of every 2.5
    assert row.n_gaps == 5
    assert people_in(crops) > 0.4
    assert row.face_size > 200  # the bystander's is half as wide
    assert 0.2 < row.other_share < 0.4
    assert "2 people were seen" in row.reason
    assert f"{420 - row.n_found} of 420 frames without this person's face were left out" in row.reason
    assert row.n_two_faces > 250


def test_one_person_of_an_interview(prepared):
    faces, crops = prepared("interview_cuts.mp4")
    row = faces.row
    assert (row.verdict, row.n_people) == ("ok", 2)
    assert faces.frame_indices[0] == 0
    borders = np.flatnonzero(np.diff(faces.frame_indices) > 1)
    for cut in (120, 210, 330):  # nothing is kept on both sides of a cut without a gap
        assert any(faces.frame_indices[i] < cut <= faces.frame_indices[i + 1] for i in borders) or (
            faces.frame_indices.max() < cut + 3
        )
    assert row.n_kept >= 235
    assert people_in(crops) > 0.4
    assert "2 people were seen" in row.reason
    assert "show another person" in row.reason
    assert row.other_share == pytest.approx(0.45, abs=0.1)


@pytest.mark.parametrize(("name", "n", "people"), [("dyad.mp4", 180, 2), ("zoom2x2.mp4", 150, 4)])
def test_one_person_of_several_at_once(prepared, name, n, people):
    faces, crops = prepared(name)
    assert (faces.row.verdict, faces.row.n_kept, faces.row.n_people) == ("ok", n, people)
    assert people_in(crops) > 0.4
    assert faces.row.n_two_faces >= 0.95 * n
    assert f"{people} people were seen" in faces.row.reason
    assert kinds(faces) & {"two_faces", "several_people"}


@pytest.mark.parametrize("detector", ["yunet", "haar"])
def test_pixels_that_are_not_square(prepared, model, detector):
    faces, crops = prepared("sar_2_1.mp4", detector)
    assert faces.row.n_kept == 120
    _, squeezes = rolls_and_squeezes(crops[::10], model)
    assert 0.8 < np.median(squeezes) < 1.4


def test_a_hole_in_time(prepared):
    faces, _ = prepared("vfr_stall2s.mp4")
    assert (faces.row.n_gaps, faces.row.n_kept) == (1, 239)
    hole = int(np.flatnonzero(np.diff(faces.frame_indices) > 1)[0])
    for scale in (1, 2, 4):
        centres = centre_positions(faces.frame_indices, scale, 4)
        assert not np.any((centres - 4 * scale <= hole) & (centres + 4 * scale > hole))
    resampled, _ = prepared("vfr_stall2s.mp4", fps=25.0)
    seconds = 239 / 30
    assert resampled.row.n_gaps == 1
    assert resampled.row.n_kept == pytest.approx(25 * seconds, abs=3)


def test_repeated_times(faults, prepared):
    video = Video(faults / "browser_repeated_stamps.webm")
    times = [seconds for _, seconds, _ in video.passing_frames()]
    assert times[-1] - times[0] == pytest.approx(7.55, abs=0.05)
    faces, _ = prepared("browser_repeated_stamps.webm", fps=25.0)
    assert faces.row.n_frames == pytest.approx(189, rel=0.07)
    for fps in (0.0, 25.0):
        row = prepared("browser_repeated_stamps.webm", fps=fps)[0].row
        assert row.n_decoded == video.n_decoded == 185
        assert row.share_found == row.n_found / row.n_frames > 0.9


def test_a_frozen_picture(prepared):
    faces, crops = prepared("frozen3s.mp4")
    assert faces.row.n_decoded == 240
    assert faces.row.n_repeated == pytest.approx(90, abs=3)
    assert faces.row.share_found > 0.95  # of the others
    assert faces.row.n_gaps >= 1
    assert faces.row.n_kept == pytest.approx(150, abs=6)
    same = np.abs(np.diff(crops.astype(int), axis=0)).mean((1, 2, 3)) < 0.01
    assert not np.any(same & (np.diff(faces.frame_indices) == 1))
    assert kinds(faces) & {"frozen_frames"}


def test_a_change_of_size(faults, prepared):
    faces, crops = prepared("webrtc_turned.webm")
    assert faces.row.n_kept == faces.row.n_decoded == 165
    assert faces.row.n_gaps == 1
    sizes = [image.shape for _, _, image in Video(faults / "webrtc_turned.webm")]
    change = next(i for i in range(1, 165) if sizes[i] != sizes[i - 1])
    assert {size[:2] for size in sizes} == {(360, 640), (640, 360)}
    assert np.diff(faces.frame_indices)[change - 1] > 1


@pytest.mark.parametrize("detector", ["yunet", "haar"])
def test_a_video_on_its_side(prepared, model, detector):
    faces, crops = prepared("turned90_nometa.mp4", detector)
    if faces.row.verdict == "ok":
        rolls, _ = rolls_and_squeezes(crops[::5], model)
        assert np.abs(np.nanmedian(rolls)) < 10
        assert np.isfinite(rolls).mean() > 0.9
    else:
        assert "side" in faces.row.reason


def test_hlg_is_as_bright_as_sdr(prepared):
    faces, _ = prepared("hevc10_hlg.mov")
    assert faces.row.n_kept == 90
    assert abs(faces.row.brightness - 112) < 0.15 * 112 or "HLG" in faces.row.reason


def test_av1(prepared):
    assert prepared("av1.mp4")[0].row.n_kept == 90


def test_openface_with_several_faces(faults, prepared):
    faces, _ = prepared("openface_multi_aligned")
    assert faces.row.n_kept == 90 or (faces.row.share_found < 1 and "face" in faces.row.reason)

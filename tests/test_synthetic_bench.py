"""The synthetic bench on disk: the same frames from a seed, a manifest that says what there is, and what is refused."""

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.synthetic import bench, rendering
from data_pipelines.synthetic.appearance import draw_appearance
from data_pipelines.synthetic.bench import SyntheticSettings, oracle_features, write_bench
from data_pipelines.synthetic.dynamics import TRAITS

SMALL = SyntheticSettings(people=2, pretrain_people=3, clips_per_task=1, frames=(8, 24), size=16)


def quiet(*_):
    pass


def read_video(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        found, frame = capture.read()
        if not found:
            return np.array(frames)[..., ::-1]  # [T, H, W, 3] RGB
        frames.append(frame)


def read_rows(manifest):
    with open(manifest, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small_bench(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bench")
    return directory, write_bench(directory, SMALL, workers=1, note=quiet)


def test_manifest_says_what_there_is(small_bench):
    directory, manifest = small_bench
    rows = read_rows(manifest)
    assert list(rows[0]) == ["clip_id", "person_id", "path", "session", "task", "split", "fps", "aligned", *TRAITS]
    assert len({row["clip_id"] for row in rows}) == len(rows) == 5 * 2
    assert len({row["person_id"] for row in rows if row["split"] == "test"}) == 2
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    lengths = set()
    for row in rows:
        assert (row["fps"], row["aligned"]) == ("25", "true")
        assert all(bool(row[trait]) == (row["split"] == "test") for trait in TRAITS)
        frames = read_video(directory / row["path"])
        assert frames.shape[1:] == (16, 16, 3)
        assert len(frames) == len(bench.true_tracks(directory, row["clip_id"]))
        lengths.add(len(frames))
    assert len(lengths) > 3
    assert min(lengths) >= 8
    assert max(lengths) <= 24


def test_same_frames_whatever_the_number_of_workers(small_bench, tmp_path):
    directory, manifest = small_bench
    other = write_bench(tmp_path, SMALL, workers=2, note=quiet)
    assert manifest.read_bytes() == other.read_bytes()
    for row in read_rows(manifest):
        np.testing.assert_array_equal(read_video(directory / row["path"]), read_video(tmp_path / row["path"]))


def test_the_same_appearance_changes_pictures_and_nothing_else(small_bench, tmp_path):
    directory, manifest = small_bench
    settings = dataclasses.replace(SMALL, same_appearance=True)
    other = write_bench(tmp_path, settings, workers=1, note=quiet)
    assert manifest.read_bytes() == other.read_bytes()  # lengths, traits, splits
    assert (directory / "people.csv").read_bytes() == (tmp_path / "people.csv").read_bytes()
    first = draw_appearance(bench._stream(SMALL, bench.APPEARANCE, 0))
    for clip, row in zip(bench._clips(settings), read_rows(manifest), strict=True):
        tracks = bench.true_tracks(tmp_path, clip.clip_id)
        np.testing.assert_array_equal(tracks, bench.true_tracks(directory, clip.clip_id))
        frames = read_video(tmp_path / row["path"])
        clean = rendering.render(dataclasses.replace(first, sensor_noise=0.0), tracks, 16, np.random.default_rng(0))
        assert np.abs(frames - clean.astype(float)).mean() < first.sensor_noise  # the camera's noise is all that is added
        assert (clip.person == 0) == np.array_equal(frames, read_video(directory / row["path"]))


def test_a_bench_from_before_a_setting_existed_is_one_of_its_default(tmp_path):
    settings = dataclasses.replace(SMALL, people=1, pretrain_people=0, tasks=("talk",))
    write_bench(tmp_path, settings, workers=1, note=quiet)
    stamp = json.loads((tmp_path / "bench.json").read_text())
    del stamp["settings"]["same_appearance"]
    (tmp_path / "bench.json").write_text(json.dumps(stamp))
    write_bench(tmp_path, settings, workers=1, note=quiet)
    with pytest.raises(InputError, match="other settings"):
        write_bench(tmp_path, dataclasses.replace(settings, same_appearance=True), workers=1, note=quiet)


def test_video_is_lossless(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    bench._write_video(tmp_path / "noise.avi", frames)
    np.testing.assert_array_equal(read_video(tmp_path / "noise.avi"), frames)


def test_a_finished_bench_is_left_alone_and_an_interrupted_one_is_completed(tmp_path):
    settings = dataclasses.replace(SMALL, people=1, pretrain_people=0, tasks=("talk",), clips_per_task=2)
    manifest = write_bench(tmp_path, settings, workers=1, note=quiet)
    kept, lost = (tmp_path / row["path"] for row in read_rows(manifest))
    before, time_of_kept = read_video(lost), kept.stat().st_mtime_ns

    lost.unlink()
    write_bench(tmp_path, settings, workers=1, note=quiet)
    assert not lost.exists()  # the stamp says finished: nobody looks further

    stamp = json.loads((tmp_path / "bench.json").read_text())
    (tmp_path / "bench.json").write_text(json.dumps(stamp | {"finished": False}))
    write_bench(tmp_path, settings, workers=1, note=quiet)
    np.testing.assert_array_equal(read_video(lost), before)
    assert kept.stat().st_mtime_ns == time_of_kept


def test_a_folder_with_another_bench_is_refused(small_bench):
    directory, _ = small_bench
    with pytest.raises(InputError, match="other settings"):
        write_bench(directory, dataclasses.replace(SMALL, seed=1), note=quiet)


@pytest.mark.parametrize(
    "wrong",
    [
        {"people": 0, "pretrain_people": 0},
        {"tasks": ()},
        {"tasks": ("a/b",)},
        {"tasks": ("talk", "talk")},
        {"clips_per_task": 0},
        {"frames": (20, 10)},
        {"size": 7},
        {"trait_noise": -1.0},
    ],
)
def test_settings_that_make_no_bench_are_refused(wrong, tmp_path):
    with pytest.raises(InputError):
        write_bench(tmp_path, dataclasses.replace(SMALL, **wrong), note=quiet)


def test_oracle_features_are_of_the_scored_people(small_bench):
    directory, manifest = small_bench
    ids, features = bench.oracle_features(directory)
    assert ids == sorted({row["person_id"] for row in read_rows(manifest) if row["split"] == "test"})
    assert features.shape == (2, len(features[0]))
    assert np.isfinite(features).all()


@pytest.fixture(scope="module")
def warped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warped")
    settings = SyntheticSettings(world="warped", people=3, pretrain_people=2, clips_per_task=1, frames=(20, 24), size=32)
    write_bench(folder, settings, workers=1, note=lambda *_: None)
    return folder, settings


def test_the_second_world_is_a_bench_like_the_first(warped, tmp_path):
    folder, settings = warped
    write_bench(tmp_path, settings, workers=2, note=lambda *_: None)
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as one, np.load(tmp_path / path.relative_to(folder)) as other:
            np.testing.assert_array_equal(one["tracks"], other["tracks"])
    people, features = oracle_features(folder)
    assert people == ["p001", "p002", "p003"]
    assert features.shape == (3, 7 * 12 + 3)
    with pytest.raises(InputError, match=r"synthetic\.world is 'photographed'; it must be one of drawn, warped"):
        SyntheticSettings(world="photographed").check()
    with pytest.raises(InputError, match="other settings"):
        write_bench(folder, dataclasses.replace(settings, world="drawn"), workers=1, note=lambda *_: None)

"""Decoding: any file or folder, frame by frame, and what is amiss is said."""

import cv2
import numpy as np
import pytest
from broken_videos import write_mp4
from conftest import drifting_blob, write_video

from data_pipelines import prepare
from data_pipelines.dataset.clip_keys import clip_key
from data_pipelines.dataset.growth import Wanted
from data_pipelines.errors import InputError
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.faces.video import Video, natural_key, quiet, resampled
from data_pipelines.manifest import ClipEntry


def numbered(n, size=32):
    """Frames whose brightness is their number."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None] * 2, (n, size, size, 3)).copy()


def write_images(folder, names, frames):
    folder.mkdir()
    for name, frame in zip(names, frames):
        cv2.imwrite(str(folder / name), frame)


def test_a_lossless_file_comes_back_exactly_and_twice(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (20, 24, 32, 3), np.uint8)
    write_video(tmp_path / "a.avi", frames)
    video = Video(tmp_path / "a.avi")
    for _ in range(2):
        indices, seconds, images = zip(*video)
        assert indices == tuple(range(20))
        np.testing.assert_allclose(seconds, np.arange(20) / 25, atol=1e-6)
        np.testing.assert_array_equal(images, frames)  # RGB, not BGR
    assert (video.fps, video.note) == (25, "")


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mp4v"), (".avi", "MJPG")])
def test_compressed_files(tmp_path, suffix, codec):
    frames = numbered(30)
    writer = cv2.VideoWriter(str(tmp_path / f"a{suffix}"), cv2.VideoWriter_fourcc(*codec), 30, (32, 32))
    for frame in frames:
        writer.write(frame)
    writer.release()
    images = np.stack([image for _, _, image in Video(tmp_path / f"a{suffix}")])
    np.testing.assert_allclose(images.mean((1, 2, 3)), frames.mean((1, 2, 3)), atol=4)


def test_spare_cores_decode_and_change_no_frame(tmp_path, monkeypatch):
    write_mp4(tmp_path / "a.mp4", drifting_blob(60, 0, 64))
    one, four = ([(i, s, f.tobytes()) for i, s, f in Video(tmp_path / "a.mp4", threads=n)] for n in (1, 4))
    assert one == four

    threads = []
    monkeypatch.setattr(prepare, "available_cores", lambda: 8)
    monkeypatch.setattr(prepare.clip_files, "process_to_file", lambda entry, settings, *more: threads.append(settings))
    wanted = [Wanted(None, "train", "")]
    for workers in (0, 1):
        list(
            prepare._process(
                wanted, [tmp_path / "a"], [0], tmp_path / "d" / "n" / "v", None, PrepareSettings(workers=workers), None
            )
        )
    assert [settings.decoder_threads for settings in threads] == [8, 1]
    entry = ClipEntry("a", "p", tmp_path / "a.mp4")
    assert clip_key(entry, threads[0]) == clip_key(entry, threads[1])


def test_resampling_takes_the_nearest_frame_in_time():
    irregular = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.06, 100))
    frames = [(i, t, i) for i, t in enumerate(irregular)]
    for fps in (10, 25, 60):
        out = list(resampled(iter(frames), fps))
        assert [i for i, _, _ in out] == list(range(len(out)))
        times = irregular[0] + np.arange(len(out)) / fps
        assert times[-1] <= irregular[-1] + 0.5 / fps < times[-1] + 1 / fps + 1e-9
        nearest = np.abs(irregular[None] - times[:, None]).argmin(1)
        assert [k for _, _, k in out] == nearest.tolist()


def test_resampled_file(tmp_path):
    write_video(tmp_path / "a.avi", numbered(50))
    video = Video(tmp_path / "a.avi", fps=12.5)
    values = [int(image[0, 0, 0]) // 2 for _, _, image in video]
    assert video.fps == 12.5
    assert len(values) == 25
    np.testing.assert_allclose(np.diff(values), 2, atol=1)


def test_folder_in_natural_order_with_the_gaps_that_its_names_tell(tmp_path):
    frames = numbered(12)
    names = [f"frame_{i}.png" for i in (8, 9, 10, 11, 14, 15)]
    write_images(tmp_path / "a", names, frames[[8, 9, 10, 11, 14, 15] - np.int64(4)])
    out = list(Video(tmp_path / "a", source_fps=10))
    assert [i for i, _, _ in out] == [0, 1, 2, 3, 6, 7]
    assert [t for _, t, _ in out] == [0, 0.1, 0.2, 0.3, 0.6, 0.7]
    assert [int(image[0, 0, 0]) // 2 for _, _, image in out] == [4, 5, 6, 7, 10, 11]
    write_images(tmp_path / "b", [f"{i}.png" for i in range(0, 60, 5)], frames)  # every fifth frame is no gap
    assert [i for i, _, _ in Video(tmp_path / "b")] == list(range(12))
    assert sorted(["f10", "F2", "f1"], key=natural_key) == ["f1", "F2", "f10"]


def test_truncated_file_keeps_what_decodes(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
    write_video(tmp_path / "a.avi", frames)
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(data[: len(data) // 2])
    quiet()
    video = Video(tmp_path / "b.avi")
    n = len(list(video))
    assert 10 < n < 30
    assert f"only {n} can be decoded" in video.note


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    quiet()
    for name, words in (
        ("nowhere.mp4", "no file or folder"),
        ("text.mp4", "opened as a video"),
        ("empty.mp4", "is empty"),
        ("folder", "contains no images"),
    ):
        with pytest.raises(InputError, match=words) as error:
            Video(tmp_path / name)
        assert name in str(error.value)

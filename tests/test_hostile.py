"""Files that are broken in every way we know of: none stops `facedyn prepare`, each has its row with a reason."""

import os
import subprocess
import sys
import wave

import cv2
import numpy as np
import pandas as pd
import pytest
from broken_videos import empty_the_samples, lie_about_the_length, rotate, uneven_times, write_mp4
from conftest import drifting_blob

from data_pipelines.dataset import clip_keys
from data_pipelines.faces import clip_faces
from data_pipelines.faces.video import Video, quiet
from data_pipelines.manifest import ClipEntry

# What the table says of each; None: the clip can be used.
REASONS = {
    "good": None,
    "empty": "is empty",
    "text": "cannot be opened as a video",
    "truncated": "cannot be opened as a video",
    "audio": "cannot be opened as a video",
    "one_frame": "Only 1 frame with a face stands alone",
    "eight_hours": None,
    "no_samples": "",
    "rotated": None,
    "unicode": None,
    "loop": "There is no file or folder",
    "loop_inside": None,
    "differing_sizes": None,
    "zero_byte_images": "cannot be read",
    "no_images": "contains no images",
    "unreadable": "denied",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """(manifest of the whole set, its folder)."""
    folder = tmp_path_factory.mktemp("hostile set")
    blob = drifting_blob(30, 1, size=32)
    for name in ("good", "truncated", "eight_hours", "no_samples", "rotated"):
        write_mp4(folder / f"{name}.mp4", blob[:, :24] if name == "rotated" else blob)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video at all\n" * 100)
    data = (folder / "truncated.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(data[: len(data) // 2])
    with wave.open(str(folder / "audio.mp4"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    write_mp4(folder / "one_frame.mp4", blob[:1])
    lie_about_the_length(folder / "eight_hours.mp4", 8 * 3600)
    empty_the_samples(folder / "no_samples.mp4")
    rotate(folder / "rotated.mp4")
    write_mp4(folder / "unicode.mp4", blob)
    (folder / "unicode.mp4").rename(folder / "Größe 面 (1) é.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    for name in ("loop_inside", "differing_sizes", "zero_byte_images"):
        (folder / name).mkdir()
        for i in range(20):
            file = folder / name / f"{i:03d}.png"
            if name == "zero_byte_images":
                file.touch()
            else:
                cv2.imwrite(str(file), cv2.resize(blob[i], (32 + (i if name == "differing_sizes" else 0), 32)))
    (folder / "loop_inside" / "020.png").symlink_to(folder / "loop_inside" / "020.png")
    (folder / "loop_inside" / "again").symlink_to(folder / "loop_inside")
    (folder / "no_images").mkdir()
    (folder / "no_images" / "notes.txt").write_text("nothing")
    (folder / "unreadable.mp4").write_bytes((folder / "good.mp4").read_bytes())
    (folder / "unreadable.mp4").chmod(0)
    rows = ["clip_id,person_id,path,split,aligned"]
    for i, name in enumerate(REASONS):
        place = {"unicode": "Größe 面 (1) é.mp4"}.get(name, name if (folder / name).is_dir() else f"{name}.mp4")
        rows.append(f"{name},p{i % 3},{place},train,true")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


@pytest.mark.slow
def test_the_whole_set_through_the_command_line(hostile, root, tmp_path):
    command = [sys.executable, "-m", "facedyn.main", "prepare", f"--config={root}/configs/videos.py"]
    command += [f"--config.data.manifest={hostile}", "--config.data.image_size=16", f"--workdir={tmp_path}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    ours = ("prepare:", "Left out: clip ", "warning: ")
    assert all(line.startswith(ours) for line in done.stderr.splitlines()), done.stderr  # not a word from the decoders
    table = pd.read_parquet(tmp_path / "quality.parquet").set_index("clip_id")
    assert list(table.index) == list(REASONS)
    for name, words in REASONS.items():
        if name == "unreadable" and os.geteuid() == 0:
            continue  # nothing is unreadable to root; see the test below
        row = table.loc[name]
        assert row.verdict == ("ok" if words is None else "left_out"), (name, row.reason)
        if words is not None:
            assert words in row.reason, (name, row.reason)
            assert row.reason
            assert f"Left out: clip {name}: {row.reason}" in done.stderr
    assert table.n_kept["eight_hours"] == 30
    assert table.n_kept["loop_inside"] == 20


@pytest.mark.parametrize("folder", [False, True])
def test_what_may_not_be_read_gets_its_row(tmp_path, monkeypatch, folder):
    entry = ClipEntry("a", "p", tmp_path / "a", aligned=True)
    (tmp_path / "a").mkdir() if folder else write_mp4(tmp_path / "a.mp4", drifting_blob(3, 0))

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(entry.path))

    monkeypatch.setattr(type(tmp_path), "iterdir" if folder else "stat", denied)
    settings = clip_faces.PrepareSettings()
    assert clip_keys.clip_key(entry, settings)
    row = clip_faces.process_clip(entry, settings, [].append).row
    assert row.verdict == "left_out"
    assert "denied" in row.reason


def test_a_phones_video_is_turned_upright(tmp_path):
    lying = np.zeros((12, 32, 48, 3), np.uint8)
    lying[:, :, :24] = 200  # its left half is bright
    write_mp4(tmp_path / "a.mp4", lying)
    assert next(iter(Video(tmp_path / "a.mp4")))[2].shape == (32, 48, 3)
    rotate(tmp_path / "a.mp4")
    _, _, image = next(iter(Video(tmp_path / "a.mp4")))
    assert image.shape == (48, 32, 3)
    assert image[:20].mean() > 150  # turned clockwise, left is up
    assert image[28:].mean() < 50


def test_variable_frame_rate_is_resampled_by_the_files_own_times(tmp_path):
    n = 60
    frames = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None] * 4, (n, 32, 32, 3))
    write_mp4(tmp_path / "a.mp4", np.ascontiguousarray(frames), fps=25)
    uneven_times(tmp_path / "a.mp4", ((20, 1), (20, 3), (20, 2)))  # in units of 1/25 s
    quiet()
    times = np.cumsum(np.repeat([1, 3, 2], 20)) - np.repeat([1, 3, 2], 20)
    found = list(Video(tmp_path / "a.mp4"))
    np.testing.assert_allclose([t for _, t, _ in found], times / 25, atol=1e-3)
    resampled = [round(float(image.mean()) / 4) for _, _, image in Video(tmp_path / "a.mp4", fps=25)]
    nearest = np.abs(times[:, None] - np.arange(times[-1] + 1)).argmin(0)
    assert len(resampled) == times[-1] + 1
    np.testing.assert_allclose(resampled, nearest, atol=1)

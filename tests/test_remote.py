"""Videos in a bucket are fetched clip by clip; a memory of fsspec's stands in for the bucket."""

import sys
import tempfile

import numpy as np
import pandas as pd
import pytest
from conftest import drifting_blob, write_video
from fsspec.implementations.memory import MemoryFileSystem
from test_prepare import prepare

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.manifest import read_manifest
from facedyn.config import default_config
from facedyn.stages.runtime import common


class Bucket(MemoryFileSystem):
    """What s3fs is to a real bucket."""

    protocol = "s3"
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("s3://"))


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", Bucket)
    Bucket.store.clear()
    return Bucket()


def manifest(folder, rows):
    lines = ["clip_id,person_id,path,split,aligned", *(f"{clip},p_{clip},{path},train,true" for clip, path in rows)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return read_manifest(folder / "manifest.csv")


def test_remote_videos_become_the_same_clips_as_local_ones(tmp_path, bucket, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    write_video(tmp_path / "a b.avi", drifting_blob(20, 0))
    bucket.pipe_file("s3://films/day 1/a b.avi", (tmp_path / "a b.avi").read_bytes())
    bucket.pipe_file("s3://films/text.mp4", b"no video")
    entries = manifest(
        tmp_path,
        [
            ("far", "s3://films/day 1/a b.avi"),
            ("near", "a b.avi"),
            ("text", "s3://films/text.mp4"),
            ("absent", "s3://films/no.avi"),
        ],
    )
    assert prepare(entries, tmp_path)["clips_used"] == 2
    data = open_face_clips(tmp_path / "data")
    far, near = (next(i for i, clip in enumerate(data.clips) if clip.clip_id == name) for name in ("far", "near"))
    np.testing.assert_array_equal(data.frames(far), data.frames(near))
    table = pd.read_parquet(tmp_path / "quality.parquet").set_index("clip_id")
    assert table.path["far"] == "s3://films/day 1/a b.avi"
    assert "s3://films/text.mp4 cannot be opened as a video" in table.reason["text"]
    assert table.reason["absent"] == "There is no file s3://films/no.avi."
    assert not list(temporary.iterdir())  # which may be too small for a video
    # Another film under the same name is another clip; an unchanged one is not fetched again.
    notes = []
    prepare(entries, tmp_path, notes)
    assert "up to date" in notes[0]
    write_video(tmp_path / "b.avi", drifting_blob(31, 1))
    bucket.pipe_file("s3://films/day 1/a b.avi", (tmp_path / "b.avi").read_bytes())
    assert prepare(entries, tmp_path)["clips_reused"] == 3
    assert 31 in open_face_clips(tmp_path / "data").index.groupby("clip_id").n_frames.sum().tolist()


def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"https://x\.org/a\.mp4 cannot be read: only gs:// and s3:// are supported"):
        manifest(tmp_path, [("a", "https://x.org/a.mp4")])
    config = default_config()
    config.data.data_dir = "gs://bucket/data"
    with pytest.raises(InputError, match=r"config.data.data_dir=gs://bucket/data is a URL, but must be a folder"):
        common.data_dir(config, tmp_path)


def test_a_missing_backend_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match="can only be read with the package gcsfs: pip install gcsfs"):
        prepare(manifest(tmp_path, [("a", "gs://films/a.mp4")]), tmp_path)

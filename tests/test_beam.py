"""Apache Beam and the process pool are two roads to one dataset."""

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
from test_prepare import SETTINGS, blob_entries

from data_pipelines.dataset import beam_pipelines
from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.manifest import ClipEntry
from data_pipelines.prepare import prepare_face_clips
from facedyn.main import main

FLAGS = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"


def prepare(entries, folder, **changes):
    settings = dataclasses.replace(SETTINGS, max_frames_per_record=8, **changes)
    return prepare_face_clips(entries, folder / "data", settings, folder / "quality.parquet", note=lambda text: None)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_both_roads_give_the_same_dataset(tmp_path):
    pytest.importorskip("apache_beam", reason="needs Apache Beam, the extra `beam`")
    entries = blob_entries(tmp_path, 5)
    entries[4] = dataclasses.replace(entries[4], split="validation")
    (tmp_path / "text.mp4").write_text("no video")
    entries.append(ClipEntry("text", "q", tmp_path / "text.mp4", aligned=True, split="train"))
    pool, beam = tmp_path / "pool", tmp_path / "beam"
    assert prepare(entries, pool) == prepare(entries, beam, beam_options=FLAGS)
    assert_same(pool, beam)
    # With labels that have changed: no clip is processed again, its frames come out of the older dataset.
    entries = [dataclasses.replace(entry, traits=(0.25,)) for entry in entries]
    summaries = [
        prepare(entries, pool, trait_names=("calm",)),
        prepare(entries, beam, trait_names=("calm",), beam_options=FLAGS),
    ]
    assert summaries[0] == summaries[1]
    assert summaries[1]["clips_reused"] == 6
    assert_same(pool, beam)


def assert_same(one, two):
    """The same clips in the same records, but for the shards in which they lie."""
    pd.testing.assert_frame_equal(*(pd.read_parquet(folder / "quality.parquet") for folder in (one, two)))
    one, two = open_face_clips(one / "data"), open_face_clips(two / "data")
    assert one.metadata == two.metadata
    pd.testing.assert_frame_equal(*(data.index.drop(columns=["shard", "record"]) for data in (one, two)))
    for i in range(len(one.clips)):
        np.testing.assert_array_equal(one.frames(i), two.frames(i))


def test_without_beam_its_flags_are_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"needs Apache Beam: pip install 'facedyn\[beam\]'"):
        prepare(blob_entries(tmp_path, 1), tmp_path, beam_options=FLAGS)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_embed_over_beam_gives_the_table_of_one_process(workdir, blob_manifest, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam", reason="needs Apache Beam, the extra `beam`")
    process, processed = beam_pipelines.process, []
    monkeypatch.setattr(beam_pipelines, "process", lambda own, *work: (processed.extend(own.values()), process(own, *work)))
    rows = [line.replace(",videos/", f",{blob_manifest.parent}/videos/") for line in blob_manifest.read_text().splitlines()]
    (tmp_path / "new.csv").write_text("\n".join(rows[:7]) + "\n")  # three people
    tables = []
    for name, more in (("one", ()), ("beam", (f"--config.data.beam_options={FLAGS}",))):
        out = tmp_path / f"{name}.parquet"
        assert main(["embed", f"--videos={tmp_path}/new.csv", f"--workdir={workdir}", f"--out={out}", *more]) == 0
        tables.append(pd.read_parquet(out))
    assert {wanted.entry.clip_id for wanted in processed} == {row.partition(",")[0] for row in rows[1:7]}
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)

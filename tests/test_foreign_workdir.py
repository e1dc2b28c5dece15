"""A WORKDIR from somebody else, or one that was damaged: each file that is not what it should be is one sentence."""

import json
import shutil
import struct
import zlib

import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.faces.video import read_image
from facedyn.report import inputs
from facedyn.stages import forgotten
from facedyn.store import metrics_log, stamps
from facedyn.store.scores import load_scores, scores_path


@pytest.fixture
def made(tmp_path):
    """A WORKDIR that the report can be made of."""
    fake.write_stamp(tmp_path, "pretrain", fake.small_config())
    fake.write_pretraining(tmp_path)
    fake.write_quality(tmp_path)
    inputs.load(tmp_path, pictures=False)
    return tmp_path


def other_columns(path):
    pd.DataFrame({"a": [1]}).to_parquet(path)


def words_for_numbers(path):
    table = pd.read_parquet(path)
    table.assign(n_kept="many").to_parquet(path)


DAMAGE = {
    "quality.parquet": (other_columns, words_for_numbers, lambda path: path.write_bytes(b"PAR1")),
    "scores.csv": (
        lambda path: path.write_text(path.read_text().replace("0.", "x.")),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text(""),
    ),
    "metrics.jsonl": tuple(
        lambda path, text=text: path.write_text(text) for text in ("{]}\n", "[}\n", '{"a": 1}\n', '{"stage": 1, "step": 1}\n')
    ),
    "stages/pretrain.json": tuple(
        lambda path, text=text: path.write_text(text)
        for text in (
            '{"format": 2}',
            '{"format": 2, "config": "x"}',
            "[]",
            "[" * 100_000,
            '{"format": 1, "versions": "x"}',
            '{"format": 1, "versions": {}}',
        )
    ),
}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, found in DAMAGE.items() for i in range(len(found))])
def test_a_damaged_file_is_one_sentence_of_the_report(made, name, number):
    DAMAGE[name][number](made / name)
    with pytest.raises(InputError) as error:
        inputs.load(made, pictures=False)
    assert name in str(error.value) or str(made) in str(error.value)


def test_predictions_that_are_no_table_are_one_sentence(made):
    table = load_scores(made)
    lead = dict.fromkeys(table.columns, "") | dict(stage="traits", method="representation", head="ridge", metric="pcc")
    lead |= dict(trait="mean", value=0.3, n=48)
    pd.concat([table, pd.DataFrame([lead])]).to_csv(scores_path(made), index=False)
    (made / "traits").mkdir()
    (made / "traits" / "predictions.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=r"predictions\.parquet cannot be read as a table"):
        inputs.load(made, pictures=False)


def test_a_stamp_lacking_any_of_its_parts_is_damaged(made):
    path = stamps.stamp_path(made, "pretrain")
    whole = json.loads(path.read_text())
    for name in stamps.HOLDS:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(InputError, match=f"damaged .*{name}"):
            stamps.read_stamp(made, "pretrain")


@pytest.mark.parametrize("text", ["{}", "[]", '{"salt": 1, "people": []}', '{"salt": "ab", "people": {}}', "{"])
def test_a_damaged_list_of_who_was_forgotten_is_one_sentence(tmp_path, text):
    (tmp_path / forgotten.FILE).write_text(text)
    with pytest.raises(InputError, match=forgotten.FILE):
        forgotten.still_learnt(tmp_path, "anna")


def test_a_log_is_read_to_the_line_that_a_kill_cut_off(made):
    whole = metrics_log.read_metrics(made)
    with open(made / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"stage": "pretrain", "st')
    assert metrics_log.read_metrics(made) == whole


@pytest.fixture
def dataset(workdir, tmp_path):
    """A prepared dataset that a test may damage."""

    shutil.copytree(workdir / "data", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize(
    "text", ["[1]", '"x"', "{}", '{"image_size": 16, "channels": 3, "image_format": "png", "trait_names": 1}']
)
def test_a_damaged_description_of_the_dataset_is_one_sentence(dataset, text):
    next(dataset.rglob("metadata.json")).write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        open_face_clips(dataset)


def test_a_shard_that_is_no_shard_is_named(dataset):
    for shard in dataset.rglob("*array_record-*"):
        shard.write_bytes(b"text" * 5000)
    with pytest.raises(InputError, match=r"array_record-\d+ of the dataset .* is damaged"):
        open_face_clips(dataset).frames(0)


def test_an_image_of_more_pixels_than_can_be_is_no_image(tmp_path):
    """60,000 x 60,000 pixels, it says; OpenCV refuses such with an error of its own."""

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    assert read_image(tmp_path / "a.png") is None
    assert np.fromfile(tmp_path / "a.png", np.uint8).size < 100

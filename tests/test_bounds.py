"""Files from outside are read within a bound: a larger one is refused by its name before it is read."""

import json

import pytest

from data_pipelines.dataset import face_clips
from data_pipelines.errors import InputError
from data_pipelines.faces import openface_table
from data_pipelines.files import check_size
from data_pipelines.manifest import read_manifest
from data_pipelines.manifest_table import read_table
from data_pipelines.sources import restricted_pickle, udiva
from facedyn.config import default_config
from facedyn.store import portable, stamps


def sparse(path, size):
    """A file that says it is so large and takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    return path


READERS = {
    "manifest.csv": read_table,
    "face.csv": openface_table.read_table,
    "labels.pkl": restricted_pickle.load,
    "parts_train.csv": lambda path: udiva._rows(path, ()),
    "model.safetensors": lambda path: portable.read_generic(path, default_config(), {}, 1),
    "stages/fit.json": lambda path: stamps.read_stamp(path.parent.parent, "fit"),
    "data/metadata.json": lambda path: face_clips.FaceClipsReader(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_beyond_the_bound_is_refused_before_it_is_read(tmp_path, name):
    path = sparse(tmp_path / name, 5 << 30)
    with pytest.raises(InputError, match=r"MiB") as error:
        READERS[name](path)
    assert path.name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_within_the_bound_passes(tmp_path):
    check_size(sparse(tmp_path / "small", 100), 100, "The file")
    check_size(tmp_path / "nowhere", 0, "The file")  # for its reader to say


def test_a_damaged_stamp_is_said_to_be_one(tmp_path):
    path = stamps.stamp_path(tmp_path, "fit")
    path.parent.mkdir()
    path.write_text('{"format": 2, "rel')
    with pytest.raises(InputError, match=r"fit.json is damaged .* the stage is run again"):
        stamps.read_stamp(tmp_path, "fit")
    path.write_text(json.dumps({"format": stamps.FORMAT}))
    assert stamps.read_stamp(tmp_path, "fit")["format"] == stamps.FORMAT


def test_a_sentence_stays_one_line_of_bounded_length(tmp_path):
    """As the fuzzer found: a quote that is never closed makes the rest of the file one name of a column."""
    path = tmp_path / "clips.csv"
    path.write_text('clip_id,person_id,"file\n' + "a1,a,a.mp4\n" * 10_000, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_manifest(path, ())
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 2100
    assert str(InputError("two  spaces\u2028of a\r\nname")) == "two  spaces of a name"

"""Files from outside are read within a bound: a larger one is refused by its name before it is read."""

import json
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorstore as ts

from data_pipelines import bounded
from data_pipelines.dataset import face_clips, forgetting, packing
from data_pipelines.doctor.check_dataset import read_quality_table
from data_pipelines.errors import InputError
from data_pipelines.faces import openface_table
from data_pipelines.files import check_size
from data_pipelines.manifest import read_manifest
from data_pipelines.manifest_table import read_table
from data_pipelines.sources import restricted_pickle, udiva
from facedyn.config import default_config
from facedyn.report import inputs
from facedyn.store import checkpoints, portable, representations, scores, stamps


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
    "scores.csv": lambda path: scores.load_scores(path.parent),
    "doctor.csv": lambda path: inputs.load(path.parent, pictures=False),
    "metrics.jsonl": lambda path: inputs.load(path.parent, pictures=False),
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
    path.write_text(json.dumps({"format": stamps.FORMAT} | {name: kind() for name, kind in stamps.HOLDS.items()}))
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
    assert str(InputError("a name\x1b[31m in red\x07\x9b2J")) == "a name [31m in red 2J"


def long_text_table(path):
    """600 bytes that stand for 90 GB: one long text, and that it is the value of 100,000 rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), ["a" * 900_000])
    pq.write_table(pa.table({name: texts for name in ("clip_id", "person_id")}), path, compression="zstd")
    return path


def many_rows_table(path):
    """A few kB that stand for 160 MB of numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, pa.schema({"person_id": pa.int64()}), compression="zstd") as writer:
        rows = pa.table({"person_id": np.zeros(5_000_000, np.int64)})
        for _ in range(4):
            writer.write_table(rows)
    return path


PERSON = forgetting.Person("anna", frozenset())
TABLES = {
    "quality.parquet": lambda path: inputs.load(path.parent, pictures=False),
    "of_doctor.parquet": read_quality_table,
    "representations/part-00000.parquet": lambda path: representations.read_rows(path.parent),
    "representations/part-00001.parquet": lambda path: representations.read_parts(path.parent),
    "parts/part-00000.parquet": lambda path: packing.read_parts(path.parent.parent),
    "anything.parquet": lambda path: forgetting.forget_in_file(path, PERSON),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_small_table_that_would_fill_the_memory_is_refused(tmp_path, name):
    path = long_text_table(tmp_path / name)
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match=r"has 100,000 rows that take 16\d GiB of memory") as error:
        TABLES[name](path)
    assert path.name in str(error.value)


def test_a_table_of_too_many_rows_is_refused_by_what_it_says_of_itself(tmp_path, monkeypatch):
    path = many_rows_table(tmp_path / "rows.parquet")
    monkeypatch.setattr(bounded, "MAX_UNPACKED", 1 << 26)
    monkeypatch.setattr(bounded.pq, "read_table", lambda *a, **k: pytest.fail("it was read"))
    with pytest.raises(InputError, match="20,000,000 rows"):
        bounded.read_table(path)


def test_the_size_of_a_table_in_memory_is_known_before_it_is_read(tmp_path, monkeypatch):
    """Counted one by one, texts take what Arrow takes for them, also with gaps and in lists."""
    monkeypatch.setattr(bounded, "MAX_UNPACKED", 70_000)
    monkeypatch.setattr(bounded, "MAX_RATIO", 1)
    words = ["ab", None, "c" * 50, ""] * 500
    table = pa.table({"text": words, "list": [[word, "d"] for word in words], "number": np.arange(2000.0)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=300)
    status = (tmp_path / "t.parquet").stat()
    rows, size = bounded._size_in_memory(str(tmp_path / "t.parquet"), 1, status.st_mtime_ns)
    letters = sum(len(word or "") for word in words)
    assert rows == 2000
    assert size == letters + (letters + 2000) + 8 * 2000 + 8 * 2000 + 8 * 4000


def test_real_tables_pass_and_come_back_as_they_were(tmp_path):
    table = pd.DataFrame({"clip_id": ["a", "b"], "n": [1, 2]})
    folder = tmp_path / "task=talk"  # no column of the table
    folder.mkdir()
    table.to_parquet(folder / "t.parquet", index=False)
    pd.testing.assert_frame_equal(bounded.read_table(folder / "t.parquet").to_pandas(), table)
    with pytest.raises(InputError, match="no column 'fps'"):
        bounded.read_table(folder / "t.parquet", columns=["clip_id", "fps"])


def test_large_vectors_are_no_bomb(tmp_path, monkeypatch):
    """What hardly shrinks may be as large as it likes: the bound goes with the size of the file."""
    monkeypatch.setattr(bounded, "MAX_UNPACKED", 1000)
    path = tmp_path / "part-00000.parquet"
    rows = [dict.fromkeys(("unit_id", "person_id", "task", "session", "config_hash"), "a") for _ in range(50)]
    numbers = dict.fromkeys(("scale", "n_frames"), 1) | dict.fromkeys(("ranking_accuracy_generic", "loss"), 0.5)
    vectors = np.random.default_rng(0).normal(size=(50, 400)).astype(np.float32)
    rows = [row | numbers | {"ranking_accuracy_fitted": 0.5, "finite": True, "scale": i} for i, row in enumerate(rows)]
    representations.write_table(path, rows, vectors)
    np.testing.assert_array_equal(representations.read_parts(tmp_path)[1], vectors)


def arrays_bomb(path):
    """Zeros that deflate to a thousandth."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (3 << 22,)})
        for _ in range(3):
            file.write(bytes(32 << 20))
    return path


def test_arrays_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "MAX_UNPACKED", 1 << 20)
    with pytest.raises(InputError, match="take 0 GiB of memory"):
        bounded.read_arrays(arrays_bomb(tmp_path / "x.npz"))


def test_a_header_that_promises_more_than_there_is_is_not_believed(tmp_path):
    """NumPy would set aside the 8 TB that it names."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with pytest.raises(InputError, match="GiB of memory"):
        bounded.read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["t.parquet", "x.npz", "t.csv", "j.json"])
@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more", b"PK\x03\x04 and no more", b"[" * 100_000, b"\xff\xfe\x00\n"])
def test_damaged_files_are_a_sentence(tmp_path, name, damage):
    path = tmp_path / name
    path.write_bytes(damage)
    readers = {
        ".parquet": bounded.read_table,
        ".npz": bounded.read_arrays,
        ".csv": bounded.read_csv,
        ".json": bounded.read_json,
    }
    if name == "t.csv" and damage not in (b"", b"\xff\xfe\x00\n"):  # any text is a table of one column
        return
    with pytest.raises(InputError, match=path.name):
        readers[path.suffix](path)


def test_a_checkpoint_that_asks_for_all_memory_is_refused(tmp_path):
    """Its arrays are stated to be of 40 GB. Read, that ends the process: no exception can be caught."""
    like = {"a": np.zeros((3, 4), np.float32), "b": np.ones(5)}
    checkpoints.save_pytree(tmp_path / "best", like)
    series = checkpoints.Series(tmp_path / "steps")
    series.save(1, like, {"ranking_accuracy": 0.5})
    store = (
        {"driver": "ocdbt", "base": f"file://{tmp_path}/best/"},
        {"driver": "ocdbt", "base": f"file://{tmp_path}/steps/1/default/"},
    )
    for one in store:
        values = ts.KvStore.open(one).result()
        header = json.loads(values.read(b"a/.zarray").result().value) | {"shape": [100_000, 100_000]}
        values.write(b"a/.zarray", json.dumps(header).encode()).result()
    for load in (
        lambda: checkpoints.load_pytree(tmp_path / "best", like),
        lambda: checkpoints.load_pytree(tmp_path / "best"),
        lambda: series.restore(1, like),
    ):
        with pytest.raises(InputError, match="GiB of memory"):
            load()
    series.close()


def test_a_damaged_checkpoint_of_a_training_run_is_a_sentence(tmp_path):
    like = {"a": np.arange(12.0)}
    series = checkpoints.Series(tmp_path)
    series.save(1, like, {"ranking_accuracy": 0.5})
    assert series.restore(1, like)["a"].tolist() == like["a"].tolist()
    for file in (tmp_path / "1" / "default").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(InputError, match="delete that folder"):
        series.restore(1, like)
    series.close()

"""Tables of representations of any size: row groups and texts in chunks, read into one matrix, whole or in part."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facedyn.store import representations
from facedyn.store.representations import read_parts, read_rows, write_part, write_table

D = 12


def rows_of(units, scale=1):
    """Rows with ids of their own, in the order of `units`."""
    numbers = dict(n_frames=7, ranking_accuracy_generic=0.5, ranking_accuracy_fitted=0.6, loss=0.1, finite=True)
    ids = ("unit_id", "person_id")
    return [
        dict.fromkeys(ids, f"p{u:04d}") | dict(task="talk", session="", scale=scale, config_hash="0" * 12) | numbers
        for u in units
    ]


def vectors_of(units, scale=1):
    return np.stack([np.arange(D, dtype=np.float32) + 100 * u + 0.25 * scale for u in units])


@pytest.fixture
def folder(tmp_path):
    """Seven parts of ten people, at two scales, in no order."""
    order = np.random.default_rng(0).permutation(70)
    for scale in (2, 1):
        for first in range(0, 70, 10):
            units = order[first : first + 10]
            write_part(tmp_path, rows_of(units, scale), vectors_of(units, scale))
    return tmp_path


def check(rows, vectors, units):
    assert list(zip(rows["unit_id"], rows["scale"])) == [(f"p{u:04d}", scale) for u in units for scale in (1, 2)]
    expected = np.stack([vectors_of([u], scale)[0] for u in units for scale in (1, 2)])
    np.testing.assert_array_equal(vectors, expected)
    assert vectors.dtype == np.float32


def test_parts_come_in_the_order_of_unit_and_scale(folder):
    check(*read_parts(folder), range(70))
    pd.testing.assert_frame_equal(read_rows(folder), read_parts(folder)[0])


def test_row_groups_and_chunks_of_texts_change_nothing(tmp_path, monkeypatch):
    """As a table of many gigabytes is written: its limits made small."""
    monkeypatch.setattr(representations, "ROW_GROUP_VALUES", 3 * D)
    monkeypatch.setattr(representations, "TEXT_ROWS", 4)
    for scale in (1, 2):
        write_part(tmp_path, rows_of(range(50), scale), vectors_of(range(50), scale))
    with pq.ParquetFile(tmp_path / "part-00000.parquet") as file:
        assert file.num_row_groups == 17
        assert max(file.metadata.row_group(g).num_rows for g in range(17)) == 3
    check(*read_parts(tmp_path), range(50))
    table = pd.read_parquet(tmp_path / "part-00000.parquet")  # without code of ours
    np.testing.assert_array_equal(np.stack(table["representation"]), vectors_of(range(50)))


def test_some_rows_are_read_without_the_others(folder):
    wanted = [3, 31, 64]
    rows, vectors = read_parts(folder, lambda rows: rows["unit_id"].isin([f"p{u:04d}" for u in wanted]))
    check(rows, vectors, wanted)
    rows, vectors = read_parts(folder, lambda rows: rows["scale"] == 3)
    assert len(rows) == len(vectors) == 0
    rows, vectors = read_parts(folder / "nothing", lambda rows: rows["scale"] == 1)
    assert len(rows) == len(vectors) == 0


def test_beside_the_matrix_a_row_group_is_held(tmp_path, monkeypatch):
    wide = 10_000
    monkeypatch.setattr(representations, "ROW_GROUP_VALUES", 10 * wide)
    vectors = np.random.default_rng(0).normal(size=(400, wide)).astype(np.float32)
    write_table(tmp_path / "part-00000.parquet", rows_of(range(400)), vectors)
    held = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda *a, **k: held.append(pa.total_allocated_bytes()) or read(*a, **k)
    )
    before = pa.total_allocated_bytes()
    found = read_parts(tmp_path)[1]
    np.testing.assert_array_equal(found, vectors)
    assert len(held) == 40
    assert max(held) - before < 0.3 * vectors.nbytes  # of Arrow's; the matrix itself is NumPy's


def test_rows_that_are_there_twice_are_read_once_and_said(folder, capsys, hear):
    write_part(folder, rows_of([5, 70, 31]), vectors_of([5, 70, 31]) + [[7], [0], [7]])
    rows, vectors = read_parts(folder)
    check(rows[rows["unit_id"] != "p0070"], vectors[rows["unit_id"] != "p0070"], range(70))
    assert f"{folder} has 2 rows twice, for example 'p0005' at scale 1" in hear()
    pd.testing.assert_frame_equal(read_rows(folder), rows)
    rows, vectors = read_parts(folder, lambda rows: rows["unit_id"].isin(["p0005", "p0070"]) & (rows["scale"] == 1))
    np.testing.assert_array_equal(vectors, vectors_of([5, 70]))
    assert capsys.readouterr().out == ""

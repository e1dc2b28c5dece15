"""The table of representations: WORKDIR/representations/part-*.parquet, one row per fit unit and scale.

Parts are written whole or not at all and never touched again, so a broken-off fit resumes by reading which rows exist.
"""

import functools
import logging
import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path

FOLDER = "representations"
# Tables of controls lie in folders of these names within it.
REVERSED = "reversed"
CONTROLS = ("time_shuffled", "swapped_dynamics", "untrained", REVERSED)
COLUMNS = (
    ("unit_id", pa.string()),
    ("person_id", pa.string()),
    ("task", pa.string()),
    ("session", pa.string()),
    ("scale", pa.int32()),
    ("n_frames", pa.int32()),
    ("ranking_accuracy_generic", pa.float32()),
    ("ranking_accuracy_fitted", pa.float32()),
    ("loss", pa.float32()),
    ("finite", pa.bool_()),
    ("config_hash", pa.string()),
)
# The tables of the first seconds of each unit lie in such folders within those.
FIRST_SECONDS = "first_{:g}_seconds"
# What the table of `embed` has beside them.
OF_EMBED = (("verdict", pa.string()),)
# Rows of a chunk of texts when a table is written.
TEXT_ROWS = 2**16
# Floats of one row group: readers hold one at a time, and Parquet's own offsets within it are 32-bit.
ROW_GROUP_VALUES = 2**24


def write_part(folder, rows: list[dict], representations: np.ndarray, writer: str = "") -> pathlib.Path:
    """Writes one part: `rows` hold the columns but the last, `representations` [N, D] float32 is that one.

    Returns its path; the number is the first free one. Processes that write at the same time each need a `writer` of
    their own, which goes into the name: part-00003.parquet, part-00003-writer.parquet.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(p.stem.split("-")[1]) for p in folder.glob("part-*.parquet")]
    path = folder / f"part-{max(taken, default=-1) + 1:05d}{'-' * bool(writer)}{writer}.parquet"
    write_table(path, rows, representations)
    return path


def write_table(path, rows: list[dict], representations: np.ndarray, metadata: dict | None = None) -> None:
    """Writes a table of `rows` and `representations`, as `write_part` takes them, to `path`; of any size.

    metadata: {bytes: bytes} beside the table's own.
    """
    columns = [*COLUMNS, *[(name, kind) for name, kind in OF_EMBED if rows and name in rows[0]]]
    flat = pa.array(np.ascontiguousarray(representations, np.float32).reshape(-1), pa.float32())
    # Chunked, so that texts of any total length have room: within a chunk their offsets are 32-bit.
    parts = [rows[i : i + TEXT_ROWS] for i in range(0, len(rows), TEXT_ROWS)]
    arrays = [pa.chunked_array([[row[name] for row in part] for part in parts], kind) for name, kind in columns]
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, representations.shape[1]))
    table = pa.Table.from_arrays(arrays, [name for name, _ in columns] + ["representation"], metadata=metadata or {})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, row_group_size=max(1, ROW_GROUP_VALUES // max(1, representations.shape[1])))


def read_rows(folder) -> pd.DataFrame:
    """The rows of `read_parts` without reading a representation."""
    return _rows(_parts(folder))[0]


def read_parts(folder, keep=None) -> tuple[pd.DataFrame, np.ndarray]:
    """All parts in a folder: (rows without the representation, representations [N, D]), in the order of unit and scale.

    An empty table, [0, 0], when there is no part. Beside the matrix no more than a row group is held.

    keep: rows -> bool [N], for which of them to read; None for all.
    """
    parts = _parts(folder)
    rows, place = _rows(parts)
    if keep is not None:
        kept = np.asarray(keep(rows), bool)
        rows = rows.loc[kept].reset_index(drop=True)
        place = np.where(place < 0, -1, np.where(kept, np.cumsum(kept) - 1, -1)[place])
    vectors, before = None, 0
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                for chunk in file.read_row_group(group, columns=["representation"])["representation"].chunks:
                    if vectors is None:
                        vectors = np.empty((len(rows), chunk.type.list_size), np.float32)
                    values = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
                    there = place[before : before + len(chunk)]
                    vectors[there[there >= 0]] = values[there >= 0]
                    before += len(chunk)
    return rows, np.zeros((0, 0), np.float32) if vectors is None else vectors


def _parts(folder) -> list[pathlib.Path]:
    return sorted(pathlib.Path(folder).glob("part-*.parquet"))


def _rows(parts) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of all parts in the order of unit and scale, and the place in it of each row as the parts hold them.

    Of a row that is there twice, as two runs at once could leave it, the first is taken; the place of the other is -1.
    """
    names = [name for name, _ in COLUMNS]
    if not parts:
        return pd.DataFrame({name: [] for name in names}), np.zeros(0, int)
    rows = pa.concat_tables([bounded.read_table(part, columns=names) for part in parts]).to_pandas()
    order = np.lexsort((rows["scale"], rows["unit_id"]))
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    rows = rows.iloc[order].reset_index(drop=True)
    doubled = rows.duplicated(["unit_id", "scale"]).to_numpy()
    if doubled.any():
        first = rows[doubled].iloc[0]
        twice, example = f"{int(doubled.sum())} rows twice", f"{first['unit_id']!r} at scale {first['scale']}"
        _say_once(f"{parts[0].parent} has {twice}, for example {example}: the older one of each is used.")
        place = np.where(doubled, -1, np.cumsum(~doubled) - 1)[place]
        rows = rows[~doubled].reset_index(drop=True)
    return rows, place


@functools.cache
def _say_once(text: str) -> None:
    logging.getLogger("facedyn").warning(text)


def load_representations(workdir) -> tuple[pd.DataFrame, np.ndarray]:
    """The table of a finished (or running) fit: (DataFrame without the representation, matrix [N, D] float32).

    Row i of the DataFrame and of the matrix belong together. Raises InputError when there is no table.
    """
    rows, vectors = read_parts(pathlib.Path(workdir).expanduser() / FOLDER)
    if not len(rows):
        raise InputError(f"There is no table of representations in {workdir}; run the stage `fit` first.")
    return rows, vectors

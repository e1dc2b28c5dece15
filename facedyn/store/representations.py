"""The table of representations: WORKDIR/representations/part-*.parquet, a row a fit unit and scale.

Parts are written whole or not at all and never touched again, so a broken-off fit resumes by reading which rows exist.
"""

import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path

FOLDER = "representations"
# Tables of controls lie in folders of these names within it.
CONTROLS = ("time_shuffled", "untrained")
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


def write_part(folder, rows: list[dict], representations: np.ndarray, writer: str = "") -> pathlib.Path:
    """Writes one part: `rows` hold the columns but the last, `representations` [N, D] float32 is that one.

    Returns its path; the number is the first free one. Processes that write at the same time each need a `writer` of
    their own, which goes into the name: part-00003.parquet, part-00003-writer.parquet.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(p.stem.split("-")[1]) for p in folder.glob("part-*.parquet")]
    path = folder / f"part-{max(taken, default=-1) + 1:05d}{'-' * bool(writer)}{writer}.parquet"
    with atomic_path(path) as temporary:
        pq.write_table(as_arrow(rows, representations), temporary)
    return path


def as_arrow(rows: list[dict], representations: np.ndarray) -> pa.Table:
    """The table as it is written: `rows` hold the columns but the last, `representations` [N, D] is that one."""
    flat = pa.array(np.ascontiguousarray(representations, np.float32).reshape(-1), pa.float32())
    arrays = [pa.array([row[name] for row in rows], kind) for name, kind in COLUMNS]
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, representations.shape[1]))
    return pa.Table.from_arrays(arrays, [name for name, _ in COLUMNS] + ["representation"])


def read_parts(folder) -> tuple[pd.DataFrame, np.ndarray]:
    """All parts in a folder: (rows without the representation, representations [N, D]), in the order of unit and scale.

    An empty table, [0, 0], when there is no part.
    """
    parts = sorted(pathlib.Path(folder).glob("part-*.parquet"))
    if not parts:
        return pd.DataFrame({name: [] for name, _ in COLUMNS}), np.zeros((0, 0), np.float32)
    table = pa.concat_tables([pq.read_table(part) for part in parts])
    rows = table.drop_columns(["representation"]).to_pandas()
    column = table["representation"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    order = np.lexsort((rows["scale"], rows["unit_id"]))
    return rows.iloc[order].reset_index(drop=True), vectors[order]


def load_representations(workdir) -> tuple[pd.DataFrame, np.ndarray]:
    """The table of a finished (or running) fit: (DataFrame without the representation, matrix [N, D] float32).

    Row i of the DataFrame and of the matrix belong together. Raises InputError when there is no table.
    """
    rows, vectors = read_parts(pathlib.Path(workdir) / FOLDER)
    if not len(rows):
        raise InputError(f"There is no table of representations in {workdir}; run the stage `fit` first.")
    return rows, vectors

"""Files that anyone may have made, read within bounds: JSON, CSV, Parquet and NPZ.

A small file can unpack to more than the memory holds. What a file would take is therefore known before it is read: from its
size, and for Parquet and NPZ from what they say of themselves. SECURITY.md lists the bounds.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import os
import pathlib
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipelines.errors import InputError
from data_pipelines.files import check_size

if TYPE_CHECKING:  # imported late: no worker process needs it
    import pandas as pd

MAX_JSON = 64 << 20
MAX_LINES = 1 << 30  # of a log that grows with every step
MAX_TEXT_TABLE = 256 << 20
MAX_ARRAYS = 64 << 30
# What a file may unpack to: so many bytes, or so many times its own size. Real tables and arrays hold floats, which hardly
# shrink, and ids, which shrink much but are few.
MAX_UNPACKED, MAX_RATIO = 4 << 30, 64

MAKE_AGAIN = "delete it, and run the stage that makes it again"

# Bytes of a value in memory, by Parquet's physical types; for texts the length comes on top.
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 8}
# What a damaged file makes its readers raise.
DAMAGED_TABLE = (OSError, ValueError, KeyError, pa.ArrowException)
DAMAGED_ARRAYS = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError)


class TooLarge(InputError):
    """A file would unpack to more memory than one of its size should."""


def read_json(path, most: int = MAX_JSON, fix: str = MAKE_AGAIN):
    """What a JSON file holds. Raises InputError where it is none, which ends with `fix`, or has more than `most` bytes.

    OSError where it is absent.
    """
    check_size(path, most, "The file")
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({reason(error)}): {fix}.") from error


def read_csv(path, **options) -> pd.DataFrame:
    """The table in a CSV file; options: of `pandas.read_csv`. Raises InputError where it is none or too large."""
    import pandas as pd

    check_size(path, MAX_TEXT_TABLE, "The table")
    try:
        return pd.read_csv(path, **options)
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, "table", error) from error


def read_table(path, columns=None, filters=None) -> pa.Table:
    """The table in a Parquet file; columns, filters: of `pyarrow.parquet.read_table`.

    Raises InputError where it is none, lacks one of the columns, or unpacks to too much.
    """
    check_table(path)
    try:
        with pq.ParquetFile(path) as file:
            missing = set(columns or ()) - set(file.schema_arrow.names)
            table = None if missing or filters else file.read(columns)
        if filters and not missing:
            # A folder called `task=a` on the way to the file is no column of it.
            # pyarrow takes None, too, but its annotations are inferred from the default, a text.
            table = pq.read_table(path, columns=columns, filters=filters, partitioning=None)  # pyright: ignore[reportArgumentType]
    except DAMAGED_TABLE as error:
        raise _unreadable(path, "table", error) from error
    if table is None:
        raise InputError(f"The table {path} has no column {min(missing)!r}: {MAKE_AGAIN}.")
    return table.select(columns) if columns else table


def columns_of(path) -> list[str]:
    """Names of the columns of a Parquet file. Raises InputError where it is none."""
    try:
        return pq.read_schema(path).names
    except DAMAGED_TABLE as error:
        raise _unreadable(path, "table", error) from error


def check_table(path) -> None:
    """Raises InputError where a Parquet file unpacks to more than the bounds. One that is absent or damaged passes."""
    try:
        status = os.stat(path)
        rows, size = _size_in_memory(os.fspath(path), status.st_size, status.st_mtime_ns)
    except DAMAGED_TABLE:  # for its reader to say
        return
    if size > _allowed(status.st_size):
        raise InputError(
            f"The table {path} of {status.st_size / 2**20:,.1f} MiB has {rows:,} rows that take {size / 2**30:,.0f} GiB of "
            "memory, more than any table of that size should: check where it comes from."
        )


@functools.lru_cache(4096)
def _size_in_memory(path, packed: int, changed: int) -> tuple[int, int]:
    """(rows, bytes) of a Parquet file in memory. Texts are counted one by one only where they could be too much."""
    with pq.ParquetFile(path) as file:
        meta = file.metadata
        chunks = [
            (group, meta.row_group(group).column(i)) for group in range(meta.num_row_groups) for i in range(meta.num_columns)
        ]
        size = sum(chunk.num_values * _width(chunk, meta.schema) for _, chunk in chunks)
        texts = [(group, chunk) for group, chunk in chunks if chunk.physical_type == "BYTE_ARRAY"]
        # No text is longer than all that its part of the column unpacks to.
        longest = sum(chunk.num_values * chunk.total_uncompressed_size for _, chunk in texts)
    if size + longest <= _allowed(packed) or size > _allowed(packed):
        return meta.num_rows, size
    return meta.num_rows, size + _bytes_of_texts(path, texts)


def _width(chunk, schema) -> int:
    if chunk.physical_type in WIDTHS:
        return WIDTHS[chunk.physical_type]
    return next((c.length for c in map(schema.column, range(len(schema.names))) if c.path == chunk.path_in_schema), 8)


def _bytes_of_texts(path, texts) -> int:
    """Bytes of all texts of a Parquet file: each different one is held once, beside how often it stands there."""
    total = 0
    with pq.ParquetFile(path, read_dictionary=sorted({chunk.path_in_schema for _, chunk in texts})) as file:
        for group, chunk in texts:
            column = file.read_row_group(group, columns=[chunk.path_in_schema]).column(0)
            for part in column.chunks:
                while not pa.types.is_dictionary(part.type):  # lists of texts
                    part = part.flatten()
                counts = np.bincount(part.indices.drop_null().to_numpy(), minlength=len(part.dictionary))
                lengths = pc.fill_null(pc.call_function("binary_length", [part.dictionary]), 0).to_numpy(zero_copy_only=False)
                total += int(counts @ lengths.astype(np.int64))
    return total


def read_arrays(path) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file. Raises InputError where it is none, or unpacks to too much; OSError where it is absent."""
    check_arrays(path)
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            return {name: stored[name] for name in stored}
    except FileNotFoundError:
        raise
    except DAMAGED_ARRAYS as error:
        raise _unreadable(path, "file of arrays", error) from error


def check_arrays(path) -> None:
    """Raises InputError where an NPZ file unpacks to more than the bounds. One that is absent or damaged passes."""
    try:
        packed = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            sizes = [_size_of_array(archive, member) for member in archive.infolist()]
    except DAMAGED_ARRAYS:  # for its reader to say
        return
    check_size(path, MAX_ARRAYS, "The file")
    if sum(sizes) > _allowed(packed):
        raise TooLarge(_too_much(path, packed, sum(sizes)))


def check_unpacked(folder, size: int) -> None:
    """Raises TooLarge where the files of a folder, whose arrays are to take `size` bytes, are far too small for that."""
    packed = sum(file.stat().st_size for file in pathlib.Path(folder).rglob("*") if file.is_file())
    if size > _allowed(packed):
        raise TooLarge(_too_much(folder, packed, size))


def _too_much(path, packed, size) -> str:
    return (
        f"The arrays in {path} of {packed / 2**20:,.1f} MiB take {size / 2**30:,.0f} GiB of memory, more than any of "
        "that size should: check where it comes from."
    )


def _size_of_array(archive, member) -> int:
    """Bytes that a member of an NPZ file takes, by its own header or by the archive's, whichever is more."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    return max(math.prod(shape) * dtype.itemsize, member.file_size)


def _allowed(packed: int) -> int:
    return max(MAX_UNPACKED, MAX_RATIO * packed)


def _unreadable(path, what, error) -> InputError:
    return InputError(f"{path} cannot be read as a {what} ({reason(error)}): {MAKE_AGAIN}.")


def reason(error) -> str:
    """The first line of what an error says, or its name."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__

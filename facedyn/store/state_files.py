"""The folder of states beside a table of `embed`: a file of arrays per clip, and an index of all clips, also of unusable ones.

Files are named by content, so none is ever changed: a table names those that it was made of by its index, and what no index
names any more is deleted.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines import bounded, content
from data_pipelines.errors import InputError
from data_pipelines.faces.quality import column_types
from data_pipelines.files import atomic_path

INDEX, METADATA = "clips.parquet", b"facedyn.states"
SUFFIX, SCALE = ".npz", "scale_"
KINDS = {str: pa.string(), int: pa.int64(), float: pa.float64()}
# Of a clip, beside its row of the table of videos.
OF_CLIP = {"task": pa.string(), "session": pa.string(), "key": pa.string(), "content": pa.string()}
OF_CLIP |= {"frame_indices": pa.list_(pa.int32())}


class Index(NamedTuple):
    """What lies in a folder of states: a dict per clip with the columns of the table of videos and OF_CLIP; what made them."""

    rows: list[dict]
    about: dict


def write_index(path, index: Index) -> None:
    """Writes the index, whole or not at all."""
    columns = {name: KINDS[kind] for name, kind in column_types().items()} | OF_CLIP
    schema = pa.schema(columns, metadata={METADATA: json.dumps(index.about).encode()})
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(index.rows, schema), temporary, compression="zstd")


def read_index(folder) -> Index | None:
    """The index of a folder of states; None where there is none that can be read."""
    try:
        table = bounded.read_table(pathlib.Path(folder) / INDEX)
        about = json.loads((table.schema.metadata or {})[METADATA])
        if set(column_types()) | set(OF_CLIP) <= set(table.column_names) and isinstance(about, dict):
            return Index(table.to_pylist(), about)
    except (OSError, KeyError, ValueError, pa.ArrowException):
        pass
    return None


def file_name(clip_id: str, key: str, made_with: str) -> str:
    """Of a clip's states; it names nobody."""
    return content.named([clip_id, key, made_with]) + SUFFIX


def files_of(folder) -> list[str]:
    """Names of the files of states that the index in a folder lists: one per clip that has frames."""
    index = read_index(folder)
    rows, made_with = (index.rows, str(index.about.get("made_with"))) if index else ([], "")
    return [file_name(row["clip_id"], row["key"], made_with) for row in rows if len(row["frame_indices"])]


def sweep(folder) -> None:
    """Deletes the files of states that the folder's index does not list."""
    if read_index(folder) is not None:
        listed = set(files_of(folder))
        for path in pathlib.Path(folder).glob(f"*{SUFFIX}"):
            if path.name not in listed:
                path.unlink()


def remove(folder) -> None:
    """Deletes a folder of states; of other files in it none."""
    folder = pathlib.Path(folder)
    for path in (folder / INDEX, *folder.glob(f"*{SUFFIX}")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def write(path, person_id: str, states: Mapping[int, np.ndarray]) -> None:
    """Writes the states {scale: float32 [T, S, K]} of a clip; by the array `person_id` `facedyn forget` finds the file."""
    # Any: for all a type checker knows, a name might be one of savez's own keywords.
    arrays: dict[str, Any] = {f"{SCALE}{scale}": np.asarray(of_scale, np.float32) for scale, of_scale in states.items()}
    with atomic_path(path) as temporary:
        np.savez(temporary, person_id=np.array([person_id]), **arrays)


class States(Mapping[int, np.ndarray]):
    """{scale: states float32 [T, S, K]} of a file that `write` made, each read when it is asked for."""

    def __init__(self, path, scales):
        self.path, self._scales = pathlib.Path(path), tuple(scales)

    def __getitem__(self, scale: int) -> np.ndarray:
        """Raises InputError where the file is absent or damaged."""
        if scale not in self._scales:
            raise KeyError(scale)
        bounded.check_arrays(self.path)
        try:
            with open(self.path, "rb") as file, np.load(file) as stored:
                return stored[f"{SCALE}{scale}"]
        except bounded.DAMAGED_ARRAYS as error:
            raise InputError(
                f"The states in {self.path} cannot be read ({type(error).__name__}): run `facedyn embed` again on all videos."
            ) from error

    def __iter__(self) -> Iterator[int]:
        return iter(self._scales)

    def __len__(self) -> int:
        return len(self._scales)

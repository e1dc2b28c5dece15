"""Bounded reads and atomic writes: a reader, or a run after a crash, sees a whole file or none."""

import contextlib
import csv
import errno
import glob
import os
import pathlib
import tempfile
import time

from data_pipelines.errors import InputError

TEMPORARY = "~unfinished~"
# A file being written grows; one that has not for so long was left behind by a killed process.
STALE_SECONDS = 3600


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary path beside `path` that replaces it when the block ends well, and is removed when it does not.

    Raises InputError when the disk is full.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}.{TEMPORARY}", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    os.chmod(temporary, 0o644)  # mkstemp's 0600 would keep a group's shared workdir from being read
    try:
        yield pathlib.Path(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise_if_full(error, path)
        raise
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)


def raise_if_full(error: Exception, path) -> None:
    """Raises InputError when the error says that the disk, or a quota on it, is full."""
    full = (errno.ENOSPC, errno.EDQUOT)
    # ArrayRecord has nothing but the words.
    if getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full):
        raise InputError(
            f"The disk is full: {path} was not written; free some space and run the same command again."
        ) from error


def check_size(path, most: int, what: str) -> None:
    """Raises InputError where the file has more than `most` bytes: it would be read whole. A file that is not there passes."""
    try:
        size = os.path.getsize(path)
    except OSError:
        return
    if size > most:
        raise InputError(
            f"{what} {path} has {size / 2**20:,.0f} MiB, more than the {most / 2**20:,.0f} MiB allowed: check the file."
        )


def discard(path) -> None:
    """Deletes what a process that has been ended was writing to `path`."""
    path = pathlib.Path(path)
    for temporary in path.parent.glob(f".{glob.escape(path.stem)}.{TEMPORARY}*"):
        temporary.unlink(missing_ok=True)


def sweep(folder) -> None:
    """Deletes what killed processes were writing into `folder` when they died; what is being written now stays."""
    for path in pathlib.Path(folder).glob(f".*{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def write_text(path, text: str) -> None:
    """Writes `text` to `path` in one go."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_rows(path, rows, line_end: str = "\n") -> None:
    """Writes rows of cells to `path` as CSV, in one go."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator=line_end).writerows(rows)

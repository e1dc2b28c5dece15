"""Names files by what is in them, so that a moved, copied or renamed file is the same file and a changed one is another.

Files up to 64 MB are read whole; of larger ones the head, the tail and stretches between them. Neither paths nor times of
change go into a name. BLAKE2b, of Python itself, keeps up with a disk; no two files of a collection share a name by chance.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import time

from data_pipelines import bounded
from data_pipelines.files import write_text

DIGEST_BYTES = 16
WHOLE_BYTES = 64 << 20  # a file, or all files of a folder together, up to this is read whole
STRETCHES, STRETCH_BYTES = 16, 1 << 20  # of a larger file, the first and the last bytes among them
FILES_OF_FOLDER = 16  # of a larger folder, the first and the last one among them; of the others the size counts
CACHE = "hashes.json"
# A file changed just now may be changed again within one tick of the file system's clock.
SETTLED_SECONDS = 5


def of_file(path) -> str:
    """32 hexadecimal digits that name the content of a file. Raises OSError."""
    size = os.stat(path).st_size
    digest = hashlib.blake2b(f"{size}".encode(), digest_size=DIGEST_BYTES)
    with open(path, "rb") as file:
        if size <= WHOLE_BYTES:
            hashlib.file_digest(file, lambda: digest)
        else:
            for i in range(STRETCHES):
                file.seek(i * (size - STRETCH_BYTES) // (STRETCHES - 1))
                digest.update(file.read(STRETCH_BYTES))
    return digest.hexdigest()


def of_files(files: dict) -> str:
    """32 hexadecimal digits that name several files {name: path} together: their names, sizes and content. Raises OSError."""
    names = sorted(files)
    sizes = [os.stat(files[name]).st_size for name in names]
    chosen = range(len(names))
    if sum(sizes) > WHOLE_BYTES and len(names) > FILES_OF_FOLDER:
        chosen = [i * (len(names) - 1) // (FILES_OF_FOLDER - 1) for i in range(FILES_OF_FOLDER)]
    contents = [of_file(files[names[i]]) for i in chosen]
    return named([names, sizes, contents])


def of_place(path) -> str:
    """Names a file, or all files under a folder; '' where there is nothing. Raises OSError."""
    path = pathlib.Path(path)
    if path.is_dir():
        return of_files({file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()})
    return of_file(path) if path.is_file() else ""


def named(parts) -> str:
    """32 hexadecimal digits that name what JSON can hold."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=DIGEST_BYTES).hexdigest()


class Known:
    """Names of content that were computed before, so that what has not been touched is not read again. Only saves time.

    They lie in the data folder, each under a name made of the file's path relative to that folder, its size and its time of
    change: the file names nobody. Safe to use from several threads.
    """

    def __init__(self, data_dir=None):
        """None: nothing is known, and `save` does nothing."""
        self._folder = None if data_dir is None else pathlib.Path(data_dir).absolute()
        self._before, self._now = {}, {}
        if self._folder is not None:
            with contextlib.suppress(OSError, ValueError):
                self._before = dict(bounded.read_json(self._folder / CACHE, bounded.MAX_LINES))

    def of_files(self, files: dict) -> str:
        """`of_files`, or `of_file` of a single one of no name ('')."""
        if self._folder is None:
            return _name(files)
        newest, stamps = 0, []
        for name in sorted(files):
            status = os.stat(files[name])
            newest = max(newest, status.st_mtime_ns)
            stamps.append((name, _relative(files[name], self._folder), status.st_size, status.st_mtime_ns))
        key = named(stamps)
        found = self._before.get(key) or self._now.get(key)
        content = found or _name(files)
        if found or time.time_ns() - newest > SETTLED_SECONDS * 10**9:
            self._now[key] = content
        return content

    def save(self) -> None:
        """Keeps what was asked for since it was made, and nothing else."""
        if self._folder is not None and self._now != self._before:
            with contextlib.suppress(OSError):  # a folder that may only be read: the next run reads the files again
                self._folder.mkdir(parents=True, exist_ok=True)
                write_text(self._folder / CACHE, json.dumps(self._now))


def _name(files):
    return of_file(files[""]) if list(files) == [""] else of_files(files)


def _relative(path, folder):
    try:
        return pathlib.PurePath(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return str(path)

"""Videos in a bucket: gs:// and s3:// paths of a manifest, fetched one clip at a time, as decoders need a local file.

Read through etils.epath, which asks fsspec's gcsfs or s3fs, as they are installed. Only videos may be remote: the dataset and
WORKDIR need a file system, and a mounted bucket is one.
"""

import contextlib
import pathlib
import tempfile
from typing import cast

from etils import epath

from data_pipelines.errors import InputError

SCHEMES = {"gs://": "gcsfs", "s3://": "s3fs"}


def is_url(path) -> bool:
    """Whether the text or path names something that is not on a file system."""
    return "://" in str(path)


def remote_path(url: str) -> pathlib.Path:
    """The path of a file in a bucket, with pathlib's methods. Raises InputError for another kind of URL."""
    if not url.startswith(tuple(SCHEMES)):
        raise InputError(f"The path {url} cannot be read: only gs:// and s3:// are supported; download the file yourself.")
    return cast(pathlib.Path, epath.Path(url))  # no subclass, but it has the methods that are used


def content_stamp(path) -> tuple:
    """(bytes, time of the last change) of a remote file; () where there is none. Raises InputError without its backend."""
    with _needing_backend(path):
        try:
            stat = path.stat()
        except FileNotFoundError:
            return ()
    return stat.length, stat.mtime


@contextlib.contextmanager
def local_copy(path, folder=None):
    """A temporary local copy of a remote file, of the same suffix, removed in the end. Raises InputError when there is none.

    `folder`: where it lies, None = the system's temporary folder, which may be too small for a long video.
    """
    with tempfile.TemporaryDirectory(prefix=".facedyn-", dir=folder) as folder:
        copy = pathlib.Path(folder) / f"clip{path.suffix}"
        with _needing_backend(path):
            try:
                path.copy(copy)
            except FileNotFoundError as error:
                raise InputError(f"There is no file {path}.") from error
        yield copy


@contextlib.contextmanager
def _needing_backend(path):
    try:
        yield
    except ImportError as error:
        package = SCHEMES[str(path)[:5]]
        raise InputError(f"{path} can only be read with the package {package}: pip install {package}") from error


def refuse_url(path, name: str) -> None:
    """Raises InputError when the setting `name` is a URL: pathlib would make a folder of it here."""
    if is_url(path):
        raise InputError(f"{name}={path} is a URL, but must be a folder: mount the bucket and name it there.")

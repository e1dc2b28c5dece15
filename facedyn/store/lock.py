"""WORKDIR/lock: one run at a time writes into a folder, and a second one is told who does.

The operating system holds the lock and drops it when the process dies, however it dies. The text in the file says who has it.
Not every network file system shares locks between machines, so the holder also touches the file every few seconds: who finds
the lock of another machine watches for that sign of life before taking it over.
"""

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import pathlib
import shlex
import socket
import sys
import threading
import time

from data_pipelines import progress
from data_pipelines.errors import InputError

LOCK = "lock"
MAX_CHARACTERS = 2**16  # of the text in it
BEAT_SECONDS = 5.0  # between two signs of life
PATIENCE_SECONDS = 1.0  # for one who holds it for a moment, as doctor does
POLL_SECONDS = 0.1
# What the operating system answers when somebody else holds the lock, and where there are no locks.
TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# Windows keeps others from reading what is locked: a byte far behind the text.
LOCKED_BYTE = 2**30
PRIVATE = ("--person", "--remove", "--remove-person")  # options whose values must not be kept


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who has a folder: process id, host, command, time (ISO 8601, UTC)."""

    pid: int
    host: str
    command: str
    time: str

    def __str__(self):
        return f"process {self.pid} on {self.host} ({self.command}, since {self.time})"


@contextlib.contextmanager
def held(folder, wait: bool = False, note=progress.note):
    """Has the folder to itself within the block; makes it where it is not there yet.

    wait: waits for another run to end, after saying so; else InputError says who has the folder. A folder that cannot be
    written to is not locked, as nobody can change anything in it.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}): name another --workdir.") from error
    try:
        lock = _acquire(folder / LOCK, wait, note)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def holder(folder) -> Holder | None:
    """Who has written to the folder's lock, alive or not; None where nobody has."""
    with contextlib.suppress(OSError, ValueError, TypeError), open(pathlib.Path(folder) / LOCK, encoding="utf-8") as file:
        return Holder(**json.loads(file.read(MAX_CHARACTERS)))
    return None


def _acquire(path, wait, note):
    start, said = time.monotonic(), False
    while (lock := _try(path, note)) is None:
        if not wait and time.monotonic() - start > PATIENCE_SECONDS:
            raise InputError(
                f"{path.parent} is in use by {_who(path)}: wait until it has ended, or use another folder; "
                "doctor, embed and report --read-only work meanwhile."
            )
        if wait and not said and time.monotonic() - start > PATIENCE_SECONDS:
            note(f"Waits for {path.parent}, which is in use by {_who(path)}.")
            said = True
        time.sleep(POLL_SECONDS)
    return lock


def _who(path):
    return holder(path.parent) or "another run, whose name cannot be read"


def _try(path, note):
    """The _Lock, or None where somebody else has it. Raises OSError."""
    try:
        file = open(path, "r+b" if path.exists() else "x+b", buffering=0)  # noqa: SIM115, open while it is held
    except (FileExistsError, FileNotFoundError):  # it came or went just now
        return None
    except PermissionError:
        if path.exists() and os.access(path.parent, os.W_OK):
            return _remove_another_users(path)
        raise
    shared = True
    try:
        _lock(file)
    except OSError as error:
        if error.errno not in TAKEN + NO_LOCKS:
            file.close()
            raise
        if error.errno in TAKEN:
            file.close()
            return None
        shared = False
    if not _is_there(path, file):  # the holder before deleted it while we waited
        file.close()
        return None
    before = holder(path.parent)
    if before and _lives(before, path, shared):
        file.close()
        return None
    if before:
        note(f"The run that had {path.parent} before, {before}, was ended; this one takes its place.")
    lock = _Lock(path, file)
    if not shared and not lock.is_ours_after(2 * POLL_SECONDS):
        file.close()
        return None
    lock.start_beating()
    return lock


def _remove_another_users(path) -> None:
    """Removes the lock that another user's run left in a folder of both, so that the next try makes one of ours."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        _lock(file)
        path.unlink()


def _lives(before: Holder, path, shared: bool) -> bool:
    """Whether the holder that the text names still runs, although the operating system let us have the lock."""
    if before.host == socket.gethostname():
        # With locks of the system, one that lived would have kept us out.
        return not shared and before.pid != os.getpid() and _is_running(before.pid)
    seen, deadline = _beat(path), time.monotonic() + 4 * BEAT_SECONDS
    while time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        if _beat(path) != seen:
            return True
    return False


def _beat(path):
    """The time of the last sign of life, by the file server's clock; opened, as network file systems look again only then."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:  # it has ended
        return 0


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _is_there(path, file) -> bool:
    try:
        there, ours = os.stat(path), os.fstat(file.fileno())
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


class _Lock:
    """A lock that is held: says who has it, shows signs of life, and goes with `release`."""

    def __init__(self, path, file):
        self._path, self._file, self._ended = path, file, threading.Event()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._text = json.dumps(dataclasses.asdict(Holder(os.getpid(), socket.gethostname(), command(sys.argv[1:]), now)))
        file.seek(0)
        file.write((self._text + "\n").encode())
        file.truncate()
        os.fsync(file.fileno())

    def is_ours_after(self, seconds: float) -> bool:
        """Where there are no locks, the last of several that write at the same time has it."""
        time.sleep(seconds)
        return self._path.read_text(encoding="utf-8").strip() == self._text

    def start_beating(self):
        threading.Thread(target=self._beat, name="lock of the workdir", daemon=True).start()

    def _beat(self):
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a file system that is away for a moment
                os.utime(self._path)

    def release(self):
        self._ended.set()
        with contextlib.suppress(OSError):
            if _is_there(self._path, self._file):  # else its folder is gone, or it was deleted by hand
                self._file.truncate(0)
                if os.name != "nt":  # which deletes no open file
                    self._path.unlink()
        self._file.close()


def command(arguments) -> str:
    """The command line, without what names a person."""
    shown = []
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        after = bool(shown) and shown[-1] in PRIVATE
        shown.append("..." if after else f"{name}=..." if equals and name in PRIVATE else argument)
    return shlex.join(["facedyn", *shown])


if os.name == "nt":
    import msvcrt

    def _lock(file):
        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file):
        # Not lockf, whose lock goes as soon as this process closes the file anywhere, as after reading it.
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

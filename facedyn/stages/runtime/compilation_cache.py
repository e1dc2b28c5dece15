"""JAX's persistent compilation cache, on by default: what was compiled once is read back at later starts.

On CPU the folder is told by the processor as well: a home may be shared by machines whose code does not run on each other.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import stat

import jax

from facedyn.stages.runtime import messages, processes

AUTO = "auto"
# Many small functions add up; JAX's own second would leave most of them out.
MIN_SECONDS = 0.1
# Of all kinds of processors together. JAX's own limit needs one more package, and with JAX 0.10 keeps nothing new in a
# folder in which anything was written without it.
MAX_BYTES = 2_000_000_000


def switch_on(setting: str) -> None:
    """Uses the folder `config.compilation_cache`; what the environment (JAX_COMPILATION_CACHE_DIR) says goes before 'auto'.

    A folder that cannot be written to is said and does without. Of the default folder, what was longest not used goes first
    when it has grown beyond MAX_BYTES.
    """
    if not setting:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if setting == AUTO and _of_jax("jax_compilation_cache_dir"):
        return
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "facedyn" / f"compiled-{_processor()}"
    folder = home.expanduser() if setting == AUTO else pathlib.Path(setting).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        messages.warning(
            f"Compiled code cannot be kept in {folder} ({error.strerror}); config.compilation_cache names another folder."
        )
        return
    if setting == AUTO and _of_jax("jax_compilation_cache_max_size") == -1:  # else JAX keeps to the user's own limit
        keep_newest(folder.parent, MAX_BYTES)
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)


def keep_newest(folder: pathlib.Path, most: int) -> None:
    """Deletes files under the folder, the least recently used first, until they have `most` bytes together.

    Used is read or written, as far as the file system keeps the time of reading. Others may delete at the same time.
    """
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            break
        with contextlib.suppress(OSError):  # somebody else's in a shared folder
            path.unlink()
            total -= size


@functools.cache
def say_first_use(stage: str) -> None:
    """A line, once in a process and stage, that says why nothing seems to happen at first."""
    folder = _of_jax("jax_compilation_cache_dir") if _of_jax("jax_enable_compilation_cache") else None
    where = f"kept in {folder} for later starts" if folder else "at every start, as nothing of it is kept"
    processes.log(f"{stage}: compiles before the first step ({where})")


def _of_jax(name: str):
    """A setting of JAX, which makes the attributes of jax.config as it is imported."""
    return getattr(jax.config, name)


def _processor() -> str:
    """Eight digits that tell kinds of processors apart."""
    names = [platform.machine(), platform.system(), platform.processor()]
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names += sorted({line for line in lines if line.split("\t")[0] in ("flags", "Features", "model name")})
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]

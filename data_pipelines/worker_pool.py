"""Worker processes that end with the process that started them, however it ends: done, asked to stop, or killed.

A plain pool waits for all that was submitted when it is left by an exception, and outlives a parent that was killed.
"""

import contextlib
import multiprocessing
import os
import threading
from concurrent import futures


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def worker_pool(workers: int, initializer):
    """Yields a ProcessPoolExecutor whose workers call `initializer()` first.

    When the block is left by an exception, nothing is waited for: the workers end in the midst of what they do.
    """
    # Spawned, not forked: the parent may hold threads of JAX or Grain.
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)  # ours is closed when this process ends
    pool = futures.ProcessPoolExecutor(workers, context, _start, (theirs, initializer))
    whole = False
    try:
        yield pool
        whole = True
    finally:
        if not whole:
            ours.close()
        pool.shutdown(wait=True, cancel_futures=True)
        ours.close()
        theirs.close()


def _start(parent, initializer):
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    initializer()


def _end_with(parent):
    with contextlib.suppress(EOFError, OSError):
        parent.recv_bytes()  # nothing is ever sent
    os._exit(1)  # the pool would catch anything milder and take the next piece of work

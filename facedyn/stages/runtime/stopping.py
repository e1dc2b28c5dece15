"""SIGTERM: what a scheduler sends before it takes the machine away. The current chunk is finished, then the run ends.

What was asked lives in the installed handler itself, so nothing stays behind when the handler goes. Imports no JAX.
"""

import contextlib
import signal
import threading


class Stopped(BaseException):
    """The run was asked to end. Like KeyboardInterrupt it is no error that anyone on the way should handle."""


class _Handler:
    """Ends the run at once, or, while a chunk is being computed, remembers that it was asked; the second time at once."""

    def __init__(self):
        self.patient, self.asked = False, False

    def __call__(self, number, frame):
        if self.asked or not self.patient:
            raise Stopped
        self.asked = True


@contextlib.contextmanager
def on_sigterm():
    """Within the block SIGTERM raises Stopped, or waits for `finishing`; outside the main thread it stays as it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _Handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def reinstall() -> None:
    """Puts the handler back in its place after a library has taken it."""
    if threading.current_thread() is threading.main_thread() and isinstance(signal.getsignal(signal.SIGTERM), _Handler):
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


@contextlib.contextmanager
def finishing():
    """Yields asked() -> bool, to be looked at between parts; when it was asked, leaving the block raises Stopped."""
    handler = signal.getsignal(signal.SIGTERM)
    if not isinstance(handler, _Handler):
        yield lambda: False
        return
    handler.patient = True
    try:
        yield lambda: handler.asked
    finally:
        handler.patient = False
    if handler.asked:
        raise Stopped

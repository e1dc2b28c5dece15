"""Progress of long work: one live line on a terminal, plain lines (one every ten seconds) in a log.

Shown only within `shown(True)`, which the command line sets; a program that imports the package sees none unless it asks.
"""

import contextlib
import contextvars
import io
import logging
import shutil
import sys
import time

LOGGER = logging.getLogger("facedyn.data")
ELLIPSIS = "…"
# Of a resumed or compiling computation the first rate says nothing: before so much of it no time left is shown.
SURE_SECONDS = 1.0
_SHOWN = contextvars.ContextVar("shown", default=False)
_PREFIX = contextvars.ContextVar("prefix", default="")
_LIVE = {}  # {stream: width of the live line that stands there}


def shown(on: bool = True):
    """Within the block progress is written to stderr, or not."""
    return _set(_SHOWN, on)


def within(what: str):
    """Within the block every line of progress begins with `what`, for example 'stage 2 of 5'."""
    return _set(_PREFIX, f"{what}, " if what else "")


@contextlib.contextmanager
def _set(variable, value):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def prefix() -> str:
    """What lines begin with: 'stage 2 of 5, ', or nothing."""
    return _PREFIX.get()


def stream():
    """Where progress goes: stderr, or nowhere."""
    return sys.stderr if _SHOWN.get() else io.StringIO()


def note(text: str) -> None:
    """A sentence for the user, by the logger."""
    LOGGER.info(text)


def clear_line(of) -> None:
    """Takes the live line away that stands on a terminal, so that another line can be written."""
    width = _LIVE.pop(of, 0)
    if width:
        with contextlib.suppress(OSError):
            of.write("\r" + " " * width + "\r")


def counted(n: int, unit: str) -> str:
    """A number and its unit, in the singular where there is one.

    >>> counted(1, "clips"), counted(2, "clips"), counted(1, "people")
    ('1 clip', '2 clips', '1 person')
    """
    singular = {"people": "person"}.get(unit, unit.removesuffix("s"))
    return f"{n:,} {singular if n == 1 else unit}"


def cut(line: str, width: int) -> str:
    """The line, or what of it has room, with an ellipsis at its end.

    >>> cut("fit: 8 of 40 people", 12)
    'fit: 8 of 4…'
    """
    return line if len(line) <= width else line[: max(0, width - 1)] + ELLIPSIS


class Progress:
    """Counts units of work; shows done, rate and time left.

    Use as a context manager: `with Progress("fit", total, unit="people") as progress: ... progress.advance(4, "loss 0.3")`.
    `done` says how much was there before (a resumed run); it does not enter the rate. Nor does what comes before the end of the
    first step, in which JAX compiles: time left is that of the steps to come.
    """

    def __init__(self, name: str, total: int, unit: str = "items", done: int = 0, stream=None, every_seconds: float = 10.0):
        self.name, self.total, self.unit, self.done = _PREFIX.get() + name, total, unit, done
        self._already, self._stream = done, stream if stream is not None else globals()["stream"]()
        self._live = self._stream.isatty()
        self._every = 0.1 if self._live else every_seconds
        self._start = self._last = time.monotonic()
        self._first = None  # (done, time) after the first step
        self._note, self._inside = "", ""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.done > self._already or exception[0] is None:
            self._show(final=True)

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """Counts `n` more as done; `note` (loss, current item) is shown after the figures, until there is another."""
        self.done += n
        self._inside = "" if n else self._inside
        self._note = self._note if note is None else note
        if n and self._first is None:
            self._first = self.done, time.monotonic()
        self._maybe_show()

    def inside(self, text: str) -> None:
        """Says how far the current unit has come, for example '1,200 of 90,000 frames'."""
        self._inside = text
        self._maybe_show()

    def rate(self) -> float:
        """Units a second since the start."""
        seconds = time.monotonic() - self._start
        return (self.done - self._already) / seconds if seconds > 0 else 0.0

    def seconds_left(self) -> float | None:
        """By the steps after the first one; None where nothing is known yet."""
        if self._first is None:
            return None
        counted, since = self._first
        seconds = time.monotonic() - since
        if self.done == counted or seconds < SURE_SECONDS:
            return None
        return (self.total - self.done) * seconds / (self.done - counted)

    def _maybe_show(self):
        if time.monotonic() - self._last >= self._every:
            self._show()

    def _line(self, final):
        rate = self.rate()
        line = f"{self.name}: {self.done:,} of {counted(self.total, self.unit)}"
        if rate:
            line += f", {rate:.3g} {self.unit}/s"
        if final:
            line += f", {time.monotonic() - self._start:.0f} s"
        elif (left := self.seconds_left()) is not None:
            line += f", {_clock(left)} left"
        return ", ".join(filter(None, (line, "" if final else self._inside, self._note)))

    def _show(self, final=False):
        self._last = time.monotonic()
        line = self._line(final)
        with contextlib.suppress(OSError):
            if self._live:
                line = cut(line, shutil.get_terminal_size().columns - 1)  # one that wraps cannot be written over
                self._stream.write("\r" + line.ljust(_LIVE.get(self._stream, 0)) + ("\n" if final else ""))
                _LIVE[self._stream] = len(line)
                if final:
                    del _LIVE[self._stream]
            else:
                self._stream.write(line + "\n")
            self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"

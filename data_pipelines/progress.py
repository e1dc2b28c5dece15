"""Progress of long work: one live line on a terminal, plain lines (one every ten seconds) in a log."""

import contextlib
import shutil
import sys
import time


class Progress:
    """Counts units of work; shows done, rate and time left.

    Use as a context manager: `with Progress("fit", total, unit="people") as progress: ... progress.advance(4, "loss 0.3")`.
    `done` says how much was there before (a resumed run); it does not enter the rate.
    """

    def __init__(self, name: str, total: int, unit: str = "items", done: int = 0, stream=None, every_seconds: float = 10.0):
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self._already, self._stream = done, stream or sys.stderr
        self._live = self._stream.isatty()
        self._every = 0.1 if self._live else every_seconds
        self._start = self._last = time.monotonic()
        self._width, self._note = 0, ""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.done > self._already or exception[0] is None:
            self._show(final=True)

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """Counts `n` more as done; `note` (loss, current item) is shown behind the figures, until there is another."""
        self.done += n
        self._note = self._note if note is None else note
        if time.monotonic() - self._last >= self._every:
            self._show()

    def rate(self) -> float:
        """Units a second since the start."""
        seconds = time.monotonic() - self._start
        return (self.done - self._already) / seconds if seconds > 0 else 0.0

    def _show(self, final=False):
        self._last = now = time.monotonic()
        seconds, rate = now - self._start, self.rate()
        line = f"{self.name}: {self.done}/{self.total} {self.unit}"
        if rate:
            line += f", {rate:.3g} {self.unit}/s"
            left = (self.total - self.done) / rate
            line += f", {seconds:.0f} s" if final else f", {_clock(left)} left"
        if self._note:
            line += f", {self._note}"
        with contextlib.suppress(OSError):
            if self._live:
                line = line[: shutil.get_terminal_size().columns - 1]  # one that wraps cannot be written over
                self._stream.write("\r" + line.ljust(self._width) + ("\n" if final else ""))
                self._width = len(line)
            else:
                self._stream.write(line + "\n")
            self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"

"""How many frames have been looked at, across worker processes: what moves on the line of progress within a long clip."""

import multiprocessing

# Frames between two messages.
EVERY = 25
_report = None  # of this process: what it tells how many more frames were seen


def use(report) -> None:
    """From now on `counting` tells `report(n)` of n more frames, in this process; None for nobody."""
    global _report
    _report = report


def counting(items):
    """The same items, counted."""
    n = 0
    for item in items:
        yield item
        n += 1
        if n == EVERY and _report is not None:
            _report(n)
            n = 0


class Shared:
    """A count to which several processes add. Hand it to a worker when the worker is started.

    Has no lock, so two additions at the same moment may count as one: a worker that dies with a lock would stop all others.
    """

    def __init__(self):
        self._value = multiprocessing.get_context("spawn").RawValue("q", 0)

    def add(self, n: int) -> None:
        """Counts n more."""
        self._value.value += n

    @property
    def value(self) -> int:
        """The count so far."""
        return self._value.value

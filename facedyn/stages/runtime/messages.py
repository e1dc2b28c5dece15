"""What the user is told while something runs: the logger `facedyn`, which is silent until a handler is set.

The command line sets one (stderr); results (tables, paths) are printed to stdout. A program that imports the package hears
nothing unless it asks: `logging.getLogger("facedyn").addHandler(logging.StreamHandler())`. Imports no JAX.
"""

import contextlib
import logging
import sys

from data_pipelines.progress import clear_line, shown

LOGGER = logging.getLogger("facedyn")
LOGGER.addHandler(logging.NullHandler())
QUIET, NORMAL, VERBOSE = logging.WARNING, logging.INFO, logging.DEBUG


def info(text: str) -> None:
    """What happens and is as it should be."""
    LOGGER.info(text)


def warning(text: str) -> None:
    """What the user should look at: something was left out, or a result cannot be relied on."""
    LOGGER.warning(text)


def verbose() -> bool:
    """Whether details are shown."""
    return LOGGER.isEnabledFor(logging.DEBUG)


class _Handler(logging.StreamHandler):
    """Writes lines to what stderr is now; a live line of progress is cleared first, and comes back with its next step."""

    def __init__(self):
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record):
        self.stream = sys.stderr
        clear_line(self.stream)
        super().emit(record)


@contextlib.contextmanager
def on_command_line(level: int = NORMAL, progress: bool = True):
    """Within the block the messages of this level go to stderr, and so does progress, unless level is QUIET."""
    handler, before = _Handler(), (LOGGER.level, LOGGER.propagate)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    LOGGER.propagate = False  # a library of ours gives the root logger a handler, which would say everything again
    try:
        with shown(progress and level < QUIET):
            yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before[0])
        LOGGER.propagate = before[1]

"""States of frames at the sites of a model, each computed once: halves of a unit and shuffled frames look at them again."""

import collections
import threading

import numpy as np


class SiteStates:
    """Keeps what was computed last, by record and position. `most_bytes` bounds what is kept, never what is returned."""

    def __init__(self, most_bytes: int = 2**27):
        self._of, self._most, self._bytes = collections.OrderedDict(), most_bytes, 0  # {key: (positions, states)}
        self._lock = threading.Lock()

    def missing(self, key, positions) -> np.ndarray:
        """Those of the positions, ascending, of which no state is kept. key: names a model and a record."""
        with self._lock:
            known = self._of.get(key)
        return positions if known is None else np.setdiff1d(positions, known[0], assume_unique=True)

    def get(self, key, positions) -> np.ndarray | None:
        """States [T, S, K] at ascending positions; None where one is missing."""
        with self._lock:
            known = self._of.get(key)
            if known is None or len(np.setdiff1d(positions, known[0], assume_unique=True)):
                return None
            self._of.move_to_end(key)
        return known[1][np.searchsorted(known[0], positions)]

    def add(self, key, positions, states) -> None:
        """Keeps more of a record; the record used longest ago goes where there is no room."""
        with self._lock:
            known = self._of.pop(key, None)
            if known is not None:
                self._bytes -= known[1].nbytes
                both, first = np.unique(np.concatenate([known[0], positions]), return_index=True)
                positions, states = both, np.concatenate([known[1], states])[first]
            self._of[key] = positions, states
            self._bytes += states.nbytes
            while self._bytes > self._most and len(self._of) > 1:
                self._bytes -= self._of.popitem(last=False)[1][1].nbytes

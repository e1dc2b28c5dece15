"""States that were computed before, for whoever needs the same frames of the same U-net again.

There are two of these: the generic model's people, who are fitted themselves once their states have told what is the same for
everyone, and the scales of the control `untrained`, which have one U-net.
"""

from collections.abc import Callable

import jax
import numpy as np

# States that are kept at most; what comes later is computed again.
MOST_BYTES = 2**28


class KeptStates:
    """`load` of a Fitting in closed form, by which no frame passes through the same U-net twice, as far as there is room."""

    def __init__(self, load: Callable):
        self._load, self._model, self._readers = load, None, {}
        self._kept, self._room = {}, MOST_BYTES  # {(id of a reader, record): (positions, states)}

    def __call__(self, shared, reader, sources, people: int, n_frames: int) -> np.ndarray:
        """As `closed_form.make_load` has it."""
        # What there is serves the same parameters and basis alone.
        model = shared.params, shared.basis
        if self._model is None or not _equal(self._model, model):
            self._kept, self._room, self._readers = {}, MOST_BYTES, {}
        self._model = model
        self._readers[id(reader)] = reader  # so that no other reader gets its id
        known = [{record: self._places(reader, record, positions) for record, positions in own.items()} for own in sources]
        new = [{r: positions[of[r] < 0] for r, positions in own.items()} for own, of in zip(sources, known)]
        new = [{r: positions for r, positions in own.items() if len(positions)} for own in new]
        longest = max((sum(map(len, own.values())) for own in new), default=0)
        size = len(shared.basis), shared.basis[0].shape[1]
        loaded = self._load(shared, reader, new, people, longest) if longest else np.zeros((people, 0, *size), np.float32)
        found = np.zeros((people, n_frames, *size), np.float32)
        for p, own in enumerate(sources):
            before = first = 0
            for record, positions in own.items():
                rows, places = found[p, before : before + len(positions)], known[p][record]
                count = int((places < 0).sum())
                rows[places < 0] = loaded[p, first : first + count]
                if count < len(places):
                    rows[places >= 0] = self._kept[id(reader), record][1][places[places >= 0]]
                self._keep((id(reader), record), positions, rows)
                before, first = before + len(positions), first + count
        return found

    def _places(self, reader, record, positions) -> np.ndarray:
        """Where the states of these frames lie among those kept of the record; -1 for one that is not there."""
        if (id(reader), record) not in self._kept:
            return np.full(len(positions), -1)
        there, _ = self._kept[id(reader), record]
        places = np.minimum(np.searchsorted(there, positions), len(there) - 1)
        return np.where(there[places] == positions, places, -1)

    def _keep(self, key, positions, states) -> None:
        if key not in self._kept and states.nbytes <= self._room:
            self._kept[key] = positions, states.copy()
            self._room -= states.nbytes


def _equal(one, other) -> bool:
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(leaves) == len(others) and all(a is b or np.array_equal(a, b) for a, b in zip(leaves, others))

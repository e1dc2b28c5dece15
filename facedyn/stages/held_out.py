"""Ranking accuracy of held-out people for the stage `pretrain`, in memory that does not depend on how many there are.

Each process measures its share of the people on its own devices. Windows are decoded batch by batch while the devices work
on the batches before; what a few people need stays in memory for the next evaluation.
"""

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.dataset.windows import centre_positions, window_positions
from data_pipelines.errors import InputError
from facedyn.stages.fit import batching
from facedyn.stages.fit.units import evenly
from facedyn.stages.runtime import processes

EVAL_BATCH = 128  # windows
# Batches that are decoded ahead, each by a thread of its own.
AHEAD = 4
# Decoded windows that are kept for the next evaluation; what is beyond that is decoded again.
KEPT_BYTES = 2**27


class HeldOut:
    """Windows of held-out people, evenly spaced over each person's clips.

    people: their ids, sorted. Raises InputError when no clip holds a window.
    """

    def __init__(self, face_clips, records, scale: int, half_length: int, per_person: int):
        self._face_clips, self._scale, self._half_length = face_clips, scale, half_length
        by_person = {}
        for record in records:
            clip = face_clips.clips[record]
            centres = centre_positions(clip.frame_indices, scale, half_length)
            by_person.setdefault(clip.person_id, []).append(np.column_stack([np.full(len(centres), record), centres]))
        by_person = {person: evenly(np.concatenate(parts), per_person).tolist() for person, parts in by_person.items()}
        self.people = sorted(person for person, windows in by_person.items() if windows)
        if not self.people:
            raise InputError(
                f"No clip of the held-out people is long enough for a window at scale {scale}; "
                "use longer clips or smaller scales."
            )
        own = processes.own_partition(self.people, lambda _: 1)
        self._windows = [(person, record, centre) for person in own for record, centre in by_person[person]]
        mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), ("data",))
        self._split, self._everywhere = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
        self._batch = -(-EVAL_BATCH // mesh.size) * mesh.size
        self._kept, self._room = {}, KEPT_BYTES

    def accuracies(self, methods) -> list[np.ndarray]:
        """Each person's mean accuracy by each method: [people] a method, the same on all processes.

        methods: [(measure, params)], measure(params, batch of windows [B, ...]) -> [B]; all see a batch when it is decoded.
        """
        params = [jax.device_put(jax.tree.map(np.asarray, params), self._everywhere) for _, params in methods]
        of_people = {}  # {person: a row of accuracies by each method for every window}
        for start, batch in self._batches():
            on_devices = jax.device_put(batch, self._split)
            found = [np.asarray(measure(p, on_devices)) for (measure, _), p in zip(methods, params)]
            for (person, _, _), row in zip(self._windows[start : start + self._batch], np.stack(found, 1)):
                of_people.setdefault(person, []).append(row)
        means = {person: np.stack(rows, 1).mean(1).tolist() for person, rows in of_people.items()}
        for more in processes.gather(means):
            means |= more
        return list(np.asarray([means[person] for person in self.people]).T)

    def _batches(self):
        """(number of its first window, windows uint8 [B, 2n+1, H, W, C]) of every batch, in order, decoded ahead."""
        starts = range(0, len(self._windows), self._batch)
        for start, batch in zip(starts, batching.ahead(self._decoded, starts, AHEAD)):
            if start not in self._kept and batch.nbytes <= self._room:
                self._kept[start] = batch
                self._room -= batch.nbytes
            yield start, batch

    def _decoded(self, start):
        """The batch that begins with this window; the last one is filled up, so that there is one compilation."""
        if start in self._kept:
            return self._kept[start]
        some = self._windows[start : start + self._batch]
        positions = window_positions([centre for _, _, centre in some], self._scale, self._half_length)
        frames = [self._face_clips.frames(record, own) for (_, record, _), own in zip(some, positions)]
        return np.stack(frames + frames[-1:] * (self._batch - len(frames)))

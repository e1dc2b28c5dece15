"""Batches of windows for the self-supervision, through Grain.

Item i of the stream is drawn from a random generator keyed by the seed and i alone: a person (each equally likely), one of
their clips (in proportion to its windows), a centre frame. So a step's batch is the same after a resume, for any thread count.
"""

import sys
from typing import TYPE_CHECKING

import grain
import numpy as np

from data_pipelines.dataset.windows import centre_positions, window_positions
from data_pipelines.errors import InputError

if TYPE_CHECKING:
    from data_pipelines.dataset.face_clips import FaceClipsReader


class WindowSource:
    """Endless, stateless source for Grain over `records`, numbers in `face_clips.clips`: item i is uint8 [2n+1, H, W, C].

    Raises InputError when the records hold no window at all.
    """

    def __init__(self, face_clips: "FaceClipsReader", records, *, scale: int, half_length: int, seed: int):
        self.face_clips, self.scale, self.half_length, self.seed = face_clips, scale, half_length, seed
        by_person = {}
        for record in records:
            info = face_clips.clips[record]
            centres = centre_positions(info.frame_indices, scale, half_length)
            if len(centres):
                by_person.setdefault(info.person_id, []).append((int(record), centres))
        if not by_person:
            raise InputError(
                f"None of the {len(list(records))} clips has one window of {2 * half_length + 1} frames at scale {scale}; "
                "use longer clips, or smaller rank_loss.scales or rank_loss.half_length."
            )
        self.people = []  # a person: (records [R], windows before each record [R+1], centres of all their records [N])
        for person in sorted(by_person):
            numbers, centres = zip(*by_person[person])
            self.people.append((numbers, np.cumsum([0, *map(len, centres)]), np.concatenate(centres)))

    def __len__(self):
        return sys.maxsize

    def draw(self, i: int) -> tuple[int, int]:
        """(record, centre position) of item `i`."""
        # The item sits in a high word of the counter: streams of neighbouring items never meet.
        random = np.random.Generator(np.random.Philox(key=[self.seed & (2**64 - 1), self.scale], counter=[0, i, 0, 0]))
        records, before, centres = self.people[random.integers(len(self.people))]
        window = random.integers(len(centres))
        return records[np.searchsorted(before, window, side="right") - 1], int(centres[window])

    def __getitem__(self, index: int):
        record, centre = self.draw(int(index))
        return {"windows": self.face_clips.frames(record, window_positions([centre], self.scale, self.half_length)[0])}


def window_loader(
    face_clips,
    records,
    *,
    scale: int,
    half_length: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    threads: int = 8,
    process_index: int = 0,
    process_count: int = 1,
):
    """Endless iterator of {'windows': uint8 [B, 2n+1, H, W, C]}, beginning with the batch of step `start_step`.

    batch_size is this process's own share B; over all processes the items of a step are disjoint. Only the windows' frames
    are decoded, in `threads` threads of a batch each, so many batches ahead. Raises InputError when the records hold no window.
    """
    source = WindowSource(face_clips, records, scale=scale, half_length=half_length, seed=seed)
    first = start_step * batch_size * process_count + process_index
    items = grain.MapDataset.source(source).slice(slice(first, None, process_count))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, threads) if threads else 0)
    # Batched before the threads, not behind them: who computes finds the batch ready and has nothing to put together.
    return iter(items.batch(batch_size, drop_remainder=True).to_iter_dataset(options))

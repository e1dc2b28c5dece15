"""A track that goes over from one person to another, as through a cross-fade that nothing else told, is two tracks.

A face is described every few frames (`identity`). Where the mean of the descriptions before a stretch and the mean of those
after it are less alike than two looks at one person ever are, somebody else has come, and the stretch shows neither. A track
that is found while one person fades into another begins too near the change for two means: its ends are told by themselves.
"""

import dataclasses

import numpy as np

from data_pipelines.faces.identity import DESCRIBED_EVERY
from data_pipelines.faces.tracking import Track

LEAST, MOST = 4, 10  # descriptions on either side of a change that must be known, and that are compared
STRETCH = 6  # descriptions in between, which may show both people
SEEN = 200  # descriptions on either side, one of which may be like one of the others
BLOCK = 1000  # stretches that are looked at in one go
LEFT, ARRIVED = 0.2, 0.8  # shares of the way between the two means at which the first person goes and the second is there
MARGIN = 2  # descriptions on either side of a change that are not believed
NEAR = 25  # frames from one track to another that may have pushed it away


def changes(descriptions, another: float, same: float = 1.0) -> list[tuple[int, int]]:
    """[(last description of one person, first description of the next)], in order, among the N vectors of one track.

    descriptions: a sequence of N vectors [D], of any length; another: a likeness (cosine) below which two means of
    descriptions may be of two people; same: a likeness that descriptions of two people never have. Who turns away looks like
    somebody else, but one of the looks before that is like one of those after it.
    """
    around, found = _likeness_around(descriptions), []
    while len(around) and around.min() < another:
        stretch = int(np.argmin(around))
        around[max(0, stretch - STRETCH - LEAST) : stretch + STRETCH + LEAST + 1] = np.inf
        last, first = _ends(descriptions, LEAST + stretch)
        before, after = (
            unit_vectors(descriptions[part]) for part in (slice(max(0, last - SEEN), last + 1), slice(first, first + SEEN))
        )
        if (before @ after.T).max() < same:
            found.append((last, first))
    return sorted(found)


def unsettled_ends(descriptions, another: float, same: float) -> tuple[int, int]:
    """How many descriptions at the start and at the end of a track are left out: they show somebody who comes or goes.

    MARGIN more than the most, up to LEAST + STRETCH - 1 (more would be found by `changes`), of which every one is less alike
    than `another` to the mean of up to MOST that follow inwards. 0 where the first LEAST of these are not alike to what follows
    them either: a head that keeps turning never looks the same. Arguments as of `changes`.
    """
    vectors = unit_vectors(descriptions)
    start, end = (until_settled(_unsettled(each, another, same)) for each in (vectors, vectors[::-1]))
    if start and end and len(vectors) < start + LEAST + end:  # each end is the other's middle
        return (start, 0) if start <= end else (0, end)
    return start, end


def _unsettled(vectors, another, same):
    """Of the first descriptions, unit vectors [N, D]."""
    for unlike in range(LEAST + STRETCH - 1, 0, -1):
        settled = vectors[until_settled(unlike) :][: LEAST + MOST]
        if len(settled) <= LEAST:
            continue
        inwards = unit_vectors([settled[i + 1 : i + 1 + MOST].mean(0) for i in range(LEAST)])
        steady = (settled[:LEAST] * inwards).sum(1).min() >= same
        if steady and (vectors[:unlike] @ unit_vectors([settled[:MOST].mean(0)])[0]).max() < another:
            return unlike
    return 0


def _likeness_around(descriptions):
    """Of the means before and after every stretch that has LEAST descriptions on either side, by its first: LEAST, ..."""
    n = len(descriptions)
    likeness = np.full(max(0, n - 2 * LEAST - STRETCH + 1), np.inf)
    for first in range(0, len(likeness), BLOCK):  # those of an hour would take much memory
        starts = np.arange(first, min(first + BLOCK, len(likeness))) + LEAST
        stops = starts + STRETCH
        low, high = np.maximum(starts - MOST, 0), np.minimum(stops + MOST, n)
        sums = np.cumsum(unit_vectors(descriptions[low[0] : high[-1]]), 0)
        sums = np.concatenate([np.zeros_like(sums[:1]), sums])
        before, after = sums[starts - low[0]] - sums[low - low[0]], sums[high - low[0]] - sums[stops - low[0]]
        sizes = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        likeness[starts - LEAST] = np.einsum("nd,nd->n", before, after) / (sizes + 1e-9)
    return likeness


def _ends(descriptions, start):
    """(last description of the first person, first one of the second) where the stretch that shows both begins at `start`."""
    stop, low = start + STRETCH, max(start - MOST, 0)
    vectors = unit_vectors(descriptions[low : stop + MOST])
    before, after = vectors[: start - low].mean(0), vectors[stop - low :].mean(0)
    way = after - before
    shares = (vectors - before) @ way / (way @ way)
    # From inside the stretch to both sides, so that one odd description far from it does not move the ends.
    half = start - low + int(np.argmax(shares[start - low :] >= 0.5))
    gone, arrived = np.flatnonzero(shares[:half] <= LEFT), np.flatnonzero(shares[half:] >= ARRIVED)
    last = gone[-1] if len(gone) else start - low - 1
    first = half + arrived[0] if len(arrived) else stop - low
    return int(low + last), int(low + first)


def unit_vectors(descriptions) -> np.ndarray:
    """A sequence of N vectors [D] as float32 [N, D] of length 1."""
    vectors = np.array(descriptions, np.float32)
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + np.float32(1e-9))


def parts(track: Track, found, shot: int, ends=(0, 0), met: bool = False) -> list[tuple[Track, slice]]:
    """The tracks of the people that one track shows, each with the frames of it that it has.

    found: of `changes`; ends: descriptions to be left out at the start and at the end. The frames between two people, and
    MARGIN descriptions on either side, belong to nobody. `shot`: the first number of a shot that no track has, for the parts
    after the first, and for the first where somebody else was met: nobody is expected back at the place of somebody else.
    """
    if not found and ends == (0, 0):
        return [(track, slice(0, len(track.seconds)))]
    n = len(track.seconds)
    of_start, of_end = (number * DESCRIBED_EVERY for number in ends)
    stops = [min(n, max(1, (last - MARGIN) * DESCRIBED_EVERY + 1)) for last, _ in found] + [max(1, n - of_end)]
    starts = [min(n - 1, of_start)] + [min(n - 1, (first + MARGIN) * DESCRIBED_EVERY) for _, first in found]
    kept = [slice(start, stop) for start, stop in zip(starts, stops) if start < stop]
    kept_shot = shot + len(found) if met else track.shot
    return [(_part(track, frames, shot + i - 1 if i else kept_shot), frames) for i, frames in enumerate(kept)]


def lost_ends(track: Track, tracks) -> tuple[int, int]:
    """How many descriptions at a track's start and end are left out, as it meets another of `tracks` there without a cut.

    A face is followed until it is not found any more: something had come before it. 1 each where another track of the same shot
    ends within NEAR frames before it or begins so soon after it.
    """
    others = [other for other in tracks if other is not track and other.shot == track.shot]
    return (
        int(any(0 < track.start - other.newest <= NEAR for other in others)),
        int(any(0 < other.start - track.newest <= NEAR for other in others)),
    )


def until_settled(unlike: int) -> int:
    """Descriptions that an end loses of which the first `unlike` show somebody else."""
    return unlike + MARGIN if unlike else 0


def _part(track, frames, shot):
    start, stop = track.start + frames.start, track.start + frames.stop
    faces = {at: face for at, face in track.faces.items() if start <= at < stop}
    if not faces:  # a stretch between two detections: the nearest one says what it looks like
        at = min(track.faces, key=lambda at: abs(at - start))
        faces = {start: track.faces[at]}
    return dataclasses.replace(
        track,
        start=start,
        faces=faces,
        motions=track.motions[frames.start : frames.stop - 1],
        seconds=track.seconds[frames],
        shot=shot,
    )

"""Which of OpenFace's numbered faces are one person: it gives a face that it lost and found again a new number, or another's.

A face's frames are cut into pieces wherever the person may have changed; pieces of one person are put together again. Two
faces that are seen in the same frame are never one person.
"""

import dataclasses
import functools
import itertools
import math

import cv2
import numpy as np

from data_pipelines.picks import picks

# Appearance distances, seen on 112-pixel crops of the 31 + 91 real clips: pieces of one clip 2 s apart have 0.09 in the middle
# and 0.19 at the 95th percentile; those of different people 0.42 in the middle, 0.26 at the 1st percentile, never below 0.21.
SAME = 0.21  # nearer than this is one person, whatever the place
SAME_NEARBY = 0.26  # nearer than this is one person where the number or the place says the same
CUT = 0.28  # from one frame to the next: 0.04 in the middle and at most 0.277 within a clip
SMALLEST = 48  # pixels; a smaller image does not tell who it shows
LOST_SECONDS = 1.0  # a face lost for longer may come back as another person under the same number
# Face widths that a head may have moved by after no time, and by in a second.
MOVED, MOVED_A_SECOND = 0.75, 1.5
SAMPLE_SECONDS = 0.5  # between the images whose appearance is looked at
GALLERY = 6  # of them stand for a piece
MAX_PIECES = 1000
BLOCK = 64  # pieces that are compared with all others at once
GRID = 7
# Patterns with at most two changes from darker to brighter around their middle; all others share the last number.
_BITS = (np.arange(256)[:, None] >> np.arange(8)) & 1
_UNIFORM = np.abs(_BITS - np.roll(_BITS, 1, axis=1)).sum(1) <= 2
PATTERNS = int(_UNIFORM.sum()) + 1
NUMBER = np.where(_UNIFORM, np.cumsum(_UNIFORM) - 1, PATTERNS - 1)


@dataclasses.dataclass(eq=False)
class Piece:
    """Frames of a face in which the person does not change.

    frames: those that can be used, increasing; seen: all in which OpenFace saw this face; first, last: places, as Row has them.
    """

    face: int
    frames: list[int]
    seen: set[int]
    first: tuple | None = None
    last: tuple | None = None


def find_people(faces, read, seconds) -> list[list[Piece]]:
    """The people as lists of pieces in order of time, the person with most usable frames first.

    faces: {face: (usable frames, {frame: place} of the frames in which it was seen)}; read: (face, frame) -> RGB image or
    None; seconds: frame -> its time. Of more than MAX_PIECES pieces the shortest are left out.
    """
    pieces = [
        piece
        for face, (frames, places) in sorted(faces.items())
        for piece in _pieces(face, sorted(frames), places, lambda frame, face=face: read(face, frame), seconds)
    ]
    pieces = sorted(pieces, key=lambda piece: -len(piece.frames))[:MAX_PIECES]
    if len(pieces) < 2:
        return [pieces] if pieces else []
    distances = _distances([_gallery(piece, read, seconds) for piece in pieces])
    people, free = [], set(range(len(pieces)))
    for i in range(len(pieces)):
        if i in free:
            person = _grow(i, free, pieces, distances, seconds)
            free -= set(person)
            people.append(sorted((pieces[j] for j in person), key=lambda piece: piece.frames[0]))
    return sorted(people, key=lambda person: -sum(len(piece.frames) for piece in person))


def _grow(first, free, pieces, distances, seconds):
    """Numbers of the pieces, of those that are free, which belong to one person with the piece `first`."""
    person, near = [], np.full(len(pieces), np.inf)
    related, overlaps = np.zeros((2, len(pieces)), bool)
    others, new = sorted(free), first
    while True:
        person.append(new)
        others.remove(new)
        near = np.minimum(near, distances[new])
        for i in others:
            related[i] |= _related(pieces[i], pieces[new], seconds)
            overlaps[i] |= _overlap(pieces[i], pieces[new])
        rivals = [i for i in others if overlaps[i]]
        # Of two people who look similar, a piece is the one's to whom it is nearer.
        rival = distances[:, rivals].min(1) if rivals else np.full(len(pieces), np.inf)
        limit = np.where(related, SAME_NEARBY, SAME)
        joining = [i for i in others if not overlaps[i] and near[i] < limit[i] and near[i] <= rival[i]]
        if not joining:
            return person
        new = min(joining, key=lambda i: near[i])


def _overlap(a, b):
    if min(a.seen) > max(b.seen) or min(b.seen) > max(a.seen):
        return False
    return not a.seen.isdisjoint(b.seen)


def _gallery(piece, read, seconds):
    looks = [describe(read(piece.face, frame)) for frame in _spread(piece.frames, seconds, GALLERY)]
    return [look for look in looks if look is not None]


def _distances(galleries):
    """[pieces, pieces]: the least `distance` of any two descriptors; infinite where a piece has none."""
    n = len(galleries)
    found, filled = np.full((n, n), np.inf), [i for i in range(n) if galleries[i]]
    if not filled:
        return found
    looks = np.stack([look for gallery in galleries for look in gallery])  # [N, cells, patterns]
    shown = np.any(looks, 2).astype(np.float32)
    looks = looks.reshape(len(looks), -1)
    starts = np.cumsum([0, *(len(galleries[i]) for i in filled)])
    for block in range(0, len(filled), BLOCK):
        rows = slice(starts[block], starts[min(block + BLOCK, len(filled))])
        apart = 1 - looks[rows] @ looks.T / np.maximum(shown[rows] @ shown.T, 1)
        apart = np.minimum.reduceat(apart, starts[:-1], axis=1)
        within = starts[block : min(block + BLOCK, len(filled))] - rows.start
        found[np.ix_(filled[block : block + BLOCK], filled)] = np.minimum.reduceat(apart, within, axis=0)
    return found


def _related(piece, own, seconds):
    """Whether the number or, soon after one another, the place speaks for one person."""
    if piece.face == own.face:
        return True
    before, after = (piece, own) if piece.frames[-1] < own.frames[0] else (own, piece)
    waited = seconds(after.frames[0]) - seconds(before.frames[-1])
    return 0 <= waited <= LOST_SECONDS and _moved(before.last, after.first) <= MOVED + MOVED_A_SECOND * waited


def _moved(before, after):
    """How far the place has moved, in widths of the face; infinite where it is not known."""
    if before is None or after is None:
        return math.inf
    return math.dist(before[:2], after[:2]) / max(before[2], after[2])


def _pieces(face, frames, places, read, seconds):
    """The face's frames, cut where it was lost for long, where its place jumps and where its looks change at once."""
    runs, looks = [], functools.lru_cache(64)(lambda frame: describe(read(frame)))
    for frame in frames:
        if runs and not _jumps(runs[-1][-1], frame, places, seconds):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    runs = [part for run in runs for part in _without_cuts(run, looks, seconds)]
    borders = [-math.inf, *(run[0] for run in runs[1:]), math.inf]
    for i, run in enumerate(runs):
        seen = {frame for frame in places if borders[i] <= frame < borders[i + 1]} if len(runs) > 1 else set(places)
        yield Piece(face, run, seen | set(run), places.get(run[0]), places.get(run[-1]))


def _jumps(before, frame, places, seconds):
    waited = seconds(frame) - seconds(before)
    if waited > LOST_SECONDS:
        return True
    moved = _moved(places.get(before), places.get(frame))
    return math.isfinite(moved) and moved > MOVED + MOVED_A_SECOND * waited


def _without_cuts(run, looks, seconds):
    """The run in parts, between which the appearance changes from one frame to the next."""
    sampled = _spread(run, seconds)
    at = {frame: i for i, frame in enumerate(run)}
    cuts = [0]
    for a, b in itertools.pairwise(sampled):
        if _differ(looks(a), looks(b)):
            inside = run[at[a] : at[b] + 1]
            # A head that turns does so over many frames.
            cuts += [at[y] for x, y in itertools.pairwise(inside) if _differ(looks(x), looks(y))]
    return [run[start:end] for start, end in zip(cuts, [*cuts[1:], len(run)])]


def _differ(a, b):
    return a is not None and b is not None and distance(a, b) > CUT


def _spread(run, seconds, most: int = 0):
    """Some of the frames, the first and the last among them: about one in SAMPLE_SECONDS, and at most `most` where given."""
    n = max(2, 1 + math.ceil((seconds(run[-1]) - seconds(run[0])) / SAMPLE_SECONDS))
    return [run[i] for i in picks(len(run), min(n, most or n))]


def describe(image) -> np.ndarray | None:
    """Appearance of an aligned face, float32 [GRID * GRID, PATTERNS]; None for no image, or one that is too small or all black.

    Histograms of uniform local binary patterns (Ahonen, Hadid and Pietikäinen 2006) over a grid. Brightness and colour of the
    light do not change them. Cells that are masked, as OpenFace does outside the face, hold zeros.
    """
    if image is None or min(image.shape[:2]) < SMALLEST:
        return None
    grey = cv2.cvtColor(cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    shown = (grey > 0)[10:102, 10:102]
    grey = cv2.GaussianBlur(grey, (0, 0), 1.0)[8:104, 8:104].astype(np.int16)
    middle, code = grey[2:-2, 2:-2], np.zeros((92, 92), np.int64)
    for bit, (y, x) in enumerate([(-2, -2), (-2, 0), (-2, 2), (0, 2), (2, 2), (2, 0), (2, -2), (0, -2)]):
        code |= (grey[2 + y : 94 + y, 2 + x : 94 + x] >= middle).astype(np.int64) << bit
    cell = np.arange(92) * GRID // 92
    cell = cell[:, None] * GRID + cell
    n_cells = GRID * GRID
    counts = np.bincount((cell * PATTERNS + NUMBER[code])[shown], minlength=n_cells * PATTERNS).reshape(n_cells, PATTERNS)
    visible = np.bincount(cell[shown], minlength=n_cells) > 0.5 * np.bincount(cell.ravel())
    if visible.sum() < n_cells / 4:
        return None
    counts = np.where(visible[:, None], counts, 0)
    return np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1)).astype(np.float32)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """0 for equal appearances, 1 for patterns that have nothing in common; over the cells that both show."""
    both = (a.any(1) & b.any(1)).sum()
    return 1 - float((a * b).sum() / both) if both else 1.0

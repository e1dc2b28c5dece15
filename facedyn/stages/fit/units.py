"""Which frames belong to which fit unit: the plan of a fit, and the windows of its units, on the host.

A unit's centre frames are split clip by clip: a share at each clip's end is held back for the quality columns, with so
much left out between that no frame is in a window of both. For identification the rest is cut into two halves alike.
"""

import concurrent.futures
import dataclasses
from typing import NamedTuple

import numpy as np

from data_pipelines.dataset.windows import centre_positions, window_positions

UNITS = ("person", "person_task", "session", "clip")


@dataclasses.dataclass(frozen=True)
class FitUnit:
    """What one filter set is fitted to.

    Attributes:
      task, session: of its clips, '' where they have several.
      fitted: (record, centre position) of the rows that the fit draws from, int32 [N, 2].
      held_back: the same of the rows kept out of it.
    """

    unit_id: str
    person_id: str
    task: str
    session: str
    fitted: np.ndarray
    held_back: np.ndarray


def unit_id(clip, unit: str) -> str:
    """The fit unit that a clip belongs to: 'p1', 'p1/talk', 'p1/session2' or the clip's own id."""
    return {
        "person": clip.person_id,
        "person_task": f"{clip.person_id}/{clip.task}",
        "session": f"{clip.person_id}/{clip.session}",
        "clip": clip.clip_id,
    }[unit]


def split_centres(centres: np.ndarray, reach: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(first, last) part of a clip's centre positions, `share` of those used in the last; no frame in windows of both.

    A window of the first part ends before the last part's first window begins: 2 * reach positions between are in neither.
    """
    if share <= 0 or len(centres) < 2:
        return centres, centres[:0]
    usable = len(centres) - 2 * reach
    last = round(share * usable)
    if usable < 2 or last < 1:
        return centres, centres[:0]
    kept = centres[-last:]
    return centres[centres < kept[0] - 2 * reach], kept


def evenly(rows, most: int):
    """At most `most` of the rows, a list or an array, evenly spaced."""
    if len(rows) <= most:
        return rows
    chosen = np.linspace(0, len(rows) - 1, most).round().astype(int)
    return rows[chosen] if isinstance(rows, np.ndarray) else [rows[i] for i in chosen]


def _rows(parts) -> np.ndarray:
    """(record, centre position) of parts [(record, centre positions)]: int32 [N, 2]."""
    columns = [np.stack([np.full(len(centres), record), centres], 1) for record, centres in parts]
    return np.concatenate(columns).astype(np.int32) if columns else np.zeros((0, 2), np.int32)


def plan(
    face_clips, records, *, unit: str, scale: int, half_length: int, held_back: float, max_frames: int, min_frames: int, half=0
):
    """(units in the order of their ids, {id of a unit with too few centre frames: how many it has}).

    `half` 1 or 2 keeps only the first or second half of each clip's fitted rows; what is held back is that of both.
    """
    reach = scale * half_length
    by_unit = {}
    for record in records:
        by_unit.setdefault(unit_id(face_clips.clips[record], unit), []).append(record)
    units, too_short = [], {}
    for name in sorted(by_unit):
        clips = [face_clips.clips[r] for r in by_unit[name]]
        parts = [(r, centre_positions(c.frame_indices, scale, half_length)) for r, c in zip(by_unit[name], clips)]
        cut = [(r, *split_centres(centres, reach, held_back)) for r, centres in parts]
        if sum(len(first) for _, first, _ in cut) < min_frames:  # too little to hold any back
            cut = [(r, centres, centres[:0]) for r, centres in parts]
        fitted = [(r, first) for r, first, _ in cut]
        if half:
            fitted = [(r, split_centres(first, reach, 0.5)[half - 1]) for r, first in fitted]
        rows = _rows(fitted)
        if len(rows) < min_frames:
            too_short[name] = len(rows)
            continue
        held = _rows([(r, last) for r, _, last in cut])
        tasks, sessions = {c.task for c in clips}, {c.session for c in clips}
        units.append(
            FitUnit(
                unit_id=name,
                person_id=clips[0].person_id,
                task=tasks.pop() if len(tasks) == 1 else "",
                session=sessions.pop() if len(sessions) == 1 else "",
                fitted=evenly(rows, max_frames),
                held_back=evenly(held, max(1, max_frames // 4)),
            )
        )
    return units, too_short


MAX_SHAPES = 4
LOADING_THREADS = 8  # decoding is C++ that lets the other threads run


class Shape(NamedTuple):
    """What units of like length are padded to: rows and frames of the fit, and of what is held back from it."""

    rows: int
    frames: int
    held_rows: int
    held_frames: int


def frames_of(rows, scale: int, half_length: int) -> dict[int, np.ndarray]:
    """{record: positions, ascending} of the frames in the windows of `rows` (record, centre position)."""
    numbers = np.asarray(rows, np.int64).reshape(-1, 2)
    return {
        int(record): np.unique(window_positions(numbers[numbers[:, 0] == record, 1], scale, half_length))
        for record in np.unique(numbers[:, 0])
    }


def n_frames(rows, scale: int, half_length: int) -> int:
    """Frames in the windows of `rows`, each counted once."""
    return sum(len(positions) for positions in frames_of(rows, scale, half_length).values())


def shapes_of(jobs, half_length: int) -> tuple[Shape, ...]:
    """The few shapes, at most MAX_SHAPES, that the units of all `jobs` [(scale, units)] are padded to, ascending.

    So many compilations there are, for any mix of lengths, scales and halves.
    """
    units = [(scale, u) for scale, of_job in jobs for u in of_job]
    counts = [len(u.fitted) for _, u in units]
    lengths = [max(counts, default=1)]
    while len(lengths) < MAX_SHAPES and lengths[0] > 2 * min(counts, default=1):
        lengths.insert(0, -(-lengths[0] // 2))
    shapes = []
    for shorter, length in zip((0, *lengths), lengths):
        alike = [(scale, u) for scale, u in units if shorter < len(u.fitted) <= length]
        held = max((len(u.held_back) for _, u in alike), default=0)
        frames = [n_frames(u.fitted, scale, half_length) for scale, u in alike]
        of_held = [n_frames(u.held_back, scale, half_length) for scale, u in alike]
        if alike:
            shapes.append(Shape(length, max(frames), max(1, held), max(1, *of_held)))
    return tuple(shapes)


def by_shape(units, shapes) -> dict[Shape, list]:
    """The units of each of the ascending shapes: the first that they fit."""
    lengths = zip((0, *(s.rows for s in shapes)), shapes)
    return {shape: [u for u in units if shorter < len(u.fitted) <= shape.rows] for shorter, shape in lengths}


def place_windows(rows, scale: int, half_length: int):
    """A unit's frames, each once, and where among them its windows are.

    Returns: [(record, positions, ascending)], whose frames one behind the other are meant; windows [N, 2n+1] int32.
    """
    sources, numbers = frames_of(rows, scale, half_length), np.asarray(rows, np.int64).reshape(-1, 2)
    windows, before = np.zeros((len(numbers), 2 * half_length + 1), np.int32), 0
    for record, positions in sources.items():
        own = np.flatnonzero(numbers[:, 0] == record)
        windows[own] = before + np.searchsorted(positions, window_positions(numbers[own, 1], scale, half_length))
        before += len(positions)
    return list(sources.items()), windows


def load_units(face_clips, rows_of_units, n_rows: int, n_frames: int, scale: int, half_length: int):
    """Frames and windows of several units, padded: every frame is decoded and held once.

    Returns:
      frames [P, n_frames, H, W, C] uint8, windows [P, n_rows, 2n+1] int32 (rows of `frames`), row counts [P] int32.
    """
    people, size, channels = len(rows_of_units), face_clips.image_size, face_clips.channels
    frames = np.zeros((people, n_frames, size, size, channels), np.uint8)
    windows = np.zeros((people, n_rows, 2 * half_length + 1), np.int32)

    def load(p, rows):
        sources, own = place_windows(rows, scale, half_length)
        windows[p, : len(own)] = own
        before = 0
        for record, positions in sources:
            frames[p, before : before + len(positions)] = face_clips.frames(record, positions)
            before += len(positions)

    with concurrent.futures.ThreadPoolExecutor(LOADING_THREADS) as pool:
        list(pool.map(load, range(people), rows_of_units))
    return frames, windows, np.asarray([len(rows) for rows in rows_of_units], np.int32)


class TimeShuffled:
    """A reader whose frames come in a random order: the control that leaves a person's looks and takes the movement.

    `load_units` asks for all frames of a record that the unit's windows need, once; those are shuffled as a whole, before
    windows are cut. So no frame passes between what is fitted and what is held back, nor between a clip's halves.
    """

    def __init__(self, face_clips, seed: int):
        self._face_clips, self._seed = face_clips, seed

    def __getattr__(self, name):
        return getattr(self._face_clips, name)

    def frames(self, i: int, positions=None) -> np.ndarray:
        """As FaceClipsReader.frames, in an order that depends on the seed, the record and the number of frames."""
        return self.shuffle(i, self._face_clips.frames(i, positions))

    def unshuffled(self):
        """The reader whose frames these are."""
        return self._face_clips

    def shuffle(self, i: int, of_frames) -> np.ndarray:
        """What belongs to frames of record i, a row each, as `frames` orders them."""
        return of_frames[np.random.default_rng((self._seed, i)).permutation(len(of_frames))]

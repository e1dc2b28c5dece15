"""Which frames belong to which fit unit: the plan of a fit, and the windows of its units, on the host.

A unit's centre frames are split clip by clip: a share at each clip's end is held back for the quality columns, with so
much left out between that no frame is in a window of both. For identification the rest is cut into two equal halves.
"""

import dataclasses
from typing import overload

import numpy as np

from data_pipelines.dataset.windows import centre_positions, window_positions
from data_pipelines.picks import picks

UNITS = ("person", "person_task", "session", "clip")


@dataclasses.dataclass(frozen=True, eq=False)
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


def beginning(parts, clips, seconds: float, reach: int) -> list:
    """The centres whose windows lie in the first `seconds` of video of `parts`; nothing where there is not so much.

    parts: [(record, centre positions)]; clips: by record, with their `fps`. A window reaches `reach` frames to both sides.
    """
    left, kept = seconds, []
    for record, centres in parts:
        fps = clips[record].fps
        if left >= 0.5 / fps and len(centres):
            first = centres[0] - reach
            kept.append((record, centres[centres + reach < first + round(left * fps)]))
            left -= (centres[-1] + reach + 1 - first) / fps
    return kept if kept and left < 0.5 / clips[kept[-1][0]].fps else []


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


@overload
def evenly(rows: np.ndarray, most: int) -> np.ndarray: ...
@overload
def evenly(rows: list, most: int) -> list: ...
def evenly(rows, most):
    """At most `most` of the rows, a list or an array, evenly spaced."""
    chosen = picks(len(rows), most)
    return rows[chosen] if isinstance(rows, np.ndarray) else [rows[i] for i in chosen]


def _rows(parts) -> np.ndarray:
    """(record, centre position) of parts [(record, centre positions)]: int32 [N, 2]."""
    columns = [np.stack([np.full(len(centres), record), centres], 1) for record, centres in parts]
    return np.concatenate(columns).astype(np.int32) if columns else np.zeros((0, 2), np.int32)


def plan(
    face_clips,
    records,
    *,
    unit: str,
    scale: int,
    half_length: int,
    held_back: float,
    max_frames: int,
    min_frames: int,
    half: int = 0,
    seconds: float = 0.0,
):
    """(units in the order of their ids, {id of a unit with too few centre frames: how many it has}).

    `half` 1 or 2 keeps only the first or second half of each clip's fitted rows; what is held back is that of both. `seconds`
    above 0 keeps only what `beginning` does of it.
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
        if seconds:
            fitted = beginning(fitted, face_clips.clips, seconds, reach)
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


def frames_of(rows, scale: int, half_length: int) -> dict[int, np.ndarray]:
    """{record: positions, ascending} of the frames in the windows of `rows` (record, centre position)."""
    numbers = np.asarray(rows, np.int64).reshape(-1, 2)
    return {
        int(record): np.unique(window_positions(numbers[numbers[:, 0] == record, 1], scale, half_length))
        for record in np.unique(numbers[:, 0])
    }

"""Clips that were embedded and whose states are kept: clips join them and leave them, and people are fitted to what is there.

`Known` is a plain dict, and every function returns a new one: what it was before is the way back.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_pipelines.content import Known as KnownContent
from data_pipelines.dataset.clip_keys import clip_keys
from data_pipelines.dataset.face_clips import ClipInfo
from data_pipelines.errors import InputError
from data_pipelines.faces.quality import QualityRow, quality_table, row_from
from data_pipelines.progress import Progress
from data_pipelines.sources.listing import named
from facedyn.stages import embed_reuse
from facedyn.stages.fit.clip_states import ClipStates, StatesReader
from facedyn.stages.runtime import messages
from facedyn.store import state_files


class Named(NamedTuple):
    """What names the frames of a video: `key` with its clip's id (`clip_key`), `content` without, so that copies are found."""

    key: str
    content: str


class KnownClip(NamedTuple):
    """A clip that was embedded, or could not be.

    Attributes:
      row: of the table of videos, as the clip alone gives it.
      task, session: of the clip.
      named: its content.
      frame_indices: numbers of its frames, int32 [T]; of an unusable clip there are none.
      states: {scale: float32 [T, S, K]}.
    """

    row: QualityRow
    task: str
    session: str
    named: Named
    frame_indices: np.ndarray
    states: Mapping[int, np.ndarray]

    @property
    def usable(self) -> bool:
        """Whether it has frames."""
        return len(self.frame_indices) > 0

    @property
    def info(self) -> ClipInfo:
        """As a dataset has it."""
        row = self.row
        own = row.clip_id, row.person_id, self.task, self.session, "", row.fps
        return ClipInfo(*own, frame_indices=np.asarray(self.frame_indices, np.int32), traits=np.zeros(0, np.float32))


Known = dict[str, KnownClip]


def names_of(entries, settings, folder=None) -> dict[str, Named]:
    """{clip_id: Named} of clips; content that was read for the dataset in `folder` need not be read again."""
    known = KnownContent(folder)
    keys = clip_keys(entries, settings, known)
    contents = clip_keys([dataclasses.replace(entry, clip_id="") for entry in entries], settings, known)
    return {entry.clip_id: Named(*both) for entry, both in zip(entries, zip(keys, contents))}


def hashes(known: Known, made_with: str) -> dict[str, str]:
    """{person_id: hash} as `embed_reuse.hashes` has it."""
    clips = [(c.row.person_id, clip_id, c.named.key, c.task, c.session) for clip_id, c in known.items()]
    return embed_reuse.hashes(clips, made_with)


def reader(known: Known) -> StatesReader:
    """The usable clips, as a fit reads them."""
    return StatesReader(ClipStates(clip.info, clip.states) for clip in known.values() if clip.usable)


def videos(known: Known, more: pd.DataFrame | None = None) -> pd.DataFrame:
    """The table of videos, in the order of the clips' ids, and `more` of its rows."""
    table = quality_table([known[clip_id].row for clip_id in sorted(known)])
    return table if more is None or not len(more) else pd.concat([table, more], ignore_index=True)


def of_people(known: Known, people) -> Known:
    """The clips of these people."""
    return {clip_id: clip for clip_id, clip in known.items() if clip.row.person_id in people}


def without(known: Known, clip_id: str) -> Known:
    """All but one clip. Raises InputError where it is not there."""
    _refuse_unknown("clip", clip_id, known)
    return {name: clip for name, clip in known.items() if name != clip_id}


def without_person(known: Known, person_id: str) -> Known:
    """All but the clips of a person. Raises InputError for one who is not there."""
    people = {clip.row.person_id for clip in known.values()}
    _refuse_unknown("person", person_id, people)
    return of_people(known, people - {person_id})


def _refuse_unknown(what: str, name: str, there) -> None:
    if name not in there:
        near = difflib.get_close_matches(name, list(there), 1, 0.3)
        hint = f"the nearest id is {near[0]!r}" if near else f"there are {named(sorted(there))}" if there else "there is none"
        raise InputError(f"There is no {what} {name!r} in it, {hint}; nothing was removed.")


def new_entries(known: Known, entries, names: dict[str, Named]) -> list:
    """Those of the entries that are not known yet; a clip that is there already counts once, and a message says so.

    Raises InputError where an id is taken by another video, or a video is there as another person's.
    """
    by_content = {clip.named.content: clip for clip in known.values() if clip.usable}
    new, same = [], []
    for entry in entries:
        there = known.get(entry.clip_id)
        content = names[entry.clip_id].content
        if there is not None and there.usable and there.named.content != content:
            raise InputError(
                f"The clip {entry.clip_id!r} is in the table already, with another video: give the new one another id, or "
                "remove the old one first."
            )
        if there is None or there.named.content != content:
            there = by_content.get(content)
        if there is None:
            new.append(entry)
            continue
        _refuse_other(there, entry)
        same.append(entry.clip_id)
    if same:
        messages.warning(f"In the table already, and counted once: {named(same)}")
    return new


def _refuse_other(there: KnownClip, entry) -> None:
    """Raises InputError where the same video is there under another person, task or session."""
    row = there.row
    for what, before, now in (
        ("person", row.person_id, entry.person_id),
        ("session", there.session, entry.session),
        ("task", there.task, entry.task),
    ):
        if before != now:
            raise InputError(
                f"The video of clip {entry.clip_id!r} ({what} {now!r}) is in the table already, as clip {row.clip_id!r} "
                f"({what} {before!r}): leave it out, or remove that one first."
            )


def prepared(entries, names: dict[str, Named], usable, table, folder, made_with: str, scales) -> Known:
    """Clips as they were prepared: their rows of `table`, of videos; their frames, where they are among `usable` (ClipInfo).

    Their states lie in `folder`, or will.
    """
    rows = {row["clip_id"]: row_from(row) for row in table.to_dict("records")}
    frames = {clip.clip_id: clip.frame_indices for clip in usable}
    known = {}
    for entry in entries:
        own = names[entry.clip_id]
        path = folder / state_files.file_name(entry.clip_id, own.key, made_with)
        known[entry.clip_id] = KnownClip(
            row=rows[entry.clip_id],
            task=entry.task,
            session=entry.session,
            named=own,
            frame_indices=frames.get(entry.clip_id, np.zeros(0, np.int32)),
            states=state_files.States(path, scales),
        )
    return known


def encode(frames_to_states, generic, face_clips, known: Known) -> None:
    """Writes the files of states that are not there yet, by clip_states.make_encode; generic: {scale: Shared}."""
    records = {clip.clip_id: record for record, clip in enumerate(face_clips.clips)}
    todo = {}
    for name, clip in known.items():
        if clip.usable and isinstance(clip.states, state_files.States) and not clip.states.path.is_file():
            todo[records[name]] = clip, clip.states.path
    with Progress("states of faces", sum(len(clip.frame_indices) for clip, _ in todo.values()), "frames") as progress:
        for record, states in frames_to_states(generic, face_clips, list(todo), progress.advance):
            clip, path = todo[record]
            state_files.write(path, clip.row.person_id, states)


def read(folder, scales) -> tuple[Known, dict] | None:
    """(clips, what made them) of a folder of states, which are read when they are asked for; None where there are none."""
    index = state_files.read_index(folder)
    if index is None:
        return None
    known, made_with = {}, str(index.about.get("made_with"))
    for row in index.rows:
        path = folder / state_files.file_name(row["clip_id"], row["key"], made_with)
        known[row["clip_id"]] = KnownClip(
            row=row_from(row),
            task=row["task"],
            session=row["session"],
            named=Named(row["key"], row["content"]),
            frame_indices=np.asarray(row["frame_indices"], np.int32),
            states=state_files.States(path, scales),
        )
    return known, index.about


def index_of(known: Known, about: dict) -> state_files.Index:
    """The opposite of `read`, without the states."""
    rows = []
    for clip in (known[clip_id] for clip_id in sorted(known)):
        own = dict(task=clip.task, session=clip.session, **clip.named._asdict(), frame_indices=clip.frame_indices)
        rows.append(dataclasses.asdict(clip.row) | own)
    return state_files.Index(rows, about)


def in_memory(known: Known) -> Known:
    """The same with all states read."""
    return {clip_id: clip._replace(states=dict(clip.states) if clip.usable else {}) for clip_id, clip in known.items()}

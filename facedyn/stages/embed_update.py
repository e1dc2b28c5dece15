"""What was embedded, with clips joining and leaving: the tables of all clips from those before and the states that changed.

Pure: each function returns a new `State`, and takes only room for files that it needs on the way.
"""

from typing import NamedTuple

import pandas as pd

from data_pipelines.errors import InputError
from facedyn.stages import embed_clips, embed_reuse
from facedyn.stages.embed_clips import Known
from facedyn.stages.embed_reuse import Tables
from facedyn.stages.embed_videos import Videos
from facedyn.stages.embedder import Embedder, TooFewFrames
from facedyn.stages.runtime import messages


class State(NamedTuple):
    """Everything that was embedded so far: by what (`Embedder.made_with`), which clips, and the tables of them."""

    made_with: str
    known: Known
    tables: Tables


def empty(embedder: Embedder) -> State:
    """Nothing was embedded yet. Raises InputError for a model whose clips cannot be kept."""
    if not embedder.keeps_states():
        raise InputError(
            f"{embedder.model.name} finds filters by gradient descent, which needs all videos at once: embed all of them."
        )
    return State(embedder.made_with(), {}, embed_reuse.empty(embed_clips.videos({})))


def with_videos(embedder: Embedder, before: State, videos: Videos, work) -> State:
    """The state with the new ones among the videos. Raises InputError where a clip is there otherwise, or none can be used."""
    names = embed_clips.names_of(videos.entries, embedder.prepare_settings())
    entries = embed_clips.new_entries(before.known, videos.entries, names)
    if not entries:
        return before
    known = before.known | embed_clips.in_memory(embedder.known(videos._replace(entries=entries), names, work))
    return before._replace(known=known, tables=updated(embedder, before.tables, known, work, videos.left_out))


def without_clip(embedder: Embedder, before: State, clip_id: str, work) -> State:
    """The state without a clip. Raises InputError where it is not there, or is the only one."""
    known = embed_clips.without(before.known, clip_id)
    if not known:
        raise InputError(f"{clip_id!r} is the only clip: without it nothing would be left.")
    return before._replace(known=known, tables=updated(embedder, before.tables, known, work))


def updated(embedder: Embedder, before: Tables, known: Known, work, left_out: pd.DataFrame | None = None) -> Tables:
    """The tables of the clips `known`; people of the tables before whose clips are the same keep their rows.

    left_out: more rows of the table of videos, of files that are no videos.
    """
    people = embed_clips.hashes(known, embedder.made_with())
    same = embed_reuse.kept(before, people)
    changed = people.keys() - same.people.keys()
    own = _computed(embedder, embed_clips.of_people(known, changed), work, others=bool(len(same.representations)))
    tables = embed_reuse.merged(same, own._replace(people={who: people[who] for who in changed}))
    nobodys = [table.loc[table["person_id"] == ""] for table in (before.videos, left_out) if table is not None and len(table)]
    parts = [table for table in (tables.videos, *nobodys) if len(table)]
    videos = pd.concat(parts, ignore_index=True) if parts else tables.videos
    videos = videos.drop_duplicates("clip_id").sort_values("clip_id", kind="stable").reset_index(drop=True)
    return tables._replace(videos=videos)


def _computed(embedder: Embedder, known: Known, work, others: bool) -> Tables:
    """The tables of these clips alone. Where nobody has enough frames, that is an error unless there are `others`."""
    try:
        return embedder.embed_known(known, work) if known else embed_reuse.empty(embed_clips.videos({}))
    except TooFewFrames as error:
        if not others:
            raise
        messages.warning(f"embed: {error}")
        return embed_reuse.empty(embed_clips.videos({}) if embedder.videos is None else embedder.videos)

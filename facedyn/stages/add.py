"""The command `add`: takes new clips into a table of `embed`, or an old one out, without the videos that are in it.

People whose clips changed are fitted again from the states of all of their clips, which lie beside the table; nobody else is
touched. The result is that of `embed` of all the videos together.
"""

import pandas as pd

from data_pipelines.errors import InputError
from data_pipelines.progress import counted
from facedyn.stages import embed_clips, embed_reuse, embed_tables, embed_videos
from facedyn.stages.embed import check_name, make_embedder, states_of
from facedyn.stages.embed_clips import Known
from facedyn.stages.embedder import Embedder
from facedyn.stages.runtime import messages
from facedyn.store import lock

AGAIN = "run `facedyn embed` again on all videos"


def run(
    to: str,
    overrides: dict,
    videos: str | None = None,
    workdir: str | None = None,
    model: str | None = None,
    level: str | None = None,
    remove: str | None = None,
    remove_person: str | None = None,
) -> dict:
    """Changes the table at `to` and those beside it; returns a summary.

    One of: videos, of which new clips are taken in; remove, the id of a clip that is taken out; remove_person, the id of a
    person all of whose clips are. What is not finished lies in TO.unfinished, from where the same command continues; until it
    ends the table is as before. Raises InputError where the table is none of this model, level and settings, or has no states.
    """
    if sum(map(bool, (videos, remove, remove_person))) != 1:
        raise InputError("add needs one of three: VIDEOS to take in, --remove=CLIP_ID or --remove-person=ID to take out.")
    out = check_name(to, "to")
    embed_tables.finish(out)
    before, stored = embed_reuse.read(out), embed_clips.read(embed_reuse.places(out).states, ())
    if before is None:
        what = "is no table of `facedyn embed`" if out.exists() else "does not exist"
        raise InputError(f"--to={out} {what}: name one that `facedyn embed VIDEOS --out=FILE` wrote.")
    about = stored.about if stored else {}
    embedder = make_embedder(overrides, workdir, model, level or str(about.get("level", "person")))
    known = _checked(embedder, out, before, about)
    if videos:
        return _add(embedder, out, before, known, videos)
    rest = embed_clips.without(known, remove) if remove else embed_clips.without_person(known, remove_person or "")
    if not rest:
        places = ", ".join(str(place) for place in (out, *embed_reuse.places(out)) if place.exists())
        raise InputError(f"Nothing would be left in the table: delete it instead ({places}).")
    with lock.held(embed_tables.unfinished(out)):
        tables = _fitted(embedder, out, before, rest, pd.DataFrame())
    messages.info(f"add: {counted(len(known) - len(rest), 'clips')} taken out, and the states of them deleted")
    return embed_tables.summary(embedder, out, tables, "add")


def _checked(embedder: Embedder, out, before: embed_reuse.Tables, about: dict) -> Known:
    """The clips of the table. Raises InputError where it was not made by this embedder, or of other clips."""
    states = embed_reuse.places(out).states
    if not embedder.keeps_states():
        raise InputError(f"{embedder.model.name} finds filters by descent, which needs all videos at once: {AGAIN}.")
    if not {"made_with", "level", "model", "settings"} <= about.keys():
        raise InputError(f"{out} was made without states, or they are gone ({states}): {AGAIN}.")
    if embedder.level != about["level"]:
        raise InputError(f"--level={embedder.level}: a row of {out} is a {about['level']}, and stays one; leave --level out.")
    if embedder.made_with() != about["made_with"]:
        raise InputError(
            f"{out} was made by another model or with other settings ({about['model']}, {about['settings']}) than those of this "
            f"call ({embedder.model.name}, {embedder.model.settings}): give the same --model or --workdir, and the same "
            "--config options, as to embed."
        )
    known = states_of(embedder, out, before)
    if known is None:
        raise InputError(f"The states in {states} are not those of {out}: {AGAIN}.")
    return known


def _add(embedder: Embedder, out, before: embed_reuse.Tables, known: Known, videos) -> dict:
    found, work = embed_videos.collect(videos, embedder.config.data.person_pattern), embed_tables.unfinished(out)
    names = embed_clips.names_of(found.entries, embedder.prepare_settings(), work / "data")
    entries = embed_clips.new_entries(known, found.entries, names)
    if not entries:
        messages.info(f"add: {out} has all of these videos already: nothing to do")
        return embed_tables.summary(embedder, out, before, "add")
    with lock.held(work):
        new = embedder.known(found._replace(entries=entries), names, work)
        tables = _fitted(embedder, out, before, known | new, found.left_out)
    messages.info(f"add: {counted(len(new), 'clips')} taken in")
    return embed_tables.summary(embedder, out, tables, "add")


def _fitted(embedder: Embedder, out, before: embed_reuse.Tables, known: Known, left_out) -> embed_reuse.Tables:
    """Writes the tables of the clips `known`; people of the tables before whose clips are the same keep their rows."""
    people = embed_clips.hashes(known, embedder.made_with())
    same = embed_reuse.kept(before, people)
    changed = people.keys() - same.people.keys()
    own = _of(embedder, embed_clips.of_people(known, changed), embed_tables.unfinished(out), bool(len(same.representations)))
    tables = embed_reuse.merged(same, own._replace(people={who: people[who] for who in changed}))
    # Files that are no videos belong to nobody.
    nobodys = [table[table["person_id"] == ""] for table in (before.videos, left_out) if len(table)]
    of_videos = pd.concat([table for table in (tables.videos, *nobodys) if len(table)], ignore_index=True)
    of_videos = of_videos.drop_duplicates("clip_id").sort_values("clip_id", kind="stable").reset_index(drop=True)
    tables = tables._replace(videos=of_videos)
    embed_tables.write(embedder, out, tables, known)
    return tables


def _of(embedder: Embedder, known: Known, work, others: bool) -> embed_reuse.Tables:
    """The tables of these clips alone. Where nobody has enough frames, that is an error unless there are `others`."""
    table, predictions, seconds = pd.DataFrame(), pd.DataFrame(), {}
    try:
        if known:
            table, _, predictions, seconds = embedder.embed_known(known, work)
    except InputError as error:
        if not others:
            raise
        messages.warning(f"add: {error}")
    of_videos = embedder.videos if known else embed_clips.videos({})
    return embed_reuse.Tables(table, of_videos, predictions, {}, embed_reuse.as_table(seconds))

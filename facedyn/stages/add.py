"""The command `add`: takes new clips into a table of `embed`, or an old one out, without the videos that are in it.

People whose clips changed are fitted again from the states of all of their clips, which lie beside the table; nobody else is
touched. The result is that of `embed` of all the videos together.
"""

from data_pipelines.errors import InputError
from data_pipelines.progress import counted
from facedyn.stages import embed_clips, embed_reuse, embed_tables, embed_update, embed_videos
from facedyn.stages.embed import check_name, make_embedder, states_of
from facedyn.stages.embed_clips import Known
from facedyn.stages.embedder import Embedder
from facedyn.stages.runtime import messages

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
        raise InputError("add needs one of three: VIDEOS to add, --remove=CLIP_ID or --remove-person=ID to take clips out.")
    out = check_name(to, "to")
    embed_tables.finish(out)
    stamp = embed_tables.stamp(out)
    before, stored = embed_reuse.read(out), embed_clips.read(embed_reuse.places(out).states, ())
    if before is None:
        what = "is not a table of `facedyn embed`" if out.exists() else "does not exist"
        raise InputError(f"--to={out} {what}: name one that `facedyn embed VIDEOS --out=FILE` wrote.")
    about = stored[1] if stored else {}
    embedder = make_embedder(overrides, workdir, model, level or str(about.get("level", "person")))
    known = _checked(embedder, out, before, about)
    if videos:
        return _add(embedder, out, stamp, before, known, videos)
    rest = embed_clips.without(known, remove) if remove else embed_clips.without_person(known, remove_person or "")
    if not rest:
        places = ", ".join(str(place) for place in (out, *embed_reuse.places(out)) if place.exists())
        raise InputError(f"Nothing would be left in the table: delete it instead ({places}).")
    with embed_tables.held(out, stamp):
        tables = _write(embedder, out, before, rest)
    messages.info(f"add: {counted(len(known) - len(rest), 'clips')} taken out, and their states deleted")
    return embed_tables.summary(embedder, out, tables, "add")


def _checked(embedder: Embedder, out, before: embed_reuse.Tables, about: dict) -> Known:
    """The clips of the table. Raises InputError where it was not made by this embedder, or of other clips."""
    states = embed_reuse.places(out).states
    if not embedder.keeps_states():
        raise InputError(f"{embedder.model.name} finds filters by gradient descent, which needs all videos at once: {AGAIN}.")
    if not {"made_with", "level", "model", "settings"} <= about.keys():
        raise InputError(f"{out} was made without states, or they are gone ({states}): {AGAIN}.")
    if embedder.level != about["level"]:
        raise InputError(
            f"--level={embedder.level}: a row of {out} is a {about['level']}, which cannot change; leave --level out."
        )
    if embedder.made_with() != about["made_with"]:
        raise InputError(
            f"{out} was made by another model or with other settings ({about['model']}, {about['settings']}) than in this call "
            f"({embedder.model.name}, {embedder.model.settings}): give the same --model or --workdir, and the same "
            "--config options, as to embed."
        )
    known = states_of(embedder, out, before)
    if known is None:
        raise InputError(f"The states in {states} are not those of {out}: {AGAIN}.")
    return known


def _add(embedder: Embedder, out, stamp, before: embed_reuse.Tables, known: Known, videos) -> dict:
    found, work = embed_videos.collect(videos, embedder.config.data.person_pattern), embed_tables.unfinished(out)
    names = embed_clips.names_of(found.entries, embedder.prepare_settings(), work / "data")
    entries = embed_clips.new_entries(known, found.entries, names)
    if not entries:
        messages.info(f"add: {out} has all of these videos already: nothing to do")
        return embed_tables.summary(embedder, out, before, "add")
    with embed_tables.held(out, stamp):
        new = embedder.known(found._replace(entries=entries), names, work)
        tables = _write(embedder, out, before, known | new, found.left_out)
    messages.info(f"add: {counted(len(new), 'clips')} added")
    return embed_tables.summary(embedder, out, tables, "add")


def _write(embedder: Embedder, out, before: embed_reuse.Tables, known: Known, left_out=None) -> embed_reuse.Tables:
    """Writes the tables of the clips `known`, and returns them."""
    tables = embed_update.updated(embedder, before, known, embed_tables.unfinished(out), left_out)
    embed_tables.write(embedder, out, tables, known)
    return tables

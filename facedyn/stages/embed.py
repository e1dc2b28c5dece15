"""The command `embed`: videos of new people -> features, by a trained model, and what is known of their quality.

Beside OUT, named after it: `.quality` (a row as OUT has them), `.videos` (one row per video), `.representations.parquet` (the
long table, by which a repeat computes nothing again), `.states` (a folder, for `facedyn add`) and, where the model has trait
heads, `.predictions`.
"""

import pathlib

from data_pipelines.errors import InputError
from data_pipelines.progress import counted
from facedyn.stages import embed_clips, embed_model, embed_reuse, embed_tables, embed_videos
from facedyn.stages.embedder import Embedder, TooFewFrames
from facedyn.stages.runtime import common, compilation_cache, messages

SUFFIXES = (".parquet", ".csv")


def run(
    videos: str,
    out: str | pathlib.Path,
    overrides: dict,
    workdir: str | None = None,
    model: str | None = None,
    level: str | None = None,
    overwrite: bool = False,
    no_states: bool = False,
) -> dict:
    """Writes `out` and the tables beside it; returns a summary.

    People of an earlier table at `out` whose clips, settings and models are the same are kept; `overwrite` allows to replace
    the others. What is not finished lies in OUT.unfinished, from where the same command continues. no_states: keeps no states
    of the clips, so that `add` cannot take more of them in. Raises InputError.
    """
    out = check_name(out, "out")
    embed_tables.finish(out)
    stamp = embed_tables.stamp(out)
    embedder = make_embedder(overrides, workdir, model, level or "person")
    found = embed_videos.collect(videos, embedder.config.data.person_pattern)
    names = embed_clips.names_of(found.entries, embedder.prepare_settings(), embed_tables.unfinished(out) / "data")
    clips = [(entry.person_id, entry.clip_id, names[entry.clip_id].key, entry.task, entry.session) for entry in found.entries]
    people, before = embed_reuse.hashes(clips, embedder.made_with()), embed_reuse.read(out)
    keep = embedder.keeps_states() and not no_states
    known = states_of(embedder, out, before) if keep and before else {}
    if before and before.people == people and known is not None and (keep or not embed_reuse.places(out).states.exists()):
        messages.info(f"embed: {out} has these videos, settings and models already: nothing to do")
        return embed_tables.summary(embedder, out, before)
    if not overwrite and (before is None or before.people != people):
        embed_reuse.refuse(out, before, people)
    if known is None:
        messages.info(
            f"embed: {embed_reuse.places(out).states}, which `add` needs, is missing or of another table: "
            "everything is computed"
        )
    same = embed_reuse.kept(before, people) if before is not None and known is not None else None
    todo = [entry for entry in found.entries if not same or entry.person_id not in same.people]
    if same and same.people:
        kept, computed = counted(len(same.people), "people"), len(people) - len(same.people)
        messages.info(f"embed: {kept} kept from the existing table, {computed} to be computed")
    with embed_tables.held(out, stamp):
        own, new = _computed(embedder, found._replace(entries=todo), names if keep else None, out, same, people)
        tables = embed_reuse.merged(same, own)
        there = embed_clips.of_people(known, same.people) if known and same else {}
        embed_tables.write(embedder, out, tables, there | new if keep else None)
    return embed_tables.summary(embedder, out, tables)


def check_name(out: str | pathlib.Path, option: str) -> pathlib.Path:
    """The absolute path of a table. Raises InputError for a format that it cannot have."""
    path = pathlib.Path(out).absolute()
    if path.suffix not in SUFFIXES:
        raise InputError(f"--{option}={path.name} must end with .parquet or .csv, the formats it can be written in.")
    return path


def make_embedder(overrides: dict, workdir: str | None, model: str | None, level: str) -> Embedder:
    """The model that the options name, or the one in the package. Raises InputError."""
    if workdir and model:
        raise InputError("--workdir and --model both name a model: give one of them.")
    embedder = Embedder(embed_model.load(workdir or model, {"data.workers": 0} | overrides), level)
    compilation_cache.switch_on(embedder.config.compilation_cache)
    return embedder


def states_of(embedder: Embedder, out, before: embed_reuse.Tables) -> embed_clips.Known | None:
    """The clips whose states lie beside the table `before` at `out`; None where they are not those that it was made of."""
    stored = embed_clips.read(embed_reuse.places(out).states, common.scales(embedder.config))
    if stored is None:
        return None
    known, about = stored
    return known if embed_clips.hashes(known, str(about.get("made_with"))) == before.people else None


def _computed(embedder, videos, names, out, same, people) -> tuple[embed_reuse.Tables, embed_clips.Known]:
    """The tables of `videos` alone, and their clips, where states are kept (`names`).

    Where none of the videos can be used, that is an error unless others are kept.
    """
    found, known, work = embed_reuse.empty(videos.left_out), {}, embed_tables.unfinished(out)
    try:
        if videos.entries:
            if names is not None:
                known = embedder.known(videos, names, work)
                found = embedder.embed_known(known, work, videos.left_out)
            else:
                found = embedder.embed(videos, work)
    except InputError as error:
        useless = isinstance(error, TooFewFrames) or (
            embedder.videos is not None and not (embedder.videos["verdict"] == "ok").any()
        )
        if not same or not len(same.representations) or not useless:
            raise
        messages.warning(f"embed: {error}")
        if names is not None and not known:
            known = embedder.clips(videos, names, work / embed_tables.STATES)
    finally:
        if embedder.videos is not None and same is None:
            embed_tables.write_table(embedder.videos, embed_reuse.places(out).videos)  # says why none could be used
    of_videos = videos.left_out if embedder.videos is None else embedder.videos
    own = {entry.person_id for entry in videos.entries}
    hashes = {who: name for who, name in people.items() if who in own}
    return found._replace(videos=of_videos, people=hashes), known

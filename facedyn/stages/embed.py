"""The command `embed`: videos of new people -> features, by a trained model, and what is known of their quality.

Beside OUT, named after it: `.quality` (a row as OUT has them), `.videos` (one row per video), `.representations.parquet` (the
long table, by which a repeat computes nothing again) and, where the model has trait heads, `.predictions`.
"""

import json
import pathlib
import shutil

import numpy as np
import pandas as pd

from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path
from data_pipelines.progress import counted
from facedyn.stages import embed_model, embed_reuse, embed_videos
from facedyn.stages.embedder import Embedder
from facedyn.stages.runtime import compilation_cache, messages
from facedyn.store import lock, representations

SUFFIXES = (".parquet", ".csv")


def run(
    videos: str,
    out: str,
    overrides: dict,
    workdir: str | None = None,
    model: str | None = None,
    level: str | None = None,
    overwrite: bool = False,
) -> dict:
    """Writes `out` and the tables beside it; returns a summary.

    People of an earlier table at `out` whose clips, settings and models are the same are kept; `overwrite` allows to replace
    the others. What is not finished lies in OUT.unfinished, from where the same command continues. Raises InputError.
    """
    out = pathlib.Path(out).absolute()
    if out.suffix not in SUFFIXES:
        raise InputError(f"--out={out.name} must end with .parquet or .csv, the formats it can be written in.")
    if workdir and model:
        raise InputError("--workdir and --model both name a model: give one of them.")
    embedder = Embedder(embed_model.load(workdir or model, {"data.workers": 0} | overrides), level or "person")
    compilation_cache.switch_on(embedder.config.compilation_cache)
    found = embed_videos.collect(videos, embedder.config.data.person_pattern)
    people = embed_reuse.hashes_of_people(found.entries, embedder.prepare_settings(), embedder.made_with())
    before = embed_reuse.read(out)
    if before and before.people == people:
        messages.info(f"embed: {out} is of these videos, settings and models already: nothing to do")
        return _summary(embedder, out, before)
    if not overwrite:
        embed_reuse.refuse(out, before, people)
    same = embed_reuse.kept(before, people)
    todo = [entry for entry in found.entries if not same or entry.person_id not in same.people]
    if same and same.people:
        kept, computed = counted(len(same.people), "people"), len(people) - len(same.people)
        messages.info(f"embed: {kept} kept from the table that is there, {computed} to be computed")
    work = out.with_suffix(".unfinished")
    with lock.held(work):
        tables = embed_reuse.merged(same, _computed(embedder, found._replace(entries=todo), work, out, same, people))
        _write_tables(embedder, out, tables)
        shutil.rmtree(work)
    return _summary(embedder, out, tables)


def _computed(embedder, videos, work, out, same, people) -> embed_reuse.Tables:
    """The tables of `videos` alone. Where none of them can be used, that is an error unless others are kept."""
    table, predictions, seconds = pd.DataFrame(), pd.DataFrame(), {}
    try:
        if videos.entries:
            table, _, predictions, seconds = embedder.embed(videos, work)
    except InputError as error:
        if not same or not len(same.representations) or embedder.videos is None:
            raise
        messages.warning(f"embed: {error}")
    finally:
        if embedder.videos is not None and same is None:
            _write(embedder.videos, embed_reuse.places(out).videos)
    of_videos = videos.left_out if embedder.videos is None else embedder.videos
    own = {entry.person_id for entry in videos.entries}
    hashes = {who: name for who, name in people.items() if who in own}
    return embed_reuse.Tables(table, of_videos, predictions, hashes, embed_reuse.as_table(seconds))


def _write_tables(embedder, out, tables) -> None:
    places = embed_reuse.places(out)
    seconds = embed_reuse.as_dict(tables.seconds)
    _write(tables.videos, places.videos)
    if len(tables.predictions):
        _write(tables.predictions, places.predictions)
    else:
        places.predictions.unlink(missing_ok=True)
    table = tables.representations
    _write(embedder.quality(table, tables.videos, seconds).reset_index(), places.quality)
    _write(embedder.features(table).reset_index(), out)
    rows = table.drop(columns="representation").to_dict("records")
    about = {"people": tables.people, "seconds": tables.seconds.to_dict("list")}
    metadata = {embed_reuse.METADATA: json.dumps(about).encode()}
    # Last: without it the others count for nothing.
    representations.write_table(places.representations, rows, np.stack(table["representation"]), metadata)


def _summary(embedder, out, tables) -> dict:
    """Prints and returns what is in the tables."""
    places, table = embed_reuse.places(out), tables.representations
    used, n = int((tables.videos["verdict"] == "ok").sum()), len(tables.videos)
    people, length = table["person_id"].nunique(), len(embedder.feature_names())
    quality = embedder.quality(table, tables.videos, embed_reuse.as_dict(tables.seconds))
    reliable, rows = int(quality["reliable"].sum()), int((quality["n_frames"] > 0).sum())
    if used < n:
        print(f"embed: {used} of {n} videos used; {places.videos} says why not the others")
    if len(tables.predictions):
        print(f"embed: predictions of {counted(tables.predictions['trait'].nunique(), 'traits')} in {places.predictions}")
    unsure = "" if reliable == rows else f"; {rows - reliable} not reliable, {places.quality} says why"
    print(f"embed: {counted(people, 'people')}, {counted(rows, 'rows')} of {length:,} features in {out}{unsure}")
    return {"people": people, "rows": len(table), "videos": n, "videos_used": used, "reliable": reliable}


def _write(table, path) -> None:
    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False)

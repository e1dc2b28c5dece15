"""Writes what `embed` and `add` found beside OUT, all of it or nothing, and says what is in it.

New files are made in a folder within OUT.unfinished, which is renamed when all are there: from then on the new table counts.
The next command finishes the work of one that was killed while it put the files in their places.
"""

import contextlib
import json
import os
import pathlib
import shutil

import numpy as np

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path, write_text
from data_pipelines.progress import counted
from facedyn.stages import embed_clips, embed_reuse
from facedyn.stages.embed_clips import Known
from facedyn.stages.embed_reuse import Tables
from facedyn.store import lock, representations, state_files

# Folders of OUT.unfinished: files that are being made; all files, of which some may be in their places.
NEW, WHOLE = "new", "whole"
STATES = "states"
ABSENT = "absent.json"  # names of what is not to be beside OUT any more


def unfinished(out) -> pathlib.Path:
    """The folder of what is not finished."""
    return pathlib.Path(out).with_suffix(".unfinished")


def about(embedder) -> dict:
    """What a folder of states says of how it was made."""
    model = embedder.model
    return dict(made_with=embedder.made_with(), level=embedder.level, model=model.name, settings=model.settings)


def write(embedder, out, tables: Tables, known: Known | None) -> None:
    """Replaces the tables at `out`, and the folder of states beside them, by these; None: there are no states."""
    places = embed_reuse.places(out)
    work, table, absent = unfinished(out), tables.representations, []
    shutil.rmtree(work / NEW, ignore_errors=True)

    def new(place):
        return work / NEW / place.name

    if known is None:
        absent.append(places.states.name)
    else:
        state_files.write_index(new(places.states) / state_files.INDEX, embed_clips.index_of(known, about(embedder)))
    if len(tables.predictions):
        write_table(tables.predictions, new(places.predictions))
    else:
        absent.append(places.predictions.name)
    write_table(tables.videos, new(places.videos))
    write_table(embedder.quality(tables).reset_index(), new(places.quality))
    write_table(embedder.features(table).reset_index(), new(out))
    rows, vectors = table.drop(columns="representation").to_dict("records"), np.stack(list(table["representation"]))
    representations.write_table(new(places.representations), rows, vectors, embed_reuse.about(tables))
    write_text(work / NEW / ABSENT, json.dumps(absent))
    os.replace(work / NEW, work / WHOLE)  # from here on the new table counts
    _put_in_place(out)


def stamp(out) -> tuple | None:
    """Tells a table from the one that another command puts in its place; None where there is none."""
    try:
        status = os.stat(embed_reuse.places(out).representations)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def held(out, before: tuple | None):
    """Nobody else changes the table in the block. Raises InputError where it is not the one of the stamp `before` any more."""
    with lock.held(unfinished(out)):
        if stamp(out) != before or (unfinished(out) / WHOLE).is_dir():
            raise InputError(f"{out} was just replaced by another command: run this one again.")
        yield


def finish(out) -> None:
    """Puts the files in their places of a command that was killed while it did so."""
    if (unfinished(out) / WHOLE).is_dir():
        with lock.held(unfinished(out)):
            _put_in_place(out)


def _put_in_place(out) -> None:
    """Each step may have been done before."""
    work, places = unfinished(out), embed_reuse.places(out)
    whole, index = work / WHOLE, work / WHOLE / places.states.name / state_files.INDEX
    absent = bounded.read_json(whole / ABSENT) if (whole / ABSENT).is_file() else []
    if places.states.name in absent:
        state_files.remove(places.states)
    elif index.is_file():
        places.states.mkdir(exist_ok=True)
        for name in state_files.files_of(index.parent):
            if (work / STATES / name).is_file():
                os.replace(work / STATES / name, places.states / name)
        os.replace(index, places.states / state_files.INDEX)
    if places.predictions.name in absent:
        places.predictions.unlink(missing_ok=True)
    # The long table last: without it the others count for nothing.
    for place in (places.videos, places.predictions, places.quality, pathlib.Path(out), places.representations):
        if (whole / place.name).is_file():
            os.replace(whole / place.name, place)
    state_files.sweep(places.states)
    shutil.rmtree(work)


def summary(embedder, out, tables: Tables, stage: str = "embed") -> dict:
    """Prints and returns what is in the tables."""
    places, table = embed_reuse.places(out), tables.representations
    used, n = int(np.sum(tables.videos["verdict"] == "ok")), len(tables.videos)
    people, length = len(set(table["person_id"])), len(embedder.feature_names())
    quality = embedder.quality(tables)
    reliable, rows = int(quality["reliable"].sum()), int((quality["n_frames"] > 0).sum())
    if used < n:
        print(f"{stage}: {used} of {n} videos used; {places.videos} says why the others were not")
    if len(tables.predictions):
        print(f"{stage}: predictions of {counted(len(set(tables.predictions['trait'])), 'traits')} in {places.predictions}")
    unsure = "" if reliable == rows else f"; {rows - reliable} not reliable, {places.quality} says why"
    print(f"{stage}: {counted(people, 'people')}, {counted(rows, 'rows')} of {length:,} features in {out}{unsure}")
    return {"people": people, "rows": len(table), "videos": n, "videos_used": used, "reliable": reliable}


def write_table(table, path) -> None:
    """Writes one of the tables, in the format that the name says."""
    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False)

"""What an earlier `embed` has left that need not be computed again: people whose clips, settings and model are the same.

The table says in its metadata by which clips each person's rows were made, as hashes of their content.
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from data_pipelines import bounded, content
from data_pipelines.errors import InputError
from facedyn.store.scores import ScoreKey

METADATA = b"facedyn.embed"


class Tables(NamedTuple):
    """What comes of some videos.

    Attributes:
      representations: one row per fit unit and scale, as the table of representations has them, and `verdict`,
        `representation`.
      videos: one row per video; `reason` says why one was left out.
      predictions: person_id, head, scales, tasks, fusion, note, trait, prediction; no rows where the model has no heads.
      people: {person_id: hash of what the rows were made of}.
      seconds: person_id, name (of a row of the features, as JSON), seconds of video.
    """

    representations: pd.DataFrame
    videos: pd.DataFrame
    predictions: pd.DataFrame
    people: dict[str, str]
    seconds: pd.DataFrame


def empty(videos: pd.DataFrame) -> Tables:
    """Of videos of which nothing came."""
    return Tables(pd.DataFrame(), videos, pd.DataFrame(), {}, as_table({}))


class Places(NamedTuple):
    """Where the tables lie beside the features."""

    representations: pathlib.Path
    quality: pathlib.Path
    videos: pathlib.Path
    predictions: pathlib.Path
    states: pathlib.Path


def as_table(seconds: dict) -> pd.DataFrame:
    """{name of a row, a text or a tuple that begins with the person: seconds} as a table."""
    rows = [(name if isinstance(name, str) else name[0], json.dumps(name), value) for name, value in seconds.items()]
    return pd.DataFrame(rows, columns=["person_id", "name", "seconds"])


def as_dict(seconds: pd.DataFrame) -> dict:
    """The opposite of `as_table`."""
    names = [json.loads(name) for name in seconds["name"]]
    return dict(zip((tuple(name) if isinstance(name, list) else name for name in names), seconds["seconds"]))


def hashes(clips, made_with: str) -> dict[str, str]:
    """{person_id: hash}: of the content of the person's clips, their tasks and sessions, the settings and the models.

    clips: (person_id, clip_id, key, task, session) of each.
    """
    parts = {}
    for person, *of_clip in clips:
        parts.setdefault(person, []).append(of_clip)
    return {person: content.named([sorted(own), made_with]) for person, own in parts.items()}


def places(out) -> Places:
    """Where the tables lie beside the features `out`, in its format but for the long one."""
    out = pathlib.Path(out)
    quality, videos, predictions = (out.with_suffix(f".{name}{out.suffix}") for name in ("quality", "videos", "predictions"))
    return Places(out.with_suffix(".representations.parquet"), quality, videos, predictions, out.with_suffix(".states"))


def read(out) -> Tables | None:
    """The tables that lie at `out`; None where there is none, or it is none of `embed`."""
    beside, out = places(out), pathlib.Path(out)
    try:
        table = bounded.read_table(beside.representations)
        about = json.loads((table.schema.metadata or {})[METADATA])
        rows = table.to_pandas()
        rows["representation"] = [np.asarray(row, np.float32) for row in rows["representation"]]
        predicted = _read(beside.predictions) if beside.predictions.is_file() else pd.DataFrame()
        if not out.is_file() or not beside.quality.is_file():
            return None
        seconds = pd.DataFrame(about["seconds"], columns=list(as_table({})))
        return Tables(rows, _read(beside.videos), predicted, dict(about["people"]), seconds)
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def about(tables: Tables) -> dict[bytes, bytes]:
    """The metadata of the long table; each person is an item of its own, so that `facedyn forget` can take one out."""
    return {METADATA: json.dumps({"people": tables.people, "seconds": tables.seconds.to_dict("records")}).encode()}


def _read(path) -> pd.DataFrame:
    if path.suffix != ".csv":
        return bounded.read_table(path).to_pandas()
    texts = ("clip_id", "person_id", "unit_id", "path", "verdict", "reason", *ScoreKey._fields, "trait")
    table = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values={})
    return table.assign(**{name: pd.to_numeric(table[name], "coerce") for name in table if name not in texts})


def refuse(out, before: Tables | None, people: dict[str, str]) -> None:
    """Raises InputError, which says what differs, where the table at `out` would be replaced and --overwrite is not given."""
    if not pathlib.Path(out).exists():
        return
    if before is None:
        raise InputError(f"--out={out} exists and is not a table of `facedyn embed`: name another file, or add --overwrite.")
    new, gone = people.keys() - before.people.keys(), before.people.keys() - people.keys()
    changed = {person for person in people.keys() & before.people.keys() if people[person] != before.people[person]}
    found = {"new": new, "changed": changed, "no longer there": gone}
    differs = ", ".join(f"{len(who)} {word}" for word, who in found.items() if who)
    raise InputError(
        f"--out={out} holds a table of other videos, settings or models (people: {differs}): name another file, or add "
        "--overwrite, which keeps the people who are the same."
    )


def kept(before: Tables, people: dict[str, str]) -> Tables:
    """The part of the earlier tables that is about people who are the same."""
    same = {person for person, own in people.items() if before.people.get(person) == own}

    def of_same(table):
        return table[table["person_id"].isin(same)] if len(table) else table

    representations, videos, predictions, seconds = map(of_same, (*before[:3], before.seconds))
    return Tables(representations, videos, predictions, {person: people[person] for person in sorted(same)}, seconds)


def merged(first: Tables | None, second: Tables) -> Tables:
    """Both parts as one, sorted as `embed` sorts."""
    if first is None:
        return second
    rows, videos, predictions, seconds = (
        pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else parts[1]
        for parts in zip((*first[:3], first.seconds), (*second[:3], second.seconds))
    )
    rows = rows.sort_values(["unit_id", "scale"], kind="stable").reset_index(drop=True)
    videos = videos.sort_values("clip_id", kind="stable").reset_index(drop=True)
    return Tables(rows, videos, predictions, first.people | second.people, seconds)

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
from data_pipelines.dataset.clip_keys import clip_keys
from data_pipelines.errors import InputError

METADATA = b"facedyn.embed"


class Tables(NamedTuple):
    """The three tables of an `embed`, and {person_id: hash of what the rows were made of}."""

    representations: pd.DataFrame
    quality: pd.DataFrame
    predictions: pd.DataFrame
    people: dict[str, str]


def hashes_of_people(entries, settings, made_with: str) -> dict[str, str]:
    """{person_id: hash}: of the content of the person's clips, their tasks and sessions, the settings and the models."""
    parts = {}
    for entry, key in zip(entries, clip_keys(entries, settings)):
        parts.setdefault(entry.person_id, []).append([entry.clip_id, key, entry.task, entry.session])
    return {person: content.named([sorted(own), made_with]) for person, own in parts.items()}


def places(out) -> tuple[pathlib.Path, pathlib.Path]:
    """Where the tables of quality and of predictions lie beside the table `out`."""
    out = pathlib.Path(out)
    return out.with_suffix(".quality.parquet"), out.with_suffix(".predictions.parquet")


def read(out) -> Tables | None:
    """The tables that lie at `out`; None where there is none, or it is none of `embed`."""
    quality, predictions = places(out)
    try:
        table = bounded.read_table(out)
        people = json.loads((table.schema.metadata or {})[METADATA])
        rows = table.to_pandas()
        rows["representation"] = [np.asarray(row, np.float32) for row in rows["representation"]]
        predicted = bounded.read_table(predictions).to_pandas() if predictions.is_file() else pd.DataFrame()
        return Tables(rows, bounded.read_table(quality).to_pandas(), predicted, dict(people))
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def refuse(out, before: Tables | None, people: dict[str, str]) -> None:
    """Raises InputError, which says what differs, where the table at `out` would be replaced and --overwrite is not given."""
    if not pathlib.Path(out).exists():
        return
    if before is None:
        raise InputError(f"--out={out} exists and is no table of `facedyn embed`: name another file, or add --overwrite.")
    new, gone = people.keys() - before.people.keys(), before.people.keys() - people.keys()
    changed = {person for person in people.keys() & before.people.keys() if people[person] != before.people[person]}
    found = {"new": new, "changed": changed, "no longer there": gone}
    differs = ", ".join(f"{len(who)} {word}" for word, who in found.items() if who)
    raise InputError(
        f"--out={out} holds a table of other videos, settings or models (people: {differs}): name another file, or add "
        "--overwrite, which keeps the people who are the same."
    )


def kept(before: Tables | None, people: dict[str, str]) -> Tables | None:
    """The part of the earlier tables that is about people who are the same."""
    if before is None:
        return None
    same = {person for person, own in people.items() if before.people.get(person) == own}

    def of_same(table):
        return table[table["person_id"].isin(same)] if len(table) else table

    tables = map(of_same, before[:3])
    return Tables(*tables, {person: people[person] for person in sorted(same)})


def merged(first: Tables | None, second: Tables) -> Tables:
    """Both parts as one, sorted as `embed` sorts."""
    if first is None:
        return second
    joined = [
        pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else parts[1]
        for parts in zip(first[:3], second[:3])
    ]
    rows, quality, predictions = joined
    rows = rows.sort_values(["unit_id", "scale"], kind="stable").reset_index(drop=True)
    quality = quality.sort_values("clip_id", kind="stable").reset_index(drop=True)
    return Tables(rows, quality, predictions, first.people | second.people)

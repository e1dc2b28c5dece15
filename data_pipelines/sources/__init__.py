"""Manifest makers: one module for each known data set or layout, each turning a local folder into a manifest and notes.

Nothing is downloaded and no frame is decoded here; whether a clip can be used is for prepare to find out.
"""

import dataclasses
import json
import os
import pathlib

import pandas as pd

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.faces.quality import QualityRow, quality_table
from data_pipelines.files import atomic_path, write_text
from data_pipelines.manifest import write_manifest
from data_pipelines.sources import chalearn_first_impressions, deep_personality, folder, openface_folders, udiva, voxceleb
from data_pipelines.sources.collection import PROTOCOLS, Collection, SourceSettings
from data_pipelines.sources.listing import is_text, named
from data_pipelines.sources.split_names import apply_protocol

# {name for config.data.dataset: SourceSettings -> Collection, which raises InputError where the folder is another one}
SOURCES = {
    "chalearn_first_impressions": chalearn_first_impressions.collect,
    "deep_personality": deep_personality.collect,
    "udiva": udiva.collect,
    "openface": openface_folders.collect,
    "voxceleb": voxceleb.collect,
    "folder": folder.collect,
}

__all__ = ["SOURCES", "Collection", "SourceSettings", "add_left_out", "make_manifest"]


def make_manifest(name: str, settings: SourceSettings, place) -> Collection:
    """Lists the folder `settings.source` of the data set `name` and writes `place` (a CSV) and, beside it, a JSON.

    The JSON holds where the manifest came from and what was decided on the way. Raises InputError for a setting that cannot
    be, or a folder that is not the data set's.
    """
    if settings.split_protocol not in PROTOCOLS:
        raise InputError(f"config.data.split_protocol is {settings.split_protocol!r}; it must be {' or '.join(PROTOCOLS)}.")
    if not 0 <= settings.source_fps <= 10_000:
        raise InputError(f"config.data.source_fps is {settings.source_fps}; it must be frames per second, or 0.")
    if not settings.source.is_dir():
        raise InputError(f"There is no folder {settings.source}; config.data.source must name your copy of {name}.")
    if not os.access(settings.source, os.R_OK | os.X_OK) or not is_text(str(settings.source)):
        raise InputError(f"The folder {str(settings.source)!a} cannot be read; allow it, or give it a name in UTF-8.")
    collection = apply_protocol(SOURCES[name](settings), settings.split_protocol)
    notes = list(collection.notes)
    for reason in dict.fromkeys(collection.left_out.values()):
        files = [file for file, why in collection.left_out.items() if why == reason]
        notes.append(f"Left out, as {reason}: {named(files)}.")
    place = pathlib.Path(place)
    write_manifest(place, collection.entries, collection.trait_names)
    provenance = {
        "dataset": name,
        "source": str(settings.source),
        "split_protocol": settings.split_protocol,
        "clips": len(collection.entries),
        "people": len({entry.person_id for entry in collection.entries}),
        "traits": list(collection.trait_names),
        "flips": collection.flips,
        "missing": list(collection.missing),
        "extra": list(collection.extra),
        "left_out": collection.left_out,
        "notes": notes,
    }
    write_text(place.with_suffix(".json"), json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    return dataclasses.replace(collection, notes=tuple(notes))


def add_left_out(manifest_json, quality_path) -> int:
    """Adds a row to the quality table for each file that the source left out of the manifest; returns how many there are."""
    provenance = bounded.read_json(manifest_json)
    rows = [
        QualityRow(file, "", str(pathlib.Path(provenance["source"], file))).left_out(f"Left out, as {reason}.")
        for file, reason in provenance["left_out"].items()
    ]
    if rows:
        table = pd.concat([pd.read_parquet(quality_path), quality_table(rows)], ignore_index=True)
        with atomic_path(quality_path) as temporary:
            table.to_parquet(temporary, index=False)
    return len(rows)

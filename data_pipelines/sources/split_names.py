"""The official split of a data set, or one by person: what the folders say of splits, and what the user asked for."""

import dataclasses
import re

from data_pipelines.sources.collection import Collection
from data_pipelines.sources.listing import named

FOLDER = re.compile(r"(train|val|test)(ing|id|idate|idation)?(\d+(?:[_-]\d+)?|[_.-].*)?", re.IGNORECASE)
NAMES = {"train": "train", "val": "validation", "test": "test"}


def split_of(name: str) -> str:
    """The split that a folder's name means, or '': train, TRAIN, valid_data, validate, validation80_03, test-1e, ..."""
    match = FOLDER.fullmatch(name)
    return NAMES[match[1].lower()] if match else ""


def apply_protocol(collection: Collection, protocol: str) -> Collection:
    """Empties every split when it is to be disjoint by person (prepare then deals people out); else says who is in several."""
    entries, notes = collection.entries, list(collection.notes)
    if protocol == "person_disjoint":
        return dataclasses.replace(collection, entries=tuple(dataclasses.replace(entry, split="") for entry in entries))
    splits, of_train = {}, {}  # of_train: of each other split's clips whether they show someone of train
    for entry in entries:
        if entry.split:
            splits.setdefault(entry.person_id, set()).add(entry.split)
    several = sorted(person for person, found in splits.items() if len(found) > 1)
    if several:
        for entry in entries:
            if entry.split and entry.split != "train":
                of_train.setdefault(entry.split, []).append("train" in splits[entry.person_id])
        shares = ", ".join(f"{100 * sum(c) / len(c):.0f} % of the {split} clips" for split, c in sorted(of_train.items()))
        notes.append(
            f"The official split is not disjoint by person: {len(several)} of {len(splits)} people are in several splits "
            f"({named(several)}), {shares} show someone of train; --config.data.split_protocol=person_disjoint parts them."
        )
    return dataclasses.replace(collection, notes=tuple(notes))

"""The labels of ChaLearn First Impressions V2: annotation pickles -> a row of traits for each clip.

The stored key `neuroticism` holds emotional stability: high is stable. It is handed on under that name; `neuroticism` is
what the word says, 1 minus it.
"""

import dataclasses
import math
import re

from data_pipelines.errors import InputError
from data_pipelines.sources.listing import named, noted
from data_pipelines.sources.restricted_pickle import load
from data_pipelines.sources.split_names import split_of

FILE = re.compile(r"annotations?_(\w+)\.pkl", re.IGNORECASE)
CLIP = re.compile(r"[A-Za-z0-9_-]{11}\.\d{3}")
NO_CLIP = "its name is not that of a clip of First Impressions, an 11-character video id and a number of three digits"
TRAITS = (
    *("extraversion", "emotional_stability", "neuroticism"),
    *("agreeableness", "conscientiousness", "openness", "interview"),
)
STORED = ("extraversion", "neuroticism", "agreeableness", "conscientiousness", "openness", "interview")
FLIPS = {"neuroticism": "1 - the stored value: the stored key 'neuroticism' holds emotional stability (high = stable)"}
POLARITY = (
    "ChaLearn's key 'neuroticism' holds emotional stability (high = stable): it is the trait emotional_stability, "
    "and the trait neuroticism is 1 - it."
)


@dataclasses.dataclass(frozen=True)
class Labels:
    """`splits` {clip id: split} and `traits` {clip id: values in the order of TRAITS, NaN where not known}."""

    splits: dict[str, str]
    traits: dict[str, tuple[float, ...]]
    notes: tuple[str, ...]


def person_of(clip_id: str) -> str:
    """The id of the YouTube video, 11 characters that may be dashes and underscores too."""
    return clip_id[:11]


def is_labels_file(path) -> bool:
    """True for annotation_training.pkl and its like; transcriptions are none."""
    return bool(_split_named(path))


def _split_named(path) -> str:
    match = FILE.fullmatch(path.name)
    return split_of(match[1]) if match else ""


def read_labels(paths) -> Labels:
    """Reads the annotation files among `paths`. Raises InputError for one that is none or that contradicts another."""
    splits, traits, notes, read, strange = {}, {}, [], {}, []
    for path in filter(is_labels_file, paths):
        split = _split_named(path)
        values = _values(path)
        if split in read:
            if str(sorted(read[split][1].items())) != str(sorted(values.items())):  # as text, in which one NaN is like another
                raise InputError(f"{read[split][0]} and {path} hold different labels of the split {split}; keep one of them.")
            continue
        read[split] = (path, values)
        doubled = sorted(clip for clip in values if clip in splits)
        if doubled:
            notes.append(f"{named(doubled)} are labelled in {path.name} too; the labels of {splits[doubled[0]]} count.")
        for clip, row in values.items():
            if not CLIP.fullmatch(clip):
                strange.append(clip)
                continue
            splits.setdefault(clip, split)
            traits.setdefault(clip, row)
    notes.append(POLARITY if read else "No file annotation_*.pkl was found: no clip has labels.")
    notes += noted(strange, "labels are of names that no clip has, and are not used")
    gaps = {name: sum(math.isnan(row[i]) for row in traits.values()) for i, name in enumerate(TRAITS)}
    gaps = [f"{name} of {n}" for name, n in gaps.items() if n]
    if gaps:
        notes.append(f"Labels that are missing or not numbers are empty cells: {', '.join(gaps)} clips.")
    return Labels(splits, traits, tuple(notes))


def _values(path):
    """{clip id: values in the order of TRAITS}."""
    data = load(path)
    tables = {key: data.get(key) for key in STORED} if isinstance(data, dict) else {}
    if not any(isinstance(table, dict) for table in tables.values()):
        raise InputError(f"The pickle {path} holds no labels by trait, {', '.join(STORED)}; get the original file again.")
    by_trait = {key: table if isinstance(table, dict) else {} for key, table in tables.items()}
    files = dict.fromkeys(file for table in by_trait.values() for file in table if isinstance(file, str))
    values = {}
    for file in files:
        row = {key: _number(by_trait[key].get(file)) for key in STORED}
        row["emotional_stability"] = row["neuroticism"]
        row["neuroticism"] = 1.0 - row["neuroticism"]
        values[re.sub(r"\.mp4$", "", file.rpartition("/")[2], flags=re.IGNORECASE)] = tuple(row[name] for name in TRAITS)
    return values


def _number(value):
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if good else math.nan

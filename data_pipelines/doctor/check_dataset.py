"""Doctor: is the prepared dataset the one that the manifest and the settings of today would give?"""

import pathlib

import numpy as np
import pandas as pd

from data_pipelines import bounded
from data_pipelines.content import Known
from data_pipelines.dataset import disk_space, growth, packing
from data_pipelines.dataset.clip_keys import clip_key
from data_pipelines.dataset.face_clips import NAME, open_face_clips, read_quality
from data_pipelines.doctor.defects import defect, defects_of, share
from data_pipelines.errors import InputError
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.remote import is_url

# What the checks and the report need of the quality table; tables of older versions lack columns that came later.
TEXT = ("clip_id", "person_id", "path", "verdict", "reason")
NUMBERS = ("n_decoded", "n_found", "n_kept", "n_two_faces", "n_gaps", "share_found", "jitter", "brightness", "sharpness", "fps")


def read_quality_table(path) -> pd.DataFrame:
    """The quality table; raises InputError when the file is none."""
    table = bounded.read_table(path).to_pandas()
    for name in TEXT + NUMBERS:
        if name not in table:
            raise InputError(f"{path} is not a quality table: it has no column {name!r}.")
        if pd.api.types.is_numeric_dtype(table[name]) == (name in TEXT):
            raise InputError(f"{path} is not a quality table: its column {name!r} holds {table[name].dtype}.")
    return table


def dataset_defects(data_dir, entries, splits, settings: PrepareSettings) -> list:
    """Defects of the dataset under `data_dir` against the manifest's entries; [] where nothing has been prepared yet."""
    data_dir = pathlib.Path(data_dir)
    if not (data_dir / NAME).is_dir():
        return []
    try:
        reader = open_face_clips(data_dir)
        made = read_quality(reader.folder)
    except InputError as error:
        return [defect("broken_dataset", str(error), [str(data_dir)])]
    keys, known = dict(zip(made["clip_id"], made["key"])), Known(data_dir)
    new = [entry.clip_id for entry in entries if entry.clip_id not in keys]
    changed = [e.clip_id for e in entries if e.clip_id in keys and keys[e.clip_id] != _key(e, settings, known)]
    gone = sorted(set(keys) - {entry.clip_id for entry in entries})
    labels = _other_labels(reader, entries, splits, settings.trait_names)
    defects = []
    for kind, items, words in (
        ("not_in_dataset", new, "clips of the manifest were not there when the dataset was prepared."),
        ("stale_frames", changed, "clips were prepared from another file, setting or version than today's."),
        ("stale_labels", labels, "clips of the dataset have another person, split, task, session or label than the manifest."),
    ):
        defects += defects_of(kind, f"{share(len(items), len(entries))} {words}", items)
    what = f"{share(len(gone), len(keys))} clips of the dataset are not in the manifest."
    return defects + defects_of("not_in_manifest", what, gone)


def disk_defects(data_dir, entries, settings: PrepareSettings) -> list:
    """A defect where the disk has no room for the clips that prepare would still have to process."""
    there, known = growth.known_rows(packing.dataset_folder(data_dir)), Known(data_dir)
    local = [entry for entry in entries if not is_url(entry.path)]
    todo = [entry for entry in local if (entry.clip_id, _key(entry, settings, known)) not in there]
    words = disk_space.shortage(disk_space.expected_bytes(todo, settings), data_dir)
    return [defect("too_little_disk", f"The dataset {words}.", [str(data_dir)])] if words else []


def _key(entry, settings, known):
    try:
        return clip_key(entry, settings, known)
    except OSError:  # a folder that may not be entered: another file than before, in any case
        return ""


def _other_labels(reader, entries, splits, trait_names):
    """(clip_id, what differs) of the clips whose words in the dataset are not the manifest's."""
    in_dataset = {clip.clip_id: clip for clip in reader.clips}
    differing = []
    for entry, split in zip(entries, splits):
        clip = in_dataset.get(entry.clip_id)
        if clip is None:
            continue
        wanted = {"person_id": entry.person_id, "split": split, "task": entry.task, "session": entry.session}
        parts = [f"{name} is {getattr(clip, name)!r}" for name, value in wanted.items() if getattr(clip, name) != value]
        if tuple(reader.trait_names) != tuple(trait_names):
            parts.append(f"traits are {', '.join(reader.trait_names) or 'none'}")
        elif not np.array_equal(clip.traits, np.float32(entry.traits), equal_nan=True):
            parts.append("labels differ")
        if parts:
            differing.append((entry.clip_id, "; ".join(parts)))
    return differing

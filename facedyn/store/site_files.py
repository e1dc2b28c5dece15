"""Files of what filters in closed form share between people: arrays, and what they were learnt from.

So one of other settings, data or another generic model is never taken for the right one. They lie in the folder of
representations: who deletes those deletes what they were made by, too.
"""

import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path, write_text
from facedyn.store import representations

FOLDER = f"{representations.FOLDER}/shared"
LEARNT_FROM = "learnt_from"
PEOPLE = "people.json"  # whose ids must be removable, so they are no part of `learnt_from`


def path(workdir, scale: int, control: str = "") -> pathlib.Path:
    """Where it is kept for a scale, or for a control there."""
    return pathlib.Path(workdir) / FOLDER / f"scale_{scale}{'_' * bool(control)}{control}.npz"


def write(path, arrays: dict, learnt_from: dict) -> None:
    """Keeps arrays {name: array}, whole or not at all; `learnt_from` must be JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        named: dict[str, Any] = arrays | {LEARNT_FROM: json.dumps(learnt_from)}  # Any: savez has keywords of its own
        np.savez(temporary, **named)


def learnt_from(path) -> dict | None:
    """As given to `write`; {} of a file that does not say, None where there is none. Raises InputError for a broken file."""
    if not path.is_file():
        return None
    bounded.check_arrays(path)
    try:
        with np.load(path) as stored:
            return json.loads(str(stored[LEARNT_FROM])) if LEARNT_FROM in stored else {}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: delete the folder {path.parents[1]} and run fit again.") from error


def scaling(workdir, scale: int) -> np.ndarray | None:
    """Mean and standard deviation of each weight over the generic model's people, [2, D]; None where it was not learnt."""
    file = path(workdir, scale)
    if not learnt_from(file):
        return None
    with np.load(file) as stored:
        found = stored.get("scaling")
    return found if found is not None and found.shape[1] else None


def write_people(workdir, people) -> None:
    """Keeps the ids of those from whom, beside the generic model's people, something was learnt for all people."""
    write_text(pathlib.Path(workdir) / FOLDER / PEOPLE, json.dumps(sorted(people), ensure_ascii=False) + "\n")


def people(workdir) -> list[str] | None:
    """As given to `write_people`; None where it was not noted."""
    path = pathlib.Path(workdir) / FOLDER / PEOPLE
    return bounded.read_json(path) if path.is_file() else None


def rename_datasets(workdir, new: dict[str, str]) -> None:
    """Follows data sets that got another name {old: new}, without whom nothing has to be learnt again."""
    for file in sorted((pathlib.Path(workdir) / FOLDER).glob("scale_*.npz")):
        before = (learnt_from(file) if zipfile.is_zipfile(file) else None) or {}
        if before.get("dataset") in new:
            write(file, bounded.read_arrays(file), before | {"dataset": new[before["dataset"]]})

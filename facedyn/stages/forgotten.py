"""WORKDIR/forgotten.json: who was forgotten there, by salted hash, and what had been learnt from him or her at that time.

So a second call can tell one who was forgotten from one who was never there, and the file names nobody.
"""

import hashlib
import json
import os
import pathlib
import zipfile

from data_pipelines import bounded, content
from data_pipelines.errors import InputError
from data_pipelines.files import write_text
from facedyn.store import hashed_ids, site_files

FILE = "forgotten.json"
# Slow on purpose: ids are short, and whoever has the file could try them all. Eight calls a second.
COST = 2**14
# {what may have been learnt from a person: where it lies}
PLACES = {"generic model": "generic", "principal components": site_files.FOLDER, "trait heads": "traits/heads"}


def remember(workdir, person_id: str, learnt) -> None:
    """Notes that the person was forgotten; `learnt`: names of PLACES that were learnt from him or her and are still there."""
    stored = _read(workdir)
    own = hashed_ids.hash_of(person_id, stored["salt"], COST)
    kept = [entry for entry in stored["people"] if entry["person"] != own]
    entry = {"person": own, "learnt": {name: _state(workdir, name) for name in learnt}}
    # Sorted: the order would tell who was forgotten when.
    people = sorted([*kept, entry], key=lambda entry: entry["person"])
    write_text(pathlib.Path(workdir) / FILE, json.dumps({"salt": stored["salt"], "people": people}, indent=1) + "\n")


def still_learnt(workdir, person_id: str) -> list[str] | None:
    """Names of PLACES that were learnt from the person and are the same as then; None for one who was not forgotten here."""
    stored = _read(workdir)
    own = hashed_ids.hash_of(person_id, stored["salt"], COST)
    for entry in stored["people"]:
        if entry["person"] == own:
            return [name for name, state in entry["learnt"].items() if state and state == _state(workdir, name)]
    return None


def in_model(workdir) -> dict:
    """Who was forgotten here, but is in the models that are still there: hashes as `hashed_ids.is_among` takes them."""
    stored, names = _read(workdir), ("generic model", "principal components")
    states = {name: _state(workdir, name) for name in names}
    people = [e["person"] for e in stored["people"] if any(states[n] and e["learnt"].get(n) == states[n] for n in names)]
    return {"salt": stored["salt"], "people": people, "cost": COST}


def _read(workdir):
    path = pathlib.Path(workdir) / FILE
    if path.is_file():
        stored = bounded.read_json(path)
        holds = {"salt": str, "people": list}
        if not isinstance(stored, dict) or not all(isinstance(stored.get(name), kind) for name, kind in holds.items()):
            raise InputError(f"{path} is not what forget writes there: without it, who was forgotten before is not known.")
        return stored
    return {"salt": os.urandom(16).hex(), "people": []}


def _state(workdir, name) -> str:
    """Names the arrays of what lies at a place; '' where there is none. Lists of people beside them do not count."""
    place = pathlib.Path(workdir) / PLACES[name]
    files = {
        file.relative_to(place).as_posix(): file
        for file in place.rglob("*")
        if file.is_file() and file.suffix not in (".json", ".csv", ".npz")
    }
    arrays = []
    for file in filter(zipfile.is_zipfile, sorted(place.rglob("*.npz"))):
        stored = bounded.read_arrays(file)
        # The data set that is named in it gets another name when somebody is forgotten.
        names = sorted(set(stored) - {site_files.LEARNT_FROM})
        arrays.append([(array, hashlib.sha256(stored[array].tobytes()).hexdigest()) for array in names])
    return content.named([content.of_files(files) if files else "", arrays]) if files or arrays else ""

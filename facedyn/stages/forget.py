"""Takes a person out of all that lies in WORKDIR, and says what was learnt from him or her and must be retrained.

What is to be done is written to WORKDIR/forgetting.json first and that file deleted last: a kill in between loses nothing.
"""

import contextlib
import difflib
import hashlib
import json
import pathlib
import shutil
from functools import partial

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines import bounded
from data_pipelines.dataset import forgetting
from data_pipelines.dataset.face_clips import NAME, open_face_clips
from data_pipelines.dataset.forgetting import IDS, PERSON, Person
from data_pipelines.errors import InputError
from data_pipelines.files import check_size, write_text
from data_pipelines.manifest import read_manifest
from data_pipelines.paths import visible
from data_pipelines.prepare import fingerprint_of
from data_pipelines.sources.listing import named
from facedyn.config import BY_CONTENT, default_config, flatten
from facedyn.stages import forgotten, shards
from facedyn.stages.fit.swapped import NAME as SWAPPED
from facedyn.stages.runtime.data_settings import data_dir, manifest_place, prepare_settings, pretrain_data_dir
from facedyn.store import lock, site_files, stamps
from facedyn.store.representations import FOLDER

JOURNAL = "forgetting.json"
# What was learnt for all people beside the generic model; the second is where an older version kept it.
SHARED = (f"{site_files.FOLDER}/scale_*.npz", "generic/*/patterns_*.npz")
# Stages whose tables or figures held the person: done again by the next run. The models are not touched.
AGAIN = ("fit", "traits", "report")


def run(workdir: str | pathlib.Path, person: str, overrides: dict, dry_run: bool = False) -> dict:
    """Forgets the person, and first the one of a call that was broken off; returns a summary.

    dry_run: only lists what would be removed. Raises InputError for a person who never was in WORKDIR, or when it is in use.
    """
    if overrides:
        raise InputError(f"forget changes no setting: leave --config.{next(iter(overrides))} out.")
    workdir, person = pathlib.Path(workdir).absolute(), visible(person).strip()  # as manifests are read
    config = _config(workdir)
    if dry_run:
        return _run(config, workdir, person, dry_run)
    with contextlib.ExitStack() as held:
        for place in (workdir, *(p for p in _datasets(config, workdir) if not p.is_relative_to(workdir))):
            held.enter_context(lock.held(place))
        shards.refuse_running(workdir)
        return _run(config, workdir, person, dry_run)


def _run(config, workdir, person, dry_run: bool) -> dict:
    unfinished = bounded.read_json(workdir / JOURNAL) if (workdir / JOURNAL).is_file() else None
    if unfinished and unfinished["person"] != person:
        first = "would first finish" if dry_run else "first finishes"
        print(f"forget: {first} {unfinished['person']!r}, of a call that was interrupted")
        if not dry_run:
            _forget(config, workdir, unfinished)
        unfinished = None
    plan = unfinished or _plan(config, workdir, person)
    if plan is None:
        print(_was_forgotten(config, workdir, person))
        return {"removed": 0}
    if dry_run:
        return _list(config, workdir, plan)
    if not unfinished:
        write_text(workdir / JOURNAL, json.dumps(plan, indent=1) + "\n")
    return {"removed": _forget(config, workdir, plan)}


def _list(config, workdir, plan: dict) -> dict:
    """Prints what a call would remove, and changes nothing."""
    who, found = Person(plan["person"], frozenset(plan["ids"])), {}
    for path in _whole(workdir, who):
        found[str(path.relative_to(workdir))] = 1
    for path in _files(workdir):
        gone = 0 if "report" in path.relative_to(workdir).parts[:1] else forgetting.forget_in_file(path, who, only_count=True)
        found |= {str(path.relative_to(workdir)): gone} if gone else {}
    for place in _datasets(config, workdir):
        gone = forgetting.count_in_dataset(place, who)
        found |= {f"dataset {place}": gone} if gone else {}
    for name, gone in found.items():
        print(f"forget: {name}: {gone} would be removed")
    for sentence in plan["learnt"] or [f"No model was trained on {plan['person']!r}."]:
        print(f"forget: {sentence}")
    print("forget: nothing was changed; run it without --dry-run to remove")
    return {"removed": 0, "would_remove": sum(found.values())}


def _whole(workdir, person) -> list[pathlib.Path]:
    """What is deleted as a whole: the report, doctor.csv where it names the person, synthetic videos and tracks.

    Also the control in which anyone may have this person's course in time; the next fit makes it again, without.
    """
    doctor = workdir / "doctor.csv"
    found = [workdir / "report"] if (workdir / "report").exists() else []
    found += [doctor] if doctor.exists() and person.is_named_in(doctor.read_text(encoding="utf-8")) else []
    swapped = workdir / FOLDER / SWAPPED
    return found + [swapped] * swapped.exists() + _synthetic(workdir, person)


def _config(workdir):
    """The settings of the last fit, with the places of the files that the last prepare read: the project may have moved."""
    with contextlib.suppress(InputError):
        config = stamps.stamped_config(workdir, "fit", "fit.started", "pretrain", "pretrain.started", "prepare")
        with contextlib.suppress(InputError):
            places = flatten(stamps.stamped_config(workdir, "prepare"))
            config.update_from_flattened_dict({name: places[name] for name in BY_CONTENT})
        return config
    return default_config()


def _was_forgotten(config, workdir, person) -> str:
    """What is true of one of whom nothing is left. Raises InputError for one who never was there."""
    learnt = forgotten.still_learnt(workdir, person)
    if learnt is None:
        people = sorted(_people(config, workdir))
        folded = {name.casefold(): name for name in reversed(people)}
        near = difflib.get_close_matches(person.casefold(), list(folded), 1, 0.0 if len(people) == 1 else 0.3)
        hint = f"the nearest id is {folded[near[0]]!r}" if near else f"there are {named(people)}" if people else "it has nobody"
        raise InputError(f"There is no person {person!r} in {workdir}, {hint}; nothing was removed.")
    still = f"; what was learnt from this person is still there ({', '.join(learnt)}): retrain it" if learnt else ""
    return f"forget: {person!r} was forgotten here before, and nothing is left in the data and tables{still}"


def _people(config, workdir) -> set[str]:
    """Ids of everybody in the datasets and tables of WORKDIR."""
    people = set()
    for place in _datasets(config, workdir):
        people |= forgetting.people_in_dataset(place)
    for path in _files(workdir):
        table = _table(path)
        people |= set(table[PERSON]) if table is not None and PERSON in table else set()
    return people


def _datasets(config, workdir) -> list[pathlib.Path]:
    places = {data_dir(config, workdir).absolute(), pretrain_data_dir(config, workdir).absolute()}
    return sorted({p for p in places if p.is_dir()} | set(forgetting.dataset_folders(workdir)))


def _files(workdir):
    """What may hold rows or lists of people: every file but those of datasets, of which there is `forget_in_dataset`."""
    for path in sorted(workdir.rglob("*")):
        inside = path.relative_to(workdir).parts
        if path.is_file() and path.name != JOURNAL and NAME not in inside and "crops" not in inside:
            yield path


def _plan(config, workdir, person: str) -> dict | None:
    """What there is of the person, and what was learnt from it; None when there is nothing."""
    ids, videos, seen, splits = set(), set(), False, {}
    for place in _datasets(config, workdir):
        of_place, splits[place] = forgetting.ids_in_dataset(place, person)
        ids |= of_place
    for path in _files(workdir):
        table = _table(path)
        if table is not None and PERSON in table:
            own = table.loc[table[PERSON] == person]
            seen |= len(own) > 0
            ids |= forgetting.ids_of(own, person)
            videos |= set(own["path"]) if "path" in own and path.suffix == ".parquet" else set()
    who = Person(person, frozenset(ids))
    stamped = {stage: stamps.summary(workdir, stage) for stage in ("pretrain", "fit")}
    in_stamps = any(person in summary.get("people", ()) for summary in stamped.values())
    in_stamps |= person in stamped["pretrain"].get("validation_people", ())
    in_stamps |= person in (site_files.people(workdir) or ())
    in_examples = forgetting.forget_in_file(workdir / "representations" / "examples.npz", who, only_count=True)
    if not (ids or seen or in_stamps or in_examples):
        return None
    learnt = _generic_model(config, workdir, person, splits, stamped) | _heads(config, workdir, person)
    return {
        "person": person,
        "ids": sorted(ids),
        "videos": sorted(videos),
        "learnt": list(learnt.values()),
        "learnt_in": list(learnt),
        "fingerprints": {str(place): _fingerprint(place) for place in splits},
    }


def _table(path) -> pd.DataFrame | None:
    """The ids (and paths) of a table, as texts; None for another kind of file."""
    names = (PERSON, *IDS, "path")
    if path.suffix == ".parquet":
        with contextlib.suppress(pa.ArrowInvalid):
            columns = [name for name in names if name in pq.read_schema(path).names]
            return bounded.read_table(path, columns=columns).to_pandas().astype(str)
    if path.suffix == ".csv":
        check_size(path, bounded.MAX_TEXT_TABLE, "The table")
        with contextlib.suppress(pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
            return table.rename(columns=str.strip)
    return None


def _generic_model(config, workdir, person, splits, stamped) -> dict[str, str]:
    """{a name of forgotten.PLACES: sentence}. Who was there when it was learnt counts; where that was not noted, who is now."""
    if not (workdir / "generic").is_dir():
        return {}
    of_pool = splits.get(pretrain_data_dir(config, workdir).absolute(), set())
    summary = stamped["pretrain"]
    in_pool = person in summary["people"] if "people" in summary else bool(of_pool & set(config.pretrain.splits))
    stopped_by = person in summary["validation_people"] if "validation_people" in summary else "validation" in of_pool
    made_here = config.pretrain.steps > 0
    if made_here and in_pool:
        learnt = f"was trained on {person!r}"
    elif made_here and stopped_by:
        learnt = f"took the step at which it stopped from {person!r}"
    elif _shared_is_of(workdir, splits, stamped["fit"], person, in_pool):
        older = f" and {SHARED[1]}" * any(workdir.glob(SHARED[1]))
        again = f"delete the folder representations{older}, then run again"
        sentence = (
            f"The generic model's principal components were learnt from {person!r}, and with them all representations: {again}."
        )
        return {"principal components": sentence}
    else:
        return {}
    again = "delete the folders generic and representations, then run again"
    return {"generic model": f"The generic model {learnt}, and with it all representations and what was exported: {again}."}


def _shared_is_of(workdir, splits, summary, person, in_pool) -> bool:
    """Whether the components beside the generic model were learnt from the person, or may have been by an unfinished fit."""
    if not any(path for pattern in SHARED for path in workdir.glob(pattern)):
        return False
    noted = site_files.people(workdir)
    if noted is not None:
        return in_pool or person in noted
    unfinished = "basis_from" not in summary
    return bool(in_pool or person in summary.get("basis_from", ()) or (unfinished and any(splits.values())))


def _heads(config, workdir, person) -> dict[str, str]:
    folds = workdir / "traits" / "folds.csv"
    if not folds.is_file() or not (workdir / "traits" / "heads").is_dir():
        return {}
    table = bounded.read_csv(folds, dtype={PERSON: str})
    own = table.loc[table[PERSON] == person]
    if config.traits.protocol == "official":
        own = own[own["fold"] < 0]
    sentence = f"The trait heads were trained on {person!r}: the next run, or the stage traits, trains them again."
    return {"trait heads": sentence} if len(own) else {}


def _fingerprint(place) -> str:
    try:
        return open_face_clips(place).metadata["fingerprint"]
    except InputError:
        return ""


def _forget(config, workdir, plan: dict) -> int:
    """Does what the plan says, prints what was done; returns the number of records, rows, lines and files removed."""
    person, places = Person(plan["person"], frozenset(plan["ids"])), _datasets(config, workdir)
    removed = {}
    for place in {workdir, *places}:
        forgetting.remove_unfinished(place)
    for path in _whole(workdir, person):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        name = path.relative_to(workdir).parts[0]
        removed[name] = removed.get(name, 0) + 1
    for path in _files(workdir):
        gone = forgetting.forget_in_file(path, person)
        name = path.relative_to(workdir).parts[0]
        removed |= {name: removed.get(name, 0) + gone} if gone else {}
    for place in places:
        gone = forgetting.forget_in_dataset(place, person, partial(_fingerprint_without, config, workdir, place, person))
        removed |= {f"dataset {place}": gone} if gone else {}
    _restamp(config, workdir, plan["fingerprints"])
    left = [path for path in _files(workdir) if _still_names(path, person)]
    forgotten.remember(workdir, person.person_id, plan.get("learnt_in", ()))
    (workdir / JOURNAL).unlink()
    for name, gone in removed.items():
        print(f"forget: {name}: {gone} removed")
    for sentence in plan["learnt"] or [f"No model was trained on {plan['person']!r}."]:
        print(f"forget: {sentence}")
    print("forget: scores.csv counts the person until fit and traits are run again; the next run writes a report")
    if left:
        places = named(path.relative_to(workdir) for path in left)
        print(f"forget: the id still stands in {places}: check whether it means this person")
    outside = [path for path in plan["videos"] if pathlib.Path(path).exists()]
    if outside:
        print(f"forget: not touched, as it is yours: {named(outside)}")
    if place := _brings_back(config, workdir, plan["person"]):
        print(f"forget: take {plan['person']!r} out of {place}, or the next prepare brings him or her back")
    return sum(removed.values())


def _synthetic(workdir, person):
    """The person's rendered videos and tracks."""
    videos, tracks = (workdir / "synthetic" / name for name in ("videos", "tracks"))
    found = [path for path in videos.iterdir() if path.name == person.person_id] if videos.is_dir() else []
    return found + ([path for path in tracks.iterdir() if path.stem in person.ids] if tracks.is_dir() else [])


def _manifest(config, workdir, place=None) -> pathlib.Path:
    """Where the manifest lies that the dataset in `place` was made from."""
    if config.data.pretrain_manifest and place == pretrain_data_dir(config, workdir).absolute():
        return pathlib.Path(config.data.pretrain_manifest)
    return manifest_place(config, workdir)


def _brings_back(config, workdir, person: str):
    """The source, or the manifest that still lists the person; None where a prepare would not."""
    if config.data.source:
        return config.data.source
    for path in (_manifest(config, workdir), pathlib.Path(config.data.pretrain_manifest)):
        with contextlib.suppress(InputError):  # prepare would not read it either
            if path.is_file() and any(entry.person_id == person for entry in read_manifest(path)):
                return path
    return None


def _fingerprint_without(config, workdir, place, person, reader) -> str:
    """What prepare would call the dataset in `place`, where its manifest deals the others out as before; else a new name."""
    with contextlib.suppress(InputError, OSError):
        entries = read_manifest(_manifest(config, workdir, place), reader.trait_names)
        entries = [entry for entry in entries if entry.person_id != person.person_id]
        settings = prepare_settings(config, reader.trait_names, min(config.rank_loss.scales))
        fingerprint, splits = fingerprint_of(entries, settings)
        now = {clip.clip_id: clip.split for clip in reader.clips if not person.owns(clip.clip_id)}
        then = {entry.clip_id: split for entry, split in zip(entries, splits)}
        if all(then.get(clip_id) == split for clip_id, split in now.items()):
            return fingerprint
    return hashlib.sha256(f"{reader.metadata['fingerprint']} without one".encode()).hexdigest()


def _restamp(config, workdir, before: dict) -> None:
    """The stages that need not be done again get to know the dataset's new name; the others lose their stamp."""
    for stage in AGAIN:
        stamps.stamp_path(workdir, stage).unlink(missing_ok=True)
    new = {old: _fingerprint(place) for place, old in before.items() if old}
    site_files.rename_datasets(workdir, {old: name for old, name in new.items() if name})
    for path in (workdir / "stages").glob("*.json"):
        stamp = bounded.read_json(path)
        named_there = stamp["relevant"].get("dataset", "").split("+")
        stamp["relevant"]["dataset"] = "+".join(new.get(name) or name for name in named_there)
        write_text(path, json.dumps(stamp, indent=1) + "\n")


def _still_names(path, person) -> bool:
    if path.suffix not in (".json", ".jsonl", ".csv", ".html", ".txt", ".log"):
        return False
    return person.is_named_in(path.read_text(encoding="utf-8", errors="replace"))

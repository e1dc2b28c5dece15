"""UDIVA v0.5: two people in conversation, a camera on each face, five self-reported traits as z-scores.

Ids are texts of three digits (six for a session) and are read as such, also where a program stripped their zeros.
"""

import contextlib
import csv
import math
import pathlib
import re

from data_pipelines.errors import InputError
from data_pipelines.files import check_size
from data_pipelines.manifest import ClipEntry
from data_pipelines.sources.collection import Collection, SourceSettings, nothing_found
from data_pipelines.sources.listing import list_files, named, noted
from data_pipelines.sources.split_names import split_of

MAX_BYTES = 64 << 20
TASKS = {"talk": "T", "animals": "A", "lego": "L", "ghost": "G"}
TRAITS = {
    "openness": "OPENMINDEDNESS_Z",
    "conscientiousness": "CONSCIENTIOUSNESS_Z",
    "extraversion": "EXTRAVERSION_Z",
    "agreeableness": "AGREEABLENESS_Z",
    "negative_emotionality": "NEGATIVEEMOTIONALITY_Z",
}
RECORDINGS = re.compile(rf"({'|'.join(TASKS)})_recordings_([a-z]+)", re.IGNORECASE)
TABLE = re.compile(r"(sessions|parts)_([a-z]+?)(_unmasked)?\.csv", re.IGNORECASE)
VIDEO = re.compile(r"FC([12])_([TALG])\.mp4", re.IGNORECASE)
POLARITY = (
    "UDIVA's traits are z-scores of a self-report; negative_emotionality runs opposite to First Impressions' key "
    "'neuroticism', and no trait was flipped."
)


def collect(settings: SourceSettings) -> Collection:
    """A clip for each face camera's video; raises InputError where there is none or a table is not as it should be."""
    root = settings.source
    listing = list_files(root, (".mp4", ".csv"))
    sessions, traits, notes = _tables(listing.files)
    clips, folders, left_out, strays = {}, {}, {}, []
    for file in (file for file in listing.files if file.suffix.lower() == ".mp4"):
        place, match = RECORDINGS.fullmatch(file.parent.parent.name), VIDEO.fullmatch(file.name)
        if not (place and match and re.fullmatch(r"\d{6}", file.parent.name) and split_of(place[2])):
            left_out[str(file.relative_to(root))] = "it is not TASK_recordings_SPLIT/SESSION/FC1_T.mp4 or FC2_T.mp4"
            continue
        task, camera = place[1].lower(), int(match[1])
        if match[2].upper() != TASKS[task]:
            left_out[str(file.relative_to(root))] = "its name and its folder say different tasks"
            continue
        clips[file.parent.name, camera, task] = file, split_of(place[2])
    if not clips:
        raise nothing_found(root, "no train/recordings/talk_recordings_train/SESSION/FC1_T.mp4 and the like")
    for folder in listing.folders:
        if (place := RECORDINGS.fullmatch(folder.name)) and split_of(place[2]):
            folders[split_of(place[2]), place[1].lower()] = folder
    missing = []
    for session, (_, split) in sessions.items():
        for task in TASKS:
            for camera in (1, 2):
                if (session, camera, task) not in clips and (split, task) in folders:
                    place = folders[split, task] / session / f"FC{camera}_{TASKS[task]}.mp4"
                    clips[session, camera, task] = place, split
                    missing.append(_clip_id(session, camera, task))
    entries = []
    for (session, camera, task), (path, split) in sorted(clips.items()):
        if session in sessions:
            person = sessions[session][0][camera - 1]
        else:
            person = session[3 * camera - 3 : 3 * camera]
            strays.append(session)
        values = traits.get(person, (math.nan,) * len(TRAITS))
        entries.append(ClipEntry(_clip_id(session, camera, task), person, path, session, task, split, traits=values))
    extra = tuple(entry.clip_id for entry in entries if all(map(math.isnan, entry.traits)))
    notes = [*listing.notes, *notes]
    if strays:
        notes.append(
            f"Sessions that no sessions_SPLIT.csv lists take their people from their number: {named(dict.fromkeys(strays))}."
        )
    notes += noted(missing, "videos of listed sessions have no file")
    if extra and len(extra) < len(entries):
        people = dict.fromkeys(entry.person_id for entry in entries if all(map(math.isnan, entry.traits)))
        notes.append(f"{len(extra)} clips have no label, those of {named(people)}.")
    return Collection(tuple(entries), tuple(TRAITS), (*notes, POLARITY), {}, tuple(missing), extra, left_out)


def _clip_id(session, camera, task):
    return f"{session}_FC{camera}_{TASKS[task]}"


def _tables(files):
    """({session: ((participant 1, participant 2), split)}, {participant: values in the order of TRAITS}, notes)."""
    found = {}
    for file in files:
        if (match := TABLE.fullmatch(file.name)) and split_of(match[2]):
            found.setdefault((match[1].lower(), split_of(match[2]), bool(match[3])), file)
    sessions, traits, notes = {}, {}, []
    for (kind, split, unmasked), file in found.items():
        if kind == "sessions":
            for row in _rows(file, ("ID", "PART.1", "PART.2"))[1]:
                sessions[_id(row["ID"], 6)] = ((_id(row["PART.1"], 3), _id(row["PART.2"], 3)), split)
        elif unmasked or ("parts", split, True) not in found:
            header, rows = _rows(file, ("ID",))
            if not set(TRAITS.values()) <= set(header):
                notes.append(
                    f"{file.name} holds no traits: the clips of {split} have no labels without parts_..._unmasked.csv."
                )
                continue
            for row in rows:
                traits[_id(row["ID"], 3)] = tuple(_number(row[column]) for column in TRAITS.values())
    if not traits:
        notes.append("No parts_SPLIT.csv with traits was found: no clip has labels.")
    return sessions, traits, notes


def _rows(path: pathlib.Path, needed):
    """(columns, rows as {column: cell}) of a CSV, stripped."""
    check_size(path, MAX_BYTES, "The table")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip().upper() for name in next(reader, [])]
            rows = [dict(zip(header, map(str.strip, cells))) for cells in reader if any(map(str.strip, cells))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The table {path} cannot be read as a CSV ({error}); get the original file again.") from error
    for name in needed:
        if name not in header or any(not row.get(name) for row in rows):
            raise InputError(f"The table {path} has no column {name}, or a row without it; get the original file again.")
    return header, [{name: row.get(name, "") for name in header} for row in rows]


def _id(cell, digits):
    """'2' and '2.0' are what a spreadsheet makes of '002'."""
    number = re.fullmatch(r"(\d+)(?:\.0*)?", cell)
    return number[1].zfill(digits) if number else cell


def _number(cell):
    with contextlib.suppress(ValueError):
        return float(cell) if math.isfinite(float(cell)) else math.nan
    return math.nan

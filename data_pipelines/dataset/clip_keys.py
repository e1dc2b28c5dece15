"""The key of a clip: names its frames by the file's content and by the settings they depend on, wherever the file lies."""

import concurrent.futures
import hashlib
import json
import os
import pathlib

from data_pipelines.content import Known
from data_pipelines.faces import clip_faces, landmarks, shared_clip
from data_pipelines.faces.appearances import OWN
from data_pipelines.faces.clip_faces import FACE_SETTINGS, FRAME_SETTINGS, PrepareSettings
from data_pipelines.faces.openface import find_outputs
from data_pipelines.manifest import ClipEntry
from data_pipelines.remote import content_stamp, is_url

MODELS = ("yunet_model", "sface_model")  # settings that name a file, whose content counts


def clip_key(entry: ClipEntry, settings: PrepareSettings, known: Known | None = None) -> str:
    """16 hexadecimal digits. `known`: content that need not be read again.

    A renamed or moved file keeps its key; one of other content, id, suffix, fps or relevant settings gets another. Of remote
    files the size and the time of change stand for the content, which would have to be fetched.
    """
    known = known or Known()
    outputs = [] if is_url(entry.path) else find_outputs(entry.path)
    names = FRAME_SETTINGS if entry.aligned or outputs else FRAME_SETTINGS + FACE_SETTINGS
    values = [_content_of_model(getattr(settings, n), known) if n in MODELS else getattr(settings, n) for n in names]
    parts = [clip_faces.VERSION, entry.clip_id, entry.fps, entry.aligned, values]
    if settings.appearance != OWN:
        parts.append([settings.appearance, shared_clip.VERSION, settings.crop_scale])
    try:
        if settings.appearance != OWN and settings.landmarks:
            path = landmarks.find_landmarks(pathlib.Path(settings.landmarks).expanduser(), entry.clip_id)
            parts.append(["landmarks", known.of_files({path.suffix: path}) if path else ""])
        if is_url(entry.path):
            parts.append(content_stamp(entry.path))
        elif outputs:
            parts += [settings.min_confidence, [known.of_files(_files_of_output(output)) for output in outputs]]
        elif entry.path.is_dir():
            parts.append(known.of_files({f.name: f for f in entry.path.iterdir() if f.is_file()}))
        elif entry.path.is_file():
            parts += [entry.path.suffix.lower(), known.of_files({"": entry.path})]
    except OSError as error:  # of which the clip's row will tell; its text would name the path
        parts.append([type(error).__name__, error.errno])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def clip_keys(entries, settings: PrepareSettings, known: Known | None = None) -> list[str]:
    """`clip_key` of every entry; files are read by several threads."""
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda entry: clip_key(entry, settings, known), entries))


def _files_of_output(output):
    """Images by their names, which hold the frames' numbers, and the table; not the output's own name."""
    files = {f"images/{entry.name}": entry.path for entry in os.scandir(output.images) if entry.is_file()}
    return files | ({"table": output.table} if output.table else {})


def _content_of_model(setting, known):
    path = pathlib.Path(setting).expanduser() if setting else None
    try:
        return known.of_files({"": path}) if path and path.is_file() else ""
    except OSError:  # whoever opens it says so
        return ""

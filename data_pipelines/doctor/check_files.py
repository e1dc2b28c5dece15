"""Doctor: are the files there that the manifest names, and are there others beside them?

Nothing is decoded; a file's size, rights and first bytes are looked at.
"""

import os
import pathlib
import stat
import unicodedata

from data_pipelines.doctor.defects import counted, defects_of, share
from data_pipelines.paths import hint
from data_pipelines.suffixes import IMAGES, VIDEOS

# A container format has bytes that are no text within its first few; an error page or a pointer file has none in so many.
HEAD = 256
TEXT = bytes(range(32, 127)) + b"\t\n\r\f"


def file_defects(entries, others=(), extra=()) -> list:
    """Defects of the clips' files, and video files (or folders of frames) beside them that no clip names.

    others: paths that another manifest names, which are no extra files; extra: names of files that are known to be some.
    """
    found = {}
    for entry in entries:
        kind, detail = _state(entry.path)
        found.setdefault(kind, []).append((entry, detail))
    listings = {}
    missing = [(e.clip_id, _lookalike(e.path, listings) or f"{e.path}{hint(e.path)}") for e, _ in found.get("missing_file", ())]
    what = f"{share(len(missing), len(entries))} clips have no file at the path that the manifest gives."
    defects = defects_of("missing_file", what, missing)
    for kind, words in (
        ("empty_file", "are files of zero bytes, or folders without an image."),
        ("unreadable_file", "are files that may not be read."),
        ("not_a_video", "are text files, whatever their name says."),
    ):
        items = [(entry.clip_id, detail) for entry, detail in found.get(kind, ())]
        defects += defects_of(kind, f"{share(len(items), len(entries))} clips {words}", items)
    beside = _extra([entry.path for entry in entries], others, listings)
    found_already = {name for name, _ in beside}
    beside += [(name, "") for name in extra if pathlib.PurePath(name).name not in found_already]
    what = f"{counted(len(beside), 'video')} beside the clips that the manifest does not name."
    return defects + defects_of("extra_file", what, beside)


def _state(path):
    """(kind of defect or '', detail)."""
    try:
        if path.is_dir():
            return ("", "") if next(images_in(path), None) else ("empty_file", str(path))
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return "unreadable_file", f"{path} is not a file"
        if status.st_size == 0:
            return "empty_file", str(path)
        with open(path, "rb") as file:
            return ("not_a_video", str(path)) if not file.read(HEAD).translate(None, TEXT) else ("", "")
    except PermissionError:
        return "unreadable_file", str(path)
    except (OSError, ValueError):  # ValueError: a path that no file can have
        return "missing_file", str(path)


def images_in(folder):
    """Paths of the images in `folder` and the folders below it; links to folders are not followed, as they may form a loop."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(IMAGES):
                yield os.path.join(place, name)


def _lookalike(path, listings):
    """A sentence when the folder has the file under a name that differs in case or in how accents are written only."""
    names, wanted = _names(_folder(path), listings), _plain(path.name)
    close = next((name for name in names if _plain(name) == wanted), None)
    return f"{path} is there as {close!r}" if close else ""


def _plain(name):
    return unicodedata.normalize("NFC", name).casefold()


def _names(folder, listings):
    """Sorted names in a folder, () when it cannot be listed."""
    if folder not in listings:
        try:
            listings[folder] = sorted(os.listdir(folder))
        except (OSError, ValueError):
            listings[folder] = ()
    return listings[folder]


def _extra(paths, others, listings):
    known = {os.path.normpath(path) for path in (*paths, *others)}
    above = {str(parent) for path in known for parent in pathlib.PurePath(path).parents}
    extra = []
    folders = {_folder(path): False for path in paths}
    folders |= {_folder(path): True for path in paths if os.path.isdir(path)}
    for folder, of_frames in sorted(folders.items()):
        for name in _names(folder, listings):
            path = os.path.join(folder, name)
            if path in known or path in above or name.startswith("."):
                continue
            inside = _names(path, listings) if of_frames and os.path.isdir(path) else ()
            if name.lower().endswith(VIDEOS) or any(file.lower().endswith(IMAGES) for file in inside):
                extra.append((name, path))
    return extra


def _folder(path):
    return os.path.dirname(os.path.normpath(path))

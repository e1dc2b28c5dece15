"""What lies in a folder of somebody's data: its files in a fixed order, whatever links, hidden or locked things are in it.

Nothing here hangs or stops a run: what cannot be listed becomes a sentence.
"""

import dataclasses
import os
import pathlib

from data_pipelines.sources.unused import NAMED, Unused, is_hidden


@dataclasses.dataclass(frozen=True)
class Listing:
    """Files and folders, absolute, sorted by their place under the root; `notes`: what could not be listed, a sentence each.

    unused: what was passed over.
    """

    files: tuple[pathlib.Path, ...]
    folders: tuple[pathlib.Path, ...]
    notes: tuple[str, ...]
    unused: Unused


def list_files(root, suffixes, enter=lambda name: True) -> Listing:
    """All files under `root` whose suffix (lower case) is one of `suffixes`; folders that `enter` refuses are not entered.

    Hidden ones are left out. Links to folders are followed once and never upwards, so a loop of links ends. A link to
    nothing counts as a file: it is missing, not absent.
    """
    root, files, folders, notes = pathlib.Path(root), [], [], []
    nameless, others, unused = 0, [], Unused(root)
    real_root = os.path.realpath(root)
    seen, waiting, links = {real_root}, [os.fspath(root)], []
    while waiting or links:
        # A folder is listed under its own name rather than under that of a link to it.
        folder = waiting.pop() if waiting else _linked(links.pop(0), real_root, seen)
        if folder is None:
            continue
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            notes.append(f"The folder {folder} cannot be read ({error.strerror}): what lies in it is not in the manifest.")
            continue
        for entry in entries:
            if is_hidden(entry.name):
                unused.hidden(entry.path)
                continue
            wanted = os.path.splitext(entry.name)[1].lower() in suffixes
            kind = _kind(entry)
            if not is_text(entry.name):
                nameless += wanted or kind == "folder"
            elif kind == "folder":
                folders.append(entry.path)
                if enter(entry.name):
                    if entry.is_symlink():
                        links.append(entry.path)
                    else:
                        seen.add(os.path.realpath(entry.path))
                        waiting.append(entry.path)
            elif wanted and kind == "file":
                files.append(entry.path)
                unused.video(entry.path)
            elif wanted or kind == "other":
                others.append(entry.path)
            else:
                unused.file(entry.path)
    if nameless:
        notes.append(f"{nameless} files or folders under {root} have names that are not UTF-8: rename them.")
    if others:
        notes.append(f"{named(others)} under {root} are not regular files and are left out.")
    files, folders = (tuple(sorted(map(pathlib.Path, found))) for found in (files, folders))
    return Listing(files, folders, tuple(notes), unused)


def _linked(link, real_root, seen):
    """The link, when it leads to a folder that was not listed yet and does not hold the root; else None."""
    target = os.path.realpath(link)
    if target in seen or os.path.commonpath([target, real_root]) == target:
        return None
    seen.add(target)
    return link


def _kind(entry):
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)) else "other"
    except OSError:  # a link to itself
        return "file"


def is_text(name: str) -> bool:
    """False for a file's name that is no UTF-8, which neither a CSV nor a terminal can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def named(names, most: int = NAMED) -> str:
    """'a, b, c and 7 more'."""
    names = [str(name) if str(name).isprintable() else ascii(str(name)) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def noted(names, what: str) -> list[str]:
    """['7 WHAT: a, b, c and 4 more.'], or nothing for no names."""
    return [f"{len(names)} {what}: {named(names)}."] if names else []

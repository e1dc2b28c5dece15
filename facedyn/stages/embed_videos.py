"""Which videos are embedded, and whom they show: a folder, a manifest, a video, or a list of them."""

import collections
import dataclasses
import os
import pathlib
from typing import NamedTuple

import pandas as pd

from data_pipelines.errors import InputError
from data_pipelines.faces.quality import QualityRow, quality_table
from data_pipelines.manifest import ClipEntry, read_manifest
from data_pipelines.sources import SourceSettings, folder
from data_pipelines.suffixes import VIDEOS
from facedyn.stages.runtime import messages


class Videos(NamedTuple):
    """What is embedded.

    Attributes:
      entries: a ClipEntry a video.
      left_out: quality rows of files that are no videos.
      people: the person of each element of a list of videos, in its order; None for a folder or a manifest.
    """

    entries: list[ClipEntry]
    left_out: pd.DataFrame
    people: list[str] | None


def collect(videos, person_pattern: str = "") -> Videos:
    """The videos of a folder, a manifest (CSV), a video, or a list of videos and of folders of one person's videos.

    In a folder each sub-folder, or file that lies in none, is a person; in a list each element is, unless `person_pattern` says
    who is in a file. Raises InputError where there is no video.
    """
    if isinstance(videos, str | os.PathLike):
        path = pathlib.Path(videos).expanduser().absolute()
        if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
            return Videos(list(read_manifest(path, ())), quality_table([]), None)
        if path.is_dir():
            return _of_folder(path, person_pattern)
        return _of_list([path], person_pattern)._replace(people=None)
    paths = [pathlib.Path(str(video)).expanduser().absolute() for video in _flat(videos)]
    if not paths:
        raise InputError("No videos are named.")
    return _of_list(paths, person_pattern)


def _flat(videos) -> list:
    """The elements of a list, a Series, or an array [N] or [N, 1]."""
    if getattr(videos, "ndim", 1) == 2:
        if videos.shape[1] != 1:
            raise InputError(f"Videos are given as a list of paths, not as a table of {videos.shape[1]} columns.")
        videos = getattr(videos, "to_numpy", lambda: videos)().ravel()
    return list(videos)


def _of_folder(path, person_pattern) -> Videos:
    collection = folder.collect(SourceSettings(path, person_pattern=person_pattern))
    for note in collection.notes:
        messages.info(note)
    return Videos(list(collection.entries), _left_out(collection), None)


def _left_out(collection) -> pd.DataFrame:
    """Quality rows of the files that are no videos."""
    found = collection.left_out.items()
    return quality_table([QualityRow(name, "", name).left_out(f"Left out, as {why}.") for name, why in found])


def _of_list(paths, person_pattern) -> Videos:
    for path in paths:
        if not path.exists():
            raise InputError(f"--videos={path} is not a folder, a manifest (CSV) or a video ({', '.join(VIDEOS)}).")
    different = list(dict.fromkeys(paths))
    if person_pattern:
        names = [pathlib.Path(path.name) for path in different]
        collection = folder.by_name(SourceSettings(paths[0], person_pattern=person_pattern), names, different, ())
        people = {entry.path: entry.person_id for entry in collection.entries}
        known = [people[path] for path in paths if path in people]
        return Videos(list(collection.entries), _left_out(collection), known)
    entries, rows, names = [], [], dict(zip(different, unique_names(different)))
    for path, name in names.items():
        if path.is_dir():
            own = _of_folder(path, "")
            entries += [_of_person(entry, name, path) for entry in own.entries]
            rows.append(own.left_out)
        else:
            entries.append(ClipEntry(name, name, path))
    left_out = pd.concat(rows, ignore_index=True) if rows else quality_table([])
    return Videos(entries, left_out, [names[path] for path in paths])


def _of_person(entry, name, path) -> ClipEntry:
    """A clip of a folder that is one person's: its sub-folder is the session."""
    inside = pathlib.Path(entry.path).relative_to(path).parent.as_posix()
    session = "" if inside == "." else inside
    return dataclasses.replace(entry, clip_id=f"{name}/{entry.clip_id}", person_id=name, session=session)


def unique_names(paths) -> list[str]:
    """A name for each path: its stem, and as many folders before it as it takes to tell all apart.

    >>> unique_names([pathlib.Path("/a/anna.mp4"), pathlib.Path("/a/ben.mp4"), pathlib.Path("/b/ben.mp4")])
    ['anna', 'a/ben', 'b/ben']
    """
    names = [path.stem if path.suffix.lower() in VIDEOS else path.name for path in paths]
    count = collections.Counter(names)
    depth = 2
    while max(count.values()) > 1 and depth <= max(len(path.parts) for path in paths):
        names = [
            "/".join([*path.parts[-depth:-1], name.rpartition("/")[2]]).lstrip("/") if count[name] > 1 else name
            for path, name in zip(paths, names)
        ]
        count, depth = collections.Counter(names), depth + 1
    return [path.as_posix() if count[name] > 1 else name for path, name in zip(paths, names)]

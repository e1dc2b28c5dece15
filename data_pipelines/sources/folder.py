"""A plain folder of videos: who they show is told by the folder they lie in, or by a pattern."""

import dataclasses

from data_pipelines.errors import InputError
from data_pipelines.manifest import ClipEntry
from data_pipelines.manifest_ids import names_nobody
from data_pipelines.sources.collection import Collection, SourceSettings, clip_ids, nothing_found
from data_pipelines.sources.listing import list_files
from data_pipelines.sources.people_of_clips import Namer
from data_pipelines.suffixes import VIDEOS


def collect(settings: SourceSettings) -> Collection:
    """A clip for each video file under `settings.source`; raises InputError when there is none, or for a bad pattern.

    Whatever else lies there is among `left_out`, when it may be a video, or in the notes.
    """
    listing = list_files(settings.source, VIDEOS)
    if not listing.files:
        others = [f"{path}: {why}" for path, why in listing.unused.left_out.items()][:1] or listing.unused.notes
        what = f"no video ({', '.join(suffix[1:] for suffix in VIDEOS)})" + "".join(f"; {text.rstrip('.')}" for text in others)
        raise nothing_found(settings.source, what)
    paths = [file.relative_to(settings.source) for file in listing.files]
    collection = by_name(settings, paths, listing.files, (*listing.notes, *listing.unused.notes))
    return dataclasses.replace(collection, left_out=collection.left_out | listing.unused.left_out)


def by_name(settings: SourceSettings, paths, places, notes, **fixed) -> Collection:
    """A Collection of what lies at `places`, named after `paths` (relative to the source); `fixed`: fields of all entries."""
    namer = Namer(settings.person_pattern)
    entries, left_out, seen = [], {}, {}
    for path, clip_id, place in zip(paths, clip_ids(paths), places):
        found = namer(path)
        if found is None:
            left_out[str(path)] = f"config.data.person_pattern={settings.person_pattern!r} does not fit its path"
            continue
        if names_nobody(found["person"]):
            left_out[str(path)] = f"{found['person']!r}, a word for a missing value, names nobody: rename the folder or file"
            continue
        clip_id = found.get("clip") or clip_id
        if clip_id in seen:
            raise InputError(
                f"{seen[clip_id]} and {path} would both be the clip {clip_id!r}: let the group clip of "
                "config.data.person_pattern take in more of the name, or leave it out."
            )
        seen[clip_id] = path
        names = {name: found.get(name, "") for name in ("session", "task")}
        entries.append(ClipEntry(clip_id, found["person"], place, **names, **fixed))
    if not entries and not settings.person_pattern:
        raise InputError(f"No file under {settings.source} says who it shows; {paths[0]}: {left_out[str(paths[0])]}.")
    if not entries:
        raise InputError(
            f"config.data.person_pattern={settings.person_pattern!r} fits none of {len(left_out)} clips, for example "
            f"{next(iter(left_out))}."
        )
    notes = list(notes)
    deep = sum(len(path.parts) > 2 for path in paths)
    if deep and not settings.person_pattern:
        notes.append(
            f"{deep} clips lie several folders deep: the first folder is taken for the person, those below it for the session."
        )
    return Collection(tuple(entries), notes=tuple(notes), left_out=left_out)

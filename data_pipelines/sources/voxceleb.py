"""VoxCeleb2-like trees, `person/video/clip.mp4`, also below dev/mp4 and test/mp4: no labels, for pretraining."""

import re

from data_pipelines.manifest import ClipEntry
from data_pipelines.sources.collection import Collection, SourceSettings, clip_ids, nothing_found
from data_pipelines.sources.listing import list_files
from data_pipelines.suffixes import VIDEOS

# What the archives unpack to above the people.
ABOVE = re.compile(r"(vox(celeb)?[12]?[_-]?)?(dev|train|test)?([_-]?(mp4|txt|video))?", re.IGNORECASE)
SPLITS = {"dev": "train", "train": "train", "test": "test"}


def collect(settings: SourceSettings) -> Collection:
    """A clip for each video file: person = the first folder, session = those below; raises InputError when there is none.

    The official split is dev (train) and test.
    """
    root = settings.source
    listing = list_files(root, VIDEOS)
    paths = [file.relative_to(root) for file in listing.files]
    entries, left_out = [], {}
    for path, clip_id, file in zip(paths, clip_ids(paths), listing.files):
        folders = list(path.parts[:-1])
        split = ""
        while folders and (match := ABOVE.fullmatch(folders[0])):
            del folders[0]
            split = SPLITS.get((match[3] or "").lower(), "") if match[3] else split
        if folders:
            entries.append(ClipEntry(clip_id, folders[0], file, session="/".join(folders[1:]), split=split))
        else:
            left_out[str(path)] = "It lies in no person's folder, person/video/clip.mp4"
    if not entries:
        raise nothing_found(root, "no video in a person's folder, person/video/clip.mp4")
    return Collection(
        tuple(entries), notes=(*listing.notes, *listing.unused.notes), left_out=left_out | listing.unused.left_out
    )

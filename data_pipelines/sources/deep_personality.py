"""DeepPersonality's copy of First Impressions: a folder of numbered images for each clip, `image_data/<split>_data[_face]`.

Its labels are the original annotation files. The images keep no rate: `source_fps` says it.
"""

import os

from data_pipelines.faces.video import FOLDER_FPS
from data_pipelines.sources.chalearn_first_impressions import collected
from data_pipelines.sources.chalearn_labels import CLIP, NO_CLIP, read_labels
from data_pipelines.sources.collection import Collection, SourceSettings, nothing_found
from data_pipelines.sources.listing import is_text, list_files, noted
from data_pipelines.sources.split_names import split_of


def collect(settings: SourceSettings) -> Collection:
    """The clips under `settings.source`: the whole frames where they are there for as many clips as the face crops, else those.

    Raises InputError when there is no folder of a split with clips in it.
    """
    root = settings.source
    base = root / "image_data" if (root / "image_data").is_dir() else root
    clips, doubled, notes, left_out = {True: {}, False: {}}, [], [], {}
    for folder in _folders(base, notes):
        if split_of(folder.name):
            found = clips[folder.name.lower().endswith("_face")]
            for clip in _folders(folder, notes):
                name = clip.name.removesuffix(".mp4")
                if name in found:
                    doubled.append(name)
                elif CLIP.fullmatch(name):
                    found[name] = clip
                else:
                    left_out[str(clip.relative_to(root))] = NO_CLIP
    faces = len(clips[True]) > len(clips[False])
    if not clips[faces]:
        raise nothing_found(root, "no image_data/train_data/CLIP/frame_1.jpg and the like")
    kind = (
        "face crops (..._face), taken as they are, jitter and all" if faces else "whole frames, in which the face is looked for"
    )
    notes.append(f"The images are {kind}.")
    notes += noted(doubled, "clips lie there twice, the first one counts")
    if not settings.source_fps:
        notes.append(
            f"Folders of frames do not say their rate: {FOLDER_FPS:g} frames per second is taken; "
            "--config.data.source_fps=30 says otherwise."
        )
    # Not below the images: there are millions.
    listing = list_files(root, (".pkl",), enter=lambda name: not split_of(name) or "_data" not in name.lower())
    return collected(
        root,
        clips[faces],
        read_labels(listing.files),
        [*listing.notes, *notes],
        left_out,
        lambda folder, clip: folder / clip,
        aligned=faces,
        fps=settings.source_fps,
    )


def _folders(place, notes):
    try:
        entries = [entry for entry in os.scandir(place) if not entry.name.startswith(".") and is_text(entry.name)]
        return [place / entry.name for entry in sorted(entries, key=lambda entry: entry.name) if entry.is_dir()]
    except OSError as error:
        notes.append(f"The folder {place} cannot be read ({error.strerror}): what lies in it is not in the manifest.")
        return []

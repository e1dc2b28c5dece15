"""Output folders of OpenFace's FeatureExtraction: `<name>.csv` beside `<name>_aligned/`, a clip each, anywhere in the tree.

Images and rows are joined when the clip is prepared, in data_pipelines/faces/openface.py.
"""

import dataclasses

from data_pipelines.faces.openface import ALIGNED
from data_pipelines.faces.openface_table import is_table
from data_pipelines.sources.collection import Collection, SourceSettings, nothing_found
from data_pipelines.sources.folder import by_name
from data_pipelines.sources.listing import list_files, noted


def collect(settings: SourceSettings) -> Collection:
    """A clip for each `<name>_aligned` or OpenFace CSV under the source; raises InputError when there is none."""
    root = settings.source
    listing = list_files(root, (".csv",), enter=lambda name: not name.endswith(ALIGNED))
    images = {
        folder.with_name(folder.name.removesuffix(ALIGNED) + ".csv")
        for folder in listing.folders
        if folder.name.endswith(ALIGNED) and folder.name != ALIGNED
    }
    tables = {file for file in listing.files if file in images or is_table(file)}
    if not images | tables:
        raise nothing_found(root, f"no NAME{ALIGNED} and no CSV of OpenFace's FeatureExtraction")
    files = sorted(images | tables)
    paths = [file.relative_to(root) for file in files]
    places = [file.with_name(file.stem + ALIGNED) for file in files]
    collection = by_name(settings, paths, places, listing.notes, aligned=True, fps=settings.source_fps)
    missing = tuple(entry.clip_id for entry in collection.entries if not entry.path.is_dir())
    bare = [file.stem + ALIGNED for file in sorted(images - tables)]
    notes = [*collection.notes, *noted(missing, "CSV files have no folder of aligned faces (option -simalign)")]
    notes += noted(bare, "folders have no CSV, so failed frames are only told by their blackness")
    return dataclasses.replace(collection, missing=missing, notes=tuple(notes))

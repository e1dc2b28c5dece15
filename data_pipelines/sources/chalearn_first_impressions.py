"""ChaLearn First Impressions V2 as it is handed out: clips of YouTube videos in folders of splits, labels in pickles.

The archives must be unpacked, in whatever folders; a clip's split is that of the file that labels it, else of its folder.
"""

import math
import pathlib
import zipfile

from data_pipelines.manifest import ClipEntry
from data_pipelines.sources.chalearn_labels import CLIP, FLIPS, NO_CLIP, TRAITS, is_labels_file, person_of, read_labels
from data_pipelines.sources.collection import Collection, SourceSettings, nothing_found
from data_pipelines.sources.listing import list_files, named, noted
from data_pipelines.sources.split_names import split_of


def collect(settings: SourceSettings) -> Collection:
    """The clips under `settings.source`, with the labels found there; raises InputError when there is not one clip."""
    root = settings.source
    listing = list_files(root, (".mp4", ".pkl", ".zip"))
    labels = read_labels(listing.files)
    clips, left_out, doubled = {}, {}, []
    for file in listing.files:
        if file.suffix.lower() == ".mp4":
            if not CLIP.fullmatch(file.stem):
                left_out[str(file.relative_to(root))] = NO_CLIP
            elif file.stem in clips:
                doubled.append(file.stem)
            else:
                clips[file.stem] = file
    zipped = _zipped(listing, clips)
    if not clips:
        raise nothing_found(root, f"no clips yet; unzip its {named(zipped)} first" if zipped else "no clip, ID.000.mp4")
    notes = [*listing.notes, *noted(zipped, "archives are not, or not wholly, unpacked; unzip them")]
    notes += noted(doubled, "clips lie there twice, the first one counts")
    return collected(root, clips, labels, notes, left_out, lambda folder, clip: folder / f"{clip}.mp4")


def collected(root, clips, labels, notes, left_out, place, **fixed) -> Collection:
    """The Collection of `clips` {id: path} with their labels, and those of the clips that lack where their split is held.

    `place` says where in the folder of its split a clip should be; `fixed`: further fields of every entry.
    """
    notes = [*notes, *labels.notes]
    folders, elsewhere = {}, []
    splits = dict(labels.splits)
    for clip, path in clips.items():
        folder = _split_folder(root, path)
        own = split_of(folder.name)
        splits.setdefault(clip, own)
        if own and own != splits[clip]:
            elsewhere.append(clip)
        if own == splits[clip] or splits[clip] not in folders:
            folders[splits[clip]] = folder
    notes += noted(elsewhere, "clips lie in another split's folder; their labels' split counts")
    missing = [clip for clip in labels.traits if clip not in clips and splits[clip] in folders]
    absent = [splits[clip] for clip in labels.traits if splits[clip] not in folders]
    for split in dict.fromkeys(absent):
        notes.append(f"There are no clips of the split {split}: its {absent.count(split)} labels are not used.")
    extra = [clip for clip in clips if labels.traits and clip not in labels.traits]
    notes += [*noted(missing, "labelled clips have no file"), *noted(extra, "clips have no label")]
    paths = clips | {clip: place(folders[splits[clip]], clip) for clip in missing}
    unknown = (math.nan,) * len(TRAITS)
    entries = tuple(
        ClipEntry(clip, person_of(clip), path, split=splits[clip], traits=labels.traits.get(clip, unknown), **fixed)
        for clip, path in sorted(paths.items())
    )
    flips = FLIPS if labels.traits else {}
    return Collection(entries, TRAITS, tuple(notes), flips, tuple(missing), tuple(extra), left_out)


def _split_folder(root, path):
    """The outermost folder of the split innermost in the path; the file's own where none is named after a split."""
    parents = [parent for parent in path.parents if parent != root and parent.is_relative_to(root)]
    named_ = [parent for parent in parents if split_of(parent.name)]
    same = [parent for parent in named_ if split_of(parent.name) == split_of(named_[0].name)]
    return same[-1] if same else path.parent


def _zipped(listing, clips):
    """Names of the archives that hold a clip, labels or an archive which does not lie unpacked somewhere."""
    there = {f"{clip}.mp4" for clip in clips} | {file.name for file in listing.files}
    unpacked = {folder.name for folder in listing.folders}
    left = []
    for archive in (file for file in listing.files if file.suffix.lower() == ".zip"):
        try:
            with zipfile.ZipFile(archive) as file:
                paths = [pathlib.PurePosixPath(name) for name in file.namelist() if "__MACOSX" not in name]
        except (zipfile.BadZipFile, OSError):
            left.append(f"{archive.name} (damaged)")
            continue
        wanted = [path for path in paths if path.suffix.lower() in (".mp4", ".zip") or is_labels_file(path)]
        if any(path.name not in there and path.stem not in unpacked for path in wanted):
            left.append(archive.name)
    return left

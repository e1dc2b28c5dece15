"""Doctor: the same video under several names, found by its content.

Only files of equal size are opened, and only those with equal beginnings are read to their end.
"""

import hashlib
import os

from data_pipelines.doctor.check_files import images_in
from data_pipelines.doctor.defects import counted, grouped
from data_pipelines.faces.video import natural_key
from data_pipelines.remote import is_url

# Different videos of equal size (crops of one size as BMP files) differ within so many bytes, nearly always.
HEAD = 1 << 16


def duplicate_defects(entries, splits) -> list:
    """Defects for groups of clips with the same content; splits: of each entry."""
    split_of = {entry.clip_id: split for entry, split in zip(entries, splits)}
    found = {}
    for group in duplicate_groups(entries):
        if len({entry.person_id for entry in group}) > 1:
            kind = "duplicate_across_people"
        elif len({split_of[entry.clip_id] for entry in group}) > 1:
            kind = "duplicate_across_splits"
        else:
            kind = "duplicate_clip"
        group = [(entry.clip_id, f"person {entry.person_id}, split {split_of[entry.clip_id]}") for entry in group]
        found.setdefault(kind, []).append(group)
    words = {
        "duplicate_across_people": "of the very same video under different people.",
        "duplicate_across_splits": "of the very same video in different splits.",
        "duplicate_clip": "of the very same video, of one person in one split.",
    }
    groups = ((kind, text, found.get(kind, ())) for kind, text in words.items())
    return [d for kind, text, own in groups for d in grouped(kind, f"{counted(len(own), 'group')} of clips {text}", own)]


def duplicate_groups(entries) -> list[list]:
    """Lists of ClipEntry with equal content, in the manifest's order.

    A file's content is its bytes; a folder's the bytes of its images in natural order of their names, whatever the names are.
    Clips that cannot be read are nobody's duplicate.
    """
    groups = [[entry for entry in entries if not is_url(entry.path)]]
    for key in (_size, _head_hash, _full_hash):
        groups = [finer for group in groups for finer in _equal(group, key)]
    return groups


def _equal(group, key):
    by_key = {}
    for entry in group:
        try:
            by_key.setdefault(key(entry.path), []).append(entry)
        except (OSError, ValueError):
            continue  # reported as missing or unreadable
    return [same for value, same in by_key.items() if value and len(same) > 1]


def _size(path):
    """Number of files and bytes; None for what holds nothing."""
    sizes = [os.path.getsize(file) for file in (images_in(path) if path.is_dir() else [path])]
    return (path.is_dir(), len(sizes), sum(sizes)) if sum(sizes) else None


def _head_hash(path):
    with open(_files(path)[0], "rb") as file:
        return hashlib.sha256(file.read(HEAD)).digest()


def _full_hash(path):
    digest = hashlib.sha256()
    for name in _files(path):
        digest.update(os.path.getsize(name).to_bytes(8, "big"))  # so that a byte cannot move from one image to the next
        with open(name, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.digest()


def _files(path):
    return sorted(images_in(path), key=natural_key) if path.is_dir() else [path]

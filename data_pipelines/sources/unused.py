"""What lies in a folder of videos and is none: nothing is passed over without a word, and no list is longer than a sentence.

A file that may be a video gets a row of its own; what cannot be one is counted by its kind.
"""

import collections
import os
import pathlib

from data_pipelines.suffixes import IMAGES

NAMED = 5  # how many names a sentence gives before it says "and so many more"
# What lies beside videos and holds no picture of anybody.
SIDECARS = {
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst", ".log", ".ini", ".cfg", ".toml"),
    *(".srt", ".vtt", ".ass", ".ssa", ".sub", ".idx", ".textgrid", ".eaf", ".trs", ".lab", ".nfo"),
    *(".wav", ".mp3", ".m4a", ".aac", ".flac", ".oga", ".opus", ".wma", ".aif", ".aiff"),
    *(".pdf", ".doc", ".docx", ".odt", ".xls", ".xlsx", ".ods", ".ppt", ".pptx"),
    *(".html", ".htm", ".css", ".js", ".url", ".lnk", ".py", ".sh", ".m", ".r"),
    *(".npy", ".npz", ".mat", ".pkl", ".pickle", ".parquet", ".h5", ".hdf5"),
    *(".sav", ".rds", ".rdata", ".db", ".sqlite", ".onnx"),
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".md5", ".sha1", ".sha256", ".sfv"),
    *(".thm", ".lrv", ".xmp", ".bak", ".tmp", ".part", ".crdownload"),
}
PLAIN_NAMES = {"readme", "license", "licence", "changelog", "makefile", "checksums", "md5sums", "sha256sums", "authors"}
SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "$recycle.bin"}
FRAMES = 9  # so many images in a folder without a video are taken for the frames of one


def is_hidden(name: str) -> bool:
    """Whether people do not see the file or folder where they look at the folder: a system's own, or begun with a dot."""
    return name.startswith(".") or name.lower() in SYSTEM


class Unused:
    """Collects what a listing of a folder passes over; `left_out` {path under the root: reason} and `notes` tell of it."""

    def __init__(self, root):
        self._root = os.fspath(root)
        self._counts, self._names = collections.Counter(), collections.defaultdict(list)
        self._images, self._with_videos, self._strange = collections.Counter(), set(), []

    def hidden(self, path: str) -> None:
        """A hidden file or folder was passed over."""
        self._count("hidden", path)

    def video(self, path: str) -> None:
        """A video was found."""
        self._with_videos.add(os.path.dirname(path))

    def file(self, path: str) -> None:
        """A regular file without one of the suffixes that were looked for was passed over."""
        stem, suffix = os.path.splitext(os.path.basename(path))
        suffix = suffix.lower()
        if suffix in IMAGES:
            self._images[os.path.dirname(path)] += 1
            self._count(suffix, path)
        elif suffix in SIDECARS or (not suffix and stem.lower() in PLAIN_NAMES):
            self._count(suffix or "no suffix", path)
        else:
            self._strange.append((self._relative(path), suffix))

    @property
    def left_out(self) -> dict[str, str]:
        """Files that may be videos, and folders that may hold the frames of one."""
        found = {
            path: f"its suffix {suffix} is none of a video's: rename it or name it in a manifest, if it is one"
            if suffix
            else "its name has no suffix: add the video's own, or name it in a manifest, if it is one"
            for path, suffix in self._strange
        }
        for folder, n in self._images.items():
            if n >= FRAMES and folder not in self._with_videos and folder != self._root:
                found[self._relative(folder)] = (
                    f"it is a folder of {n} images: name it as a clip in a manifest, if they are frames"
                )
        return dict(sorted(found.items()))

    @property
    def notes(self) -> list[str]:
        """At most two sentences, on hidden files and on those that are no videos."""
        notes = []
        if n := self._counts["hidden"]:
            notes.append(f"Hidden files and folders, not looked into: {n} ({self._examples('hidden')}).")
        kinds = [kind for kind, _ in self._counts.most_common() if kind != "hidden"]
        if kinds:
            parts = [f"{self._counts[kind]} of {kind} ({self._examples(kind)})" for kind in kinds]
            notes.append(f"Files other than videos, not used: {', '.join(parts)}.")
        return notes

    def _count(self, kind, path):
        self._counts[kind] += 1
        if len(self._names[kind]) < NAMED:
            self._names[kind].append(self._relative(path))

    def _examples(self, kind):
        names = [name if name.isprintable() else ascii(name) for name in self._names[kind]]
        more = self._counts[kind] - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")

    def _relative(self, path):
        return pathlib.PurePath(os.path.relpath(path, self._root)).as_posix()

"""What a source makes of a folder: the clips as a manifest has them, and what the user should know about them."""

import collections
import dataclasses
import pathlib

from data_pipelines.errors import InputError
from data_pipelines.manifest import ClipEntry
from data_pipelines.paths import visible

PROTOCOLS = ("official", "person_disjoint")


@dataclasses.dataclass(frozen=True)
class SourceSettings:
    """The settings of a source; meanings as in `facedyn.config`, section data. `source` is an absolute path."""

    source: pathlib.Path
    split_protocol: str = "official"
    source_fps: float = 0.0
    person_pattern: str = ""


@dataclasses.dataclass(frozen=True)
class Collection:
    """The clips of a source.

    `notes`: sentences for the user. `flips`: {trait: what was done to the stored value}. Ids of clips that have labels
    but no file (`missing`; they are among the entries, with the path where the file should be) and of clips without a label
    where others have one (`extra`). `left_out`: {path under the source: why, a phrase} of files that are no entries.
    """

    entries: tuple[ClipEntry, ...]
    trait_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    flips: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


def clip_ids(paths) -> list[str]:
    """An id for each path (relative to the source): itself without its suffix, with it where two would be the same."""
    short = [visible(path.with_suffix("").as_posix()).strip() for path in paths]
    count = collections.Counter(short)
    return [visible(path.as_posix()).strip() if count[name] > 1 else name for path, name in zip(paths, short)]


def nothing_found(source, what: str) -> InputError:
    """For a folder in which nothing of what the source expects lies."""
    return InputError(f"The folder {source} holds {what}; config.data.source must name the data set's own folder.")

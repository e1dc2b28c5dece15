"""How a dataset follows its manifest: clips that were processed are packed, those that changed or went are taken out.

Only the shards that hold a clip that changed are written again, one part at a time; all others stay as they are.
"""

import dataclasses
import pathlib

import numpy as np
import pyarrow.parquet as pq

from data_pipelines.dataset import clip_files, packing
from data_pipelines.dataset.face_clips import quality_file
from data_pipelines.dataset.packing import Format, PackedClip, Part
from data_pipelines.faces.quality import QualityRow, row_from
from data_pipelines.manifest import ClipEntry

# A dataset that stays small is packed in smaller shards: what waits to be packed lies on the disk beside what is being packed.
MIN_SHARD_BYTES, SHARDS = 16 << 20, 16


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What today's manifest and settings ask of a clip: its entry, its split, and the name of its frames (`clip_key`)."""

    entry: ClipEntry
    split: str
    key: str


def shard_bytes(most: float, expected: float) -> float:
    """Size of a shard of a dataset of about `expected` bytes (0 = not known), where `most` is asked for."""
    return min(most, max(MIN_SHARD_BYTES, expected / SHARDS)) if expected else most


def known_rows(folder) -> dict[tuple[str, str], QualityRow]:
    """{(clip_id, key): quality row} of all that was ever packed and still is there; of two the newer."""
    rows = {}
    for part in packing.read_parts(folder):
        for row in pq.read_table(quality_file(part.file)).to_pylist():
            rows[row["clip_id"], row["key"]] = row_from(row)
    return rows


def packed_clip(path, wanted: Wanted) -> PackedClip:
    """A processed clip that waits at `path`, as it goes into a shard."""
    faces, entry = clip_files.saved_clip(path), wanted.entry
    return PackedClip(
        clip_id=entry.clip_id,
        person_id=entry.person_id,
        task=entry.task,
        session=entry.session,
        traits=entry.traits,
        fps=faces.row.fps,
        key=wanted.key,
        frame_indices=faces.frame_indices,
        frames=lambda: clip_files.saved_frames(path, consume=True),
        row=dataclasses.asdict(faces.row) | {"person_id": entry.person_id},
    )


def pack_waiting(folder, waiting: dict[pathlib.Path, Wanted], split: str, layout: Format) -> pathlib.Path:
    """Packs processed clips of one split; returns what `packing.adopt` takes. The clips are still there."""
    return packing.pack(folder, (packed_clip(path, wanted) for path, wanted in waiting.items()), split, layout)


class Waiting:
    """Clips that were processed and wait to be packed: as soon as there are enough of them they become a part."""

    def __init__(self, folder, layout: Format):
        self._folder, self._layout, self._clips, self._bytes = folder, layout, {}, {}
        self._old = {}  # {part: clips of it that are not yet there in a newer form}
        for part in packing.read_parts(folder):
            self._old[part] = set(map(tuple, _ids(part)))

    def add(self, path: pathlib.Path, wanted: Wanted) -> None:
        """Takes a processed clip over; packs those of the split that has most, when all together fill a shard."""
        self._clips.setdefault(wanted.split, {})[path] = wanted
        self._bytes[wanted.split] = self._bytes.get(wanted.split, 0) + clip_files.bytes_of(path)
        while sum(self._bytes.values()) >= self._layout.shard_bytes:
            self._pack(max(self._bytes, key=self._bytes.__getitem__))

    def pack_all(self) -> None:
        """Packs what still waits."""
        for split in sorted(self._bytes):
            self._pack(split)

    def _pack(self, split):
        clips = self._clips.pop(split)
        del self._bytes[split]
        packing.begin(self._folder)
        packing.adopt(self._folder, pack_waiting(self._folder, clips, split, self._layout), self._layout)
        for path in clips:
            clip_files.remove_clip(path)
        new = {wanted.entry.clip_id: wanted.key for wanted in clips.values()}
        for part, old in list(self._old.items()):
            self._old[part] = {(clip_id, key) for clip_id, key in old if new.get(clip_id, key) == key}
            if not self._old[part]:  # a newer form of each of its clips is there
                packing.remove_parts([part.file])
                del self._old[part]


def _ids(part):
    table = pq.read_table(quality_file(part.file), columns=["clip_id", "key"])
    return zip(table["clip_id"].to_pylist(), table["key"].to_pylist())


def follow(data_dir, folder, wanted: dict[str, Wanted], layout: Format) -> None:
    """Takes out what is not wanted any more, and gives the others the labels and the split of today."""
    waiting, seen = Waiting(folder, layout), set()
    for part in reversed(packing.read_parts(folder)):  # of a clip that is there twice the newer one stays
        if not part.file.exists():  # nothing was left in it, and packing what moved has taken it away
            continue
        stay, go, moving, changed = set(), set(), {}, False
        labels = _labels(part)
        for clip_id, key in _ids(part):
            now = wanted.get(clip_id)
            if now is None or now.key != key or clip_id in seen:
                go.add(clip_id)
                continue
            seen.add(clip_id)
            person_id, others = labels[clip_id]
            if others is not None and now.split != part.split:
                moving[clip_id] = now
                continue
            stay.add(clip_id)
            changed |= person_id != now.entry.person_id or (others is not None and not _same(others, now.entry, layout, part))
        if not (go or moving or changed):
            continue
        packing.begin(folder)
        for clip in packing.clips_of(folder, part, lambda clip, moving=moving: clip if clip.clip_id in moving else None):
            now = moving[clip.clip_id]
            path = clip_files.clip_path(data_dir, clip.clip_id, clip.key)
            clip_files.write_again(path, row_from(clip.row), clip.frame_indices, clip.frames())
            waiting.add(path, now)
        _rewrite(folder, part, stay, wanted, layout)
    waiting.pack_all()


def _rewrite(folder, part: Part, stay, wanted, layout):
    if not stay:
        packing.remove_parts([part.file])
        return

    def relabelled(clip):
        if clip.clip_id not in stay:
            return None
        entry = wanted[clip.clip_id].entry
        labels = {name: getattr(entry, name) for name in ("person_id", "task", "session", "traits")}
        return dataclasses.replace(clip, **labels, row=clip.row | {"person_id": entry.person_id})

    pending = packing.pack(folder, packing.clips_of(folder, part, relabelled), part.split, layout)
    packing.adopt(folder, pending, layout, replaces=[part])


def _labels(part) -> dict:
    """{clip_id: (person, (task, session, trait names, traits)), or (person, None) of a clip without a record}."""
    table = pq.read_table(quality_file(part.file), columns=["clip_id", "person_id"]).to_pylist()
    found: dict[str, tuple[str, tuple | None]] = {row["clip_id"]: (row["person_id"], None) for row in table}
    names = [name for name in pq.read_schema(part.file).names if name.startswith("trait:")]
    columns = ["clip_id", "part", "person_id", "task", "session", *names]
    for row in pq.read_table(part.file, columns=columns).to_pylist():
        if row["part"] == 0:
            traits = np.asarray([row[name] for name in names], np.float32)
            found[row["clip_id"]] = row["person_id"], (row["task"], row["session"], names, traits)
    return found


def _same(labels, entry, layout, part) -> bool:
    task, session, names, traits = labels
    return (
        (task, session) == (entry.task, entry.session)
        and names == [f"trait:{name}" for name in layout.trait_names]
        and np.array_equal(traits, np.float32(entry.traits), equal_nan=True)
        and part.max_frames_per_record == layout.max_frames_per_record
    )


def join_small(folder, layout: Format) -> None:
    """Writes many small parts of a split together, so that a dataset that grew clip by clip does not end in tiny shards."""
    for group in packing.small_parts(folder, layout.shard_bytes):
        packing.begin(folder)
        clips = (clip for part in group for clip in packing.clips_of(folder, part))
        packing.adopt(folder, packing.pack(folder, clips, group[0].split, layout), layout, replaces=group)

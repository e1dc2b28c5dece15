"""The doctor: what is wrong with a manifest, its files and the prepared dataset, and how to fix it.

It looks and changes nothing. `examine` asks every check; the checks are small functions over entries and tables.
"""

import dataclasses
import pathlib

from data_pipelines.dataset.splits import clip_splits
from data_pipelines.doctor import (
    check_dataset,
    check_duplicates,
    check_files,
    check_identity,
    check_people,
    check_quality,
    check_traits,
)
from data_pipelines.doctor.defects import ERROR, KINDS, WARNING, Defect, counted, defect, defects_of, share
from data_pipelines.errors import InputError
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.remote import is_url

__all__ = ["ERROR", "KINDS", "WARNING", "Defect", "Findings", "examine"]


@dataclasses.dataclass(frozen=True)
class Findings:
    """defects: the worst first; scores: rows of `check_identity.identity_scores`; baseline: they in a sentence."""

    defects: list[Defect]
    scores: list[dict]
    baseline: str


def examine(
    entries, settings: PrepareSettings, *, data_dir, quality_path, train_splits=("train",), pool=None, listing=None
) -> Findings:
    """Every check that the input allows: without a dataset or a quality table, those of the manifest and the files.

    entries: ClipEntry, read with `settings.trait_names`; settings: as prepare gets them; train_splits: whose people the generic
    model learns from; pool: entries of its own manifest, where it has one; listing: what was noted when a source was listed, a
    dict with `missing` (ids that the source names but does not hold), `extra` (files that it does not name) and `left_out`
    ({file: reason}), each of which may lack.
    Raises InputError for split fractions that cannot be.
    """
    names = settings.trait_names
    splits = clip_splits(entries, settings.split_fractions, settings.seed)
    scores = check_identity.identity_scores(entries, splits, names, train_splits) if names else []
    baseline = check_identity.sentence(scores)
    listing, clip_ids = listing or {}, {entry.clip_id for entry in entries}
    extra = [name for name in listing.get("extra", ()) if name not in clip_ids]
    local = [entry for entry in entries if not is_url(entry.path)]
    remote = [entry.clip_id for entry in entries if is_url(entry.path)]
    found = check_files.file_defects(local, [entry.path for entry in pool or ()], extra)
    what = f"{share(len(remote), len(entries))} clips lie in a bucket: their files were not checked."
    found += defects_of("remote_file", what, remote)
    bad_files = {item[0] for d in found if d.severity == ERROR for item in d.items}
    found += _of_source(listing, clip_ids)
    found += check_duplicates.duplicate_defects(entries, splits)
    found += check_people.id_defects(entries)
    found += check_people.count_defects(entries, pool)
    found += check_people.split_defects(entries, splits, train_splits, own_pool=pool is not None, baseline=baseline)
    found += check_people.pretrain_overlap(entries, pool or ())
    found += check_traits.trait_defects(entries, names)
    if pathlib.Path(quality_path).is_file():
        try:
            table = check_dataset.read_quality_table(quality_path)
            found += check_quality.quality_defects(
                table.loc[table["clip_id"].isin(list(clip_ids))], image_size=settings.image_size, known_bad=bad_files
            )
        except InputError as error:
            found.append(defect("broken_quality_table", str(error), [str(quality_path)]))
    found += check_dataset.dataset_defects(data_dir, entries, splits, settings)
    found += check_dataset.disk_defects(data_dir, entries, settings)
    return Findings(sorted(found, key=lambda d: d.severity != ERROR), scores, baseline)


def _of_source(listing, clip_ids):
    missing = [str(clip_id) for clip_id in listing.get("missing", ()) if clip_id not in clip_ids]  # else: a missing file
    part = share(len(missing), len(missing) + len(clip_ids))
    defects = defects_of("absent_from_copy", f"{part} clips that the source's own lists name are not in the copy.", missing)
    left_out = list(dict(listing.get("left_out", {})).items())
    what = f"{counted(len(left_out), 'file')} of the source could not be put into the manifest."
    return defects + defects_of("left_out_of_source", what, left_out)

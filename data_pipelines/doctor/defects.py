"""The kinds of defects that the doctor knows: how bad each is and how to fix it, said once, here.

`error`: a result computed in spite of it is wrong, or about other data than meant. `warning`: worth knowing, results stand.
"""

import dataclasses

ERROR, WARNING = "error", "warning"
# How many ids a line names before it says "and so many more"; the table has all of them.
NAMED = 4

# How to fix each kind: errors, which make a result wrong, and warnings, which do not.
ERRORS = {
    # Files
    "missing_file": "Put the files where the manifest says, or correct its column path; drop the rows of clips that are lost.",
    "empty_file": "Copy or download the files again, or drop their rows.",
    "unreadable_file": "Allow your user to read the files and their folders (chmod, chown), or copy them.",
    "not_a_video": "Download the files again: they are text, such as an error page or a Git LFS pointer.",
    "too_little_disk": (
        "Free some space, choose another disk by config.data.data_dir, or config.data.image_format='jpeg', a lower "
        "config.data.fps or a smaller config.data.image_size."
    ),
    "duplicate_across_people": "Find out whom the video shows, keep that row and drop the others.",
    "duplicate_across_splits": "Keep the video in one split and drop the other rows.",
    # Ids and splits
    "similar_person_ids": "Write the person_id of one person in one way; if they are several people, rename one.",
    "too_few_people": "Add people; or use facedyn embed, with a model that was trained on others.",
    "no_train_split": "Name a split of the manifest in config.pretrain.splits, or leave its column split empty.",
    "no_validation_split": "Give some people the split validation, or leave the column split empty.",
    "identity_overlap": (
        "Use a person-disjoint split: leave the column split empty (a source: config.data.split_protocol=person_disjoint)."
    ),
    # Traits
    "empty_trait": "Fill the column in the manifest, or take the trait out of config.data.traits.",
    "constant_trait": "Correct the column, or take the trait out of config.data.traits: nothing can be learnt from it.",
    "out_of_range": "Correct the cells; leave a cell empty where the value is not known (no -1, 99 or 999).",
    # What prepare saw
    "broken_quality_table": "Remove the file and run prepare again.",
    "many_left_out": "Fix what the reasons name before you train: the result is only about the clips that are left.",
    "people_lost": "Replace these people's clips, or drop their rows, so that the manifest says who is in the result.",
    # The prepared dataset
    "broken_dataset": "Remove the dataset's folder and run prepare again.",
    "stale_frames": "Run prepare again: it makes the crops of these clips again and reuses the rest.",
    "stale_labels": "Run prepare again: it reuses the frames and only writes the labels again.",
    "not_in_dataset": "Run prepare again: it adds what is new and reuses the rest.",
    "not_in_manifest": "Run prepare again, or use the manifest that the dataset was made from.",
}
WARNINGS = {
    # Files
    "extra_file": "Add rows for the videos that belong to the data; nothing need be done about the others.",
    "remote_file": "Nothing; prepare says which of them cannot be fetched or read.",
    "absent_from_copy": "Complete the copy, or say that the figures are about the part that is there.",
    "left_out_of_source": "Repair the files, or say that the figures are about the part that could be used.",
    "duplicate_clip": "Keep one row of each; the others count the same frames twice.",
    # Ids and splits
    "similar_clip_ids": "Check that they are different clips; if so, nothing need be done.",
    "one_clip_a_person": "Check that person_id names the person and not the clip: people must not be in two splits.",
    "few_people": "Add people, or read the verdicts: a result of few people may be decided by one of them.",
    "single_clips": "Nothing, or add clips of these people: their representations rest on fewer frames.",
    "small_split": "Put more people into the split; config.data.split_fractions assigns people without one.",
    "unlabelled_overlap": "Leave the column split empty, or give each person one split; pretrain refuses such people.",
    "pretrain_overlap": "Drop these people from config.data.pretrain_manifest, or report the figures as transductive.",
    # Traits
    "outside_unit_interval": "Check these cells, if the trait is meant to lie in [0, 1].",
    "label_gaps": "Fill the cells that are known; people without a label are left out of the trait's scores.",
    "few_labelled_people": "Label more people, or read the intervals beside every figure.",
    "labels_differ_within_person": (
        "Nothing if each label is of one clip; the stage traits uses a person's mean. Otherwise correct them."
    ),
    # What prepare saw
    "left_out": "Repair or replace the clips, or drop their rows; the column reason of quality.parquet says why.",
    "little_video": "Take longer or more recordings of each person; the report's curve shows how much that helps.",
    "few_frames_kept": "Look at the clips: is a face visible? Another detector: config.data.yunet_model.",
    "many_gaps": "config.data.yunet_model or a smaller config.data.detect_every; windows never cross a gap, so fewer remain.",
    "high_jitter": "Raise config.data.smoothing_seconds or use YuNet (config.data.yunet_model): jitter is false dynamics.",
    "two_faces": "config.data.main_person=left or right, or cut the videos so that they show one person.",
    "several_people": "The reason says whom the crops show; choose by config.data.main_person=left or right, or cut the video.",
    "frozen_frames": "Nothing, or another recording: no window lies in the repeated frames, so fewer remain.",
    "hidden_face": "Take recordings without hands before the face and of a steadier head, or use config.data.appearance='own'.",
    "large_motion": "Nothing if it is rare; else take recordings of a steadier head: larger motions are cut off.",
    "light": "Brighten the videos or leave them out; a face that is hardly seen has no dynamics to learn.",
    "blurred": "Take sharper recordings where there are any, or leave the clips out.",
    "tiny": "Take recordings of higher resolution, or raise config.data.min_face_pixels so that they are left out.",
    "turned": "Take recordings from the front; a face turned away shows half of its movements.",
    "rates_differ": (
        "config.data.fps=RATE brings faster clips down to one rate; leave slower ones out: a scale is a number of frames."
    ),
}
KINDS = {kind: (ERROR, fix) for kind, fix in ERRORS.items()} | {kind: (WARNING, fix) for kind, fix in WARNINGS.items()}


@dataclasses.dataclass(frozen=True)
class Defect:
    """One kind of defect, with all that have it.

    kind: a key of KINDS; severity: 'error' or 'warning'; subject: what has it, shortened; what, fix: a sentence each;
    items: all that have it, as (id, detail).
    """

    kind: str
    severity: str
    subject: str
    what: str
    fix: str
    items: tuple[tuple[str, str], ...] = ()


def defect(kind: str, what: str, items, subject: str = "") -> Defect:
    """A Defect of `kind`; items: ids or (id, detail); the subject names the first of them unless it is given."""
    items = tuple(item if isinstance(item, tuple) else (item, "") for item in items)
    severity, fix = KINDS[kind]
    return Defect(kind, severity, subject or named(dict.fromkeys(item[0] for item in items)), what, fix, items)


def defects_of(kind: str, what: str, items, subject: str = "") -> list[Defect]:
    """[`defect`], or nothing where nothing has it."""
    return [defect(kind, what, items, subject)] if len(items) else []


def grouped(kind: str, what: str, groups) -> list[Defect]:
    """As `defects_of`, about groups of ids that belong together, each a list of (id, detail); an item names one companion."""
    items, shown = [], []
    for group in groups:
        ids = [item[0] for item in group]
        shown.append(" = ".join(ids[:NAMED]) + (f" = {len(ids) - NAMED} more" if len(ids) > NAMED else ""))
        for name, detail in group:
            other = f"= {ids[0] if name != ids[0] else ids[1]}"
            items.append((name, f"{detail}, {other}" if detail else other))
    return defects_of(kind, what, items, named(shown))


def named(ids) -> str:
    """'a, b, c, d and 33 more'."""
    ids = list(ids)
    return ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")


def counted(n: int, what: str) -> str:
    """'1 clip', '2 clips'."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def share(part, whole) -> str:
    """'3 of 12 (25 %)'."""
    return f"{part} of {whole} ({100 * part / whole:.3g} %)" if whole else f"{part} of {whole}"

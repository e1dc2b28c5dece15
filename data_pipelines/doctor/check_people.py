"""Doctor: ids and splits. Is every person one person, and is nobody on both sides of a split?"""

import collections
import re
import unicodedata

from data_pipelines import progress
from data_pipelines.doctor.defects import counted, defect, defects_of, grouped, named, share

# With so few clips, one clip a person is nothing unusual.
MANY_CLIPS = 20
# A figure over fewer people than this is decided by one of them.
FEW_PEOPLE = 3
# A model of how any face moves needs somebody to learn from, somebody to stop the training by and somebody to be judged on.
MIN_PEOPLE = 3
# Of fewer people the interval of a share is wider than 0.4, and a correlation must exceed 0.44 to differ from 0.
MANY_PEOPLE = 20


def id_defects(entries) -> list:
    """Ids that look the same, and people with a single clip."""
    people = collections.Counter(entry.person_id for entry in entries)
    defects = []
    for kind, ids, words in (
        ("similar_person_ids", people, "person ids that are equal but for case, spaces or leading zeros: one person each?"),
        ("similar_clip_ids", [e.clip_id for e in entries], "clip ids that are equal but for case, spaces or leading zeros."),
    ):
        groups = [[(name, "") for name in group] for group in _alike(ids)]
        defects += grouped(kind, f"{counted(len(groups), 'group')} of {words}", groups)
    single = sorted(person for person, clips in people.items() if clips == 1)
    if len(single) == len(people) > MANY_CLIPS:
        what = f"Each of {len(people)} clips has a person of its own: is person_id really the person?"
        defects.append(defect("one_clip_a_person", what, single))
    elif single and len(single) < len(people):
        what = f"{share(len(single), len(people))} people have one clip, the others up to {max(people.values())}."
        defects.append(defect("single_clips", what, single))
    return defects


def _alike(ids):
    groups = {}
    for name in ids:
        plain = re.sub(r"\s+", "", unicodedata.normalize("NFKC", name).casefold())
        groups.setdefault(re.sub(r"\d+", lambda digits: str(int(digits[0])), plain), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def count_defects(entries, pool=None) -> list:
    """Too few people to learn from, or few of them; pool: entries that the generic model learns from, where it has its own."""
    people = {entry.person_id for entry in entries}
    taught = {entry.person_id for entry in (entries if pool is None else pool)}
    if len(taught) < MIN_PEOPLE:
        what = (
            f"The generic model has {progress.counted(len(taught), 'people')} and needs at least {MIN_PEOPLE}: one to learn "
            "from, one to decide when training stops, one to test on."
        )
        return [defect("too_few_people", what, sorted(taught) or ["nobody"])]
    if len(people) < MANY_PEOPLE:
        what = (
            f"Only {progress.counted(len(people), 'people')}: with fewer than {MANY_PEOPLE} the intervals are wide, guessing "
            f"identifies one in {len(people)}, and a trait must correlate strongly before it differs from chance."
        )
        if pool is None:
            what += " The generic model sees few faces and may not do better than copying its input."
        return [defect("few_people", what, sorted(people))]
    return []


def split_defects(entries, splits, train_splits=("train",), own_pool: bool = False, baseline: str = "") -> list:
    """Splits that are absent or small, and people who are in the training splits and in another one.

    splits: of each entry; own_pool: the generic model learns from a manifest of its own, so no training split is needed here;
    baseline: the sentence about what looking up people's training labels scores.
    """
    people = {}
    for entry, split in zip(entries, splits):
        people.setdefault(split, set()).add(entry.person_id)
    defects = []
    if not own_pool and not set(train_splits) & set(people):
        what = f"No clip is in a training split ({named(train_splits)}); the manifest has {named(sorted(people))}."
        defects.append(defect("no_train_split", what, sorted(people)))
    if not own_pool and "validation" not in people:
        what = f"No clip is in the split validation, which pretrain needs; there are {named(sorted(people))}."
        defects.append(defect("no_validation_split", what, sorted(people)))
    small = [(split, f"{len(ids)} people") for split, ids in sorted(people.items()) if len(ids) < FEW_PEOPLE]
    said = ", ".join(f"{name} ({detail})" for name, detail in small)
    defects += defects_of("small_split", f"Fewer than {FEW_PEOPLE} people are in {said}.", small)
    return defects + _overlap(entries, splits, people, train_splits, baseline)


def _overlap(entries, splits, people, train_splits, baseline):
    training = set().union(*(people.get(split, ()) for split in train_splits))
    parts, shared_items = [], []
    for split in sorted(set(people) - set(train_splits)):
        shared = people[split] & training
        if shared:
            clips = [entry.person_id in shared for entry, s in zip(entries, splits) if s == split]
            own = share(len(shared), len(people[split])), share(sum(clips), len(clips))
            parts.append(f"{own[0]} people and {own[1]} clips of {split}")
            shared_items += [(person, split) for person in sorted(shared)]
    if not parts:
        return []
    labelled = any(value == value for entry in entries for value in entry.traits)
    what = f"In training too: {'; '.join(parts)}." + (f" {baseline}" if baseline else "")
    return [defect("identity_overlap" if labelled else "unlabelled_overlap", what, shared_items)]


def pretrain_overlap(entries, pool) -> list:
    """People of the labelled `entries` who are also in `pool`, the entries that the generic model learns from."""
    labelled = {entry.person_id for entry in entries if any(value == value for value in entry.traits)}
    shared = sorted(labelled & {entry.person_id for entry in pool})
    what = f"{share(len(shared), len(labelled))} labelled people are also, without labels, in the generic model's own pool."
    return defects_of("pretrain_overlap", what, shared)

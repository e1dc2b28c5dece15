"""Splits that are disjoint by person: whoever is in the test split was never seen in training.

The assignment depends on the set of people and the seed alone, not on the order of the manifest.
"""

import hashlib
import math

from data_pipelines.errors import InputError

SPLITS = ("train", "validation", "test")


def assign_splits(person_ids, fractions=(0.7, 0.15, 0.15), seed=0) -> dict[str, str]:
    """{person_id: 'train' | 'validation' | 'test'}; the splits' sizes follow `fractions` to within one person.

    Every split with a positive fraction gets at least one person as long as there are enough people (train first, then
    test, then validation).
    """
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise InputError(f"config.data.split_fractions is {tuple(fractions)}; it must be three shares that add up to 1.")
    # Ranking people by a hash (not by shuffling a list) keeps nearly everyone in place when people are added later.
    people = sorted(set(person_ids), key=lambda p: hashlib.sha256(f"{seed}/{p}".encode()).digest())
    sizes = [int(f * len(people)) for f in fractions]
    by_remainder = sorted(range(3), key=lambda i: sizes[i] - fractions[i] * len(people))
    for i in by_remainder[: len(people) - sum(sizes)]:
        sizes[i] += 1
    for i in (0, 2, 1):
        if fractions[i] > 0 and sizes[i] == 0 and max(sizes) > 1:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[i] += 1
    names = [name for name, size in zip(SPLITS, sizes) for _ in range(size)]
    return dict(zip(people, names))


def clip_splits(entries, fractions=(0.7, 0.15, 0.15), seed=0) -> list[str]:
    """The split of each ClipEntry: the manifest's own where it is given, else the person's, else an assigned one."""
    given = {}
    for entry in entries:
        if entry.split:
            given.setdefault(entry.person_id, entry.split)
    assigned = assign_splits([e.person_id for e in entries if e.person_id not in given], fractions, seed)
    return [e.split or given.get(e.person_id) or assigned[e.person_id] for e in entries]

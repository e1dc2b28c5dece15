"""Who is in training and who is tested, for the stage `traits`: the folds of config.traits.protocol."""

import numpy as np

from data_pipelines.errors import InputError
from facedyn.core import cross_validation as cv

PROTOCOLS = ("k_fold", "leave_one_out", "official")
OFFICIAL_TRAINING, OFFICIAL_TEST = ("train", "validation"), "test"


def folds(config, face_clips, records, people, labels, seed: int) -> np.ndarray:
    """Fold of each person: int [P] in 0 .. K - 1; -1 for one who is in training only.

    k_fold: as many as config.traits.folds; leave_one_out: one a person; official: the split `test` is the only fold.
    Raises InputError when the splits cannot serve.
    """
    if config.traits.protocol == "leave_one_out":
        return np.arange(len(people))
    if config.traits.protocol == "official":
        return _official(face_clips, records, people, labels)
    return cv.person_folds(people, min(config.traits.folds, len(people)), config.seed + seed, labels)


def as_scored(config, predictions, labels, fold) -> np.ndarray:
    """Predictions [..., P, T] as they are scored: `without_drift` where a fold is one person, else as they are."""
    return without_drift(predictions, labels, fold) if config.traits.protocol == "leave_one_out" else predictions


def without_drift(predictions, labels, fold) -> np.ndarray:
    """Predictions [P, T] moved, fold by fold, from the mean of the training labels to that of all labels.

    With one person a fold the training mean lies low exactly where the person's label is high, so that a head that learnt
    nothing has a PCC of -1 where 0 is due. What is added is the same number for everyone, less each fold's own training mean.
    """
    return (predictions - cv.predict_mean(labels, fold) + np.nanmean(labels, 0)[None]).astype(np.float32)


def _official(face_clips, records, people, labels):
    splits = {person: set() for person in people}
    for record in records:
        clip = face_clips.clips[record]
        if clip.person_id in splits:
            splits[clip.person_id].add(clip.split)
    both = [p for p, found in splits.items() if OFFICIAL_TEST in found and len(found) > 1]
    if both:
        raise InputError(
            f"config.traits.protocol='official' needs people in training or in test, but {both[0]!r} is in both"
            f" ({len(both)} such people); correct the manifest's splits, or use 'k_fold'."
        )
    fold = np.array([0 if OFFICIAL_TEST in splits[p] else -1 for p in people])
    for name, rows in ((OFFICIAL_TEST, fold == 0), ("' or '".join(OFFICIAL_TRAINING), fold < 0)):
        if not np.isfinite(labels[rows]).any(0).all() or rows.sum() < 2:
            raise InputError(
                f"config.traits.protocol='official' needs labelled people with a representation in the split '{name}' for every"
                f" trait; it has {rows.sum()}. Leave config.traits.splits and config.fit.splits empty, or use 'k_fold'."
            )
    return fold

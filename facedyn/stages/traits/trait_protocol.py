"""What is scored by the stage `traits`, people or clips, the rows heads see of it, and what is in training: the folds."""

import dataclasses

import numpy as np

from data_pipelines.errors import InputError
from facedyn.core import cross_validation as cv
from facedyn.stages.fit import shared
from facedyn.stages.fit.units import unit_id
from facedyn.stages.runtime import messages
from facedyn.stages.traits import trait_features
from facedyn.store.scores import PEOPLE_OVERLAP

PROTOCOLS = ("k_fold", "leave_one_out", "official")
OFFICIAL_TRAINING, OFFICIAL_TEST = ("train", "validation"), "test"


@dataclasses.dataclass(frozen=True)
class Subjects:
    """What is scored: P people or, with config.traits.aggregate = 'none', P fit units of theirs."""

    ids: list[str]  # of the people or units
    people: list[str]  # whose they are: the ids themselves, or the units' people
    labels: np.ndarray  # float64 [P, T], NaN = missing
    unit_labels: dict | None = None  # {unit_id: its own labels [T]}; None where units have no labels of their own

    @property
    def owner(self) -> np.ndarray:
        """Number of each one's person: int [P], from 0."""
        return np.unique(self.people, return_inverse=True)[1]


def scored_id(config, clip) -> str:
    """Of the person or unit that a clip is scored with."""
    return unit_id(clip, config.fit.unit) if config.traits.aggregate == "none" else clip.person_id


def choose_subjects(config, face_clips, records, rows, people, labels, trait_names) -> Subjects:
    """Of people with labels [P, T] of the traits, or, as config.traits.aggregate says, of their units in the table `rows`."""
    if config.traits.aggregate == "person":
        return Subjects(people, people, labels)
    chosen = [face_clips.trait_names.index(name) for name in trait_names]
    unit_labels = trait_features.labels_by_unit(face_clips, records, lambda clip: unit_id(clip, config.fit.unit))
    unit_labels = {unit: values[chosen] for unit, values in unit_labels.items()}
    if config.traits.aggregate == "clip":
        return Subjects(people, people, labels, unit_labels)
    owner = dict(zip(rows["unit_id"].astype(str), rows["person_id"].astype(str)))
    labelled = {unit for unit, values in unit_labels.items() if np.isfinite(values).any()}
    units = sorted(unit for unit, person in owner.items() if person in set(people) and unit in labelled)
    if not units:
        raise InputError(trait_features.OTHER_UNITS)
    return Subjects(units, [owner[u] for u in units], np.stack([unit_labels[u] for u in units]), unit_labels)


def samples(config, subjects: Subjects, rows, vectors) -> trait_features.Samples:
    """What heads are fitted to, one row per person or fit unit, from a table of representations."""
    if config.traits.aggregate == "person":
        found = trait_features.samples_by_person(rows, vectors, subjects.ids, subjects.labels)
    elif config.traits.aggregate == "clip":
        found = trait_features.samples_by_unit(rows, vectors, subjects.ids, subjects.unit_labels, subjects.labels)
    else:
        number, blocks = np.arange(len(subjects.ids)), trait_features.blocks_by_unit(rows, vectors, subjects.ids)
        found = trait_features.Samples(len(number), number, subjects.owner, subjects.labels, blocks)
    features = shared.features(config)
    if vectors.shape[1] != len(features.bands):  # of another fit than config says
        features = shared.Features((), np.zeros(vectors.shape[1], int), None)
    return dataclasses.replace(found, weights=features.weights, bands=features.bands, names=features.names)


def folds(config, face_clips, records, subjects: Subjects, seed: int) -> np.ndarray:
    """Fold of each: int [P] in 0 .. K - 1; -1 for one that is in training only.

    k_fold: as many as config.traits.folds; leave_one_out: one per person; official: the only fold is the split `test`. The
    first two are disjoint by person. Raises InputError when the splits cannot be used.
    """
    if config.traits.protocol == "leave_one_out":
        return subjects.owner
    if config.traits.protocol == "official":
        return _official(config, face_clips, records, subjects)
    people = len(set(subjects.people))
    return cv.person_folds(subjects.people, min(config.traits.folds, people), config.seed + seed, subjects.labels)


def overlap(subjects: Subjects, fold) -> list[str]:
    """People who are in training and in test at once, sorted; possible with the official split of clips only."""
    trained, tested = ({p for p, k in zip(subjects.people, fold) if (k < 0) == training} for training in (True, False))
    return sorted(trained & tested)


def overlap_note(subjects: Subjects, fold) -> str:
    """The note of scores with people both in training and in test, else ''; a line says how many they are."""
    both = overlap(subjects, fold)
    if not both:
        return ""
    tested = {person for person, k in zip(subjects.people, fold) if k >= 0}
    messages.warning(
        f"traits: {len(both)} of {len(tested)} people in test are in training too, so recognising a person helps: scores are"
        " marked people_overlap; compare them with same_identity, which looks up the person's label and sees no frame"
    )
    return PEOPLE_OVERLAP


def as_scored(config, predictions, labels, fold) -> np.ndarray:
    """Predictions [..., P, T] as they are scored: where a fold is one person, about the mean of all labels, else as they are.

    With one person a fold the training mean lies low exactly where the person's label is high, so that a head that learnt
    nothing has a PCC of -1 where 0 is due. What is added is the same number for everyone, less each fold's own training mean.
    """
    if config.traits.protocol != "leave_one_out":
        return predictions
    return (predictions - cv.predict_mean(labels, fold) + np.nanmean(labels, 0)[None]).astype(np.float32)


def _official(config, face_clips, records, subjects):
    splits = {name: set() for name in subjects.ids}
    for record in records:
        clip = face_clips.clips[record]
        if scored_id(config, clip) in splits:
            splits[scored_id(config, clip)].add(clip.split)
    both = [name for name, found in splits.items() if OFFICIAL_TEST in found and len(found) > 1]
    if both:
        what = "fit units" if config.traits.aggregate == "none" else "people"
        raise InputError(
            f"config.traits.protocol='official' needs {what} in training or in test, but {both[0]!r} is in both ({len(both)}"
            f" such {what}); correct the manifest's splits, use 'k_fold', or score clips (fit.unit='clip',"
            " traits.aggregate='none')."
        )
    fold, labels = np.array([0 if OFFICIAL_TEST in splits[name] else -1 for name in subjects.ids]), subjects.labels
    for name, rows in ((OFFICIAL_TEST, fold == 0), ("' or '".join(OFFICIAL_TRAINING), fold < 0)):
        if not np.isfinite(labels[rows]).any(0).all() or rows.sum() < 2:
            raise InputError(
                f"config.traits.protocol='official' needs labelled people with a representation in the split '{name}' for every"
                f" trait; it has {rows.sum()}. Leave config.traits.splits and config.fit.splits empty, or use 'k_fold'."
            )
    return fold

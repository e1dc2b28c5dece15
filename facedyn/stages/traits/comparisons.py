"""What the figures of the stage `traits` are to be read beside: permuted labels, a person's other clips, paired differences."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from data_pipelines.doctor.check_identity import identity_scores
from data_pipelines.progress import Progress
from facedyn.core import cross_validation as cv
from facedyn.core import metrics
from facedyn.stages.traits import trait_protocol, trait_scores
from facedyn.stages.traits.trait_predictions import Scored
from facedyn.store.scores import MINUS, ScoreKey

# Baselines that see appearance only: what they score is to be read beside what they score on permuted labels.
APPEARANCE_BASELINES = ("mean_face", "generic_feature")


def permuted_labels(labels, people, fold, seed: int) -> np.ndarray:
    """The labels [N, T] of people [N] dealt out again, each fold's mean kept near the others' as `cv.person_folds` does.

    Unequal fold means alone would give a PCC well below 0. Where folds are none of its making, such as official splits, labels
    are dealt out among all. Someone with several rows gets those of one other person: what it tells to know a person again
    stays in, where people are in training and in test.
    """
    _, first, index = np.unique(people, return_index=True, return_inverse=True)
    rng, folds, of_person = np.random.default_rng(seed), fold.max() + 1, fold[first]
    other = cv.person_folds(people, folds, seed, labels)[first] if folds > 1 and (fold >= 0).all() else None
    if other is None or not (np.bincount(other) == np.bincount(of_person)).all():
        source = rng.permutation(len(first))
    else:
        source = np.empty(len(first), int)
        for k in range(folds):
            source[of_person == k] = rng.permutation(np.flatnonzero(other == k))
    rows, taken = [np.flatnonzero(index == p) for p in range(len(first))], np.empty(len(labels), int)
    for own, theirs in zip(rows, source):
        taken[own] = np.resize(rows[theirs], len(own))
    return labels[taken]


def other_rows(config, face_clips, records, scored: Scored, features, fold, lead: ScoreKey) -> list[dict]:
    """Rows of those of config.traits.baselines that are no predictions of people.

    features: of the baselines, {key: (x, whose rows they are)}. lead: the headline's key.
    """
    rows = []
    if "permuted_labels" in config.traits.baselines:
        own = lead._replace(head=scored.head_for(scored.samples)), scored.headline, scored.samples
        of_looks = [(key._replace(of=key.method), *of) for key, of in features.items() if key.method in APPEARANCE_BASELINES]
        with Progress("permuted labels", 1 + len(of_looks), unit="feature sets") as progress:
            for key, x, samples in (own, *of_looks):
                rows += permuted_rows(config, scored, x, samples, fold, key)
                progress.advance(note=key.of or key.method)
    if "same_identity" in config.traits.baselines:
        tested = {person for person, k in zip(scored.subjects.people, fold) if k >= 0}
        rows += identity_rows(config, face_clips, [i for i in records if face_clips.clips[i].person_id in tested])
    return rows


def permuted_rows(config, scored: Scored, x, rows, fold, key: ScoreKey) -> list[dict]:
    """The ridge on features x [R, D] of `rows` for permuted labels: mean over the permutations, and where 95 % of them lie.

    key: of the same ridge for the labels as they are.
    """
    n, subjects = config.traits.permutations, scored.subjects
    permuted = [permuted_labels(subjects.labels, subjects.people, fold, config.seed + 1 + i) for i in range(n)]
    # One call: all permutations are traits of their own and share the principal coordinates.
    labels = np.concatenate(permuted, 1)
    rows = dataclasses.replace(rows, labels=labels[rows.row_of])
    predicted = scored.predict(x, rows, fold)
    predicted = trait_protocol.as_scored(config, predicted, labels, fold).reshape(len(labels), n, -1)
    known = [np.isfinite(y) & np.isfinite(predicted[:, i]) for i, y in enumerate(permuted)]
    figures = np.stack(
        [
            metrics.trait_metrics(jnp.asarray(y, jnp.float32), jnp.asarray(predicted[:, i]), jnp.asarray(where, jnp.float32))
            for i, (y, where) in enumerate(zip(permuted, known))
        ]
    )  # [n, M, T + 1]
    low, high = np.percentile(figures, (2.5, 97.5), 0)
    counts, key = trait_scores.people_scored(known[0], subjects.owner), key._replace(method="permuted_labels")
    return trait_scores.rows_of(key, scored.trait_names, figures.mean(0), low, high, counts)


def identity_rows(config, face_clips, records) -> list[dict]:
    """What a person's other clips tell: across official splits, and clip by clip where labels differ within people."""
    names = face_clips.trait_names
    every = list({clip.clip_id: clip for clip in face_clips.clips}.values())
    training = set(config.pretrain.splits)
    both = {c.person_id for c in every if c.split in training} & {c.person_id for c in every if c.split not in training}
    rows = identity_scores(every, [c.split for c in every], names, tuple(training)) if both else []
    rows = [row for row in rows if row["method"] == "same_identity"]
    clips = list({face_clips.clips[i].clip_id: face_clips.clips[i] for i in records}.values())
    labels = np.array([clip.traits for clip in clips], np.float64)
    ids, person = np.unique([clip.person_id for clip in clips], return_inverse=True)
    predicted, differ = other_clips_mean(person, labels)
    if differ and (np.isfinite(labels) & np.isfinite(predicted)).any():
        figures = trait_scores.with_intervals(config, labels, predicted, person, metrics.trait_metrics)
        rows += trait_scores.rows_of(ScoreKey("same_identity", of="other_clips"), names, *figures)
    return rows


def other_clips_mean(person, labels) -> tuple[np.ndarray, bool]:
    """(mean label of each clip's person over his or her OTHER clips, [N, T], whether labels differ within any person).

    person: int [N], from 0; labels [N, T], NaN = not known. NaN where there is no other clip.
    """
    known = np.isfinite(labels)
    total, count = np.zeros((2, person.max() + 1, labels.shape[1]))
    np.add.at(total, person, np.nan_to_num(labels))
    np.add.at(count, person, known)
    others, sums = count[person] - known, total[person] - np.nan_to_num(labels)
    means = np.where(others > 0, sums / np.maximum(others, 1), np.nan)
    return means, bool(np.nanmax(np.abs(means - labels), initial=0.0) > 1e-6)


def pairs(predictions, fused) -> dict:
    """{key: [2, S, P, T]}: the headline and each other method, a fused pair and each of its members.

    predictions {key: [S, P, T]}, the headline first; fused {method: key of the baseline it is fused with}.
    """
    lead, found = next(iter(predictions)), {}
    for key in predictions:
        if key.method in fused:
            chosen = [(key, fused[key.method]), (key, lead)]
        else:
            chosen = [(lead, key)] * (key.method != lead.method)
        for one, other in chosen:
            named_by = other if one == lead else one
            difference = named_by._replace(method=f"{one.method}{MINUS}{other.method}")
            found[difference] = np.stack([predictions[one], predictions[other]])
    return found

"""Stage `traits`: representations and labels -> cross-validated predictions, metrics with intervals, baselines, heads.

All feature sets and all baselines are judged on the same people by the same folds. Figures are per person: several units of a
person and task (sessions, clips) count as their mean, or their predictions do (config.traits.aggregate); several labels do too.
By choice every unit is scored by itself, with its own label; intervals are by person in any case.
"""

import dataclasses
import pathlib
import time

import numpy as np

from data_pipelines.errors import InputError
from facedyn.core import cross_validation as cv
from facedyn.core.pca import balance_blocks
from facedyn.stages.fit import shared
from facedyn.stages.fit.learning import people_of
from facedyn.stages.fit.units import unit_id
from facedyn.stages.runtime import common
from facedyn.stages.traits import (
    baselines,
    comparisons,
    saved_heads,
    trait_features,
    trait_predictions,
    trait_protocol,
    trait_scores,
    weights_by_site,
)
from facedyn.store import checkpoints
from facedyn.store.representations import load_representations
from facedyn.store.scores import replace_scores

HEADS, AGGREGATES = ("ridge", "mlp"), ("person", "clip", "none")
# Fewer labelled people than this give no figure worth printing.
MIN_PEOPLE = 6
# How many ids a line names before it says "and so many more".
NAMED = 8


def run(config, workdir) -> dict:
    """Scores every feature set and baseline; writes scores, predictions, folds, the headline's heads and what they read where.

    Returns: summary; {'skipped': reason} where nobody has labels and representations, which a printed line says too.
    Raises InputError for a missing dataset or table, or a setting that cannot be.
    """
    workdir, start = pathlib.Path(workdir), time.monotonic()
    _check(config)
    face_clips = common.open_data(common.data_dir(config, workdir), config)
    records = common.records_of(face_clips, config.traits.splits)
    people, labels = trait_features.labels_by_person(face_clips, records)
    trait_names = face_clips.trait_names
    if not trait_names or not np.isfinite(labels).any():
        why = "config.data.traits names no trait column" if not trait_names else "none of the people scored has a label"
        return _skip(workdir, why)
    rows, vectors = _finite(*load_representations(workdir))
    people, labels, trait_names = _scored_people(rows, people, labels, trait_names)
    if not trait_names:
        return _skip(workdir, f"no trait has {MIN_PEOPLE} people with a label and a representation")

    subjects, unit_labels = _subjects(config, face_clips, records, rows, people, labels, trait_names)

    def samples_of(rows, vectors):
        return _samples(config, rows, vectors, subjects, unit_labels)

    samples = samples_of(rows, vectors)
    del vectors  # the samples hold what is needed of them
    if config.traits.aggregate == "person":
        _say_missing(samples.blocks, people)
    seen = _transductive(workdir, people)
    end = trait_predictions.ending(config) + seen
    folds = [trait_protocol.folds(config, face_clips, records, subjects, seed) for seed in config.traits.seeds]
    overlap = _overlap(subjects, folds[0])
    scored = comparisons.Scored(subjects, trait_names, samples, trait_predictions.ridge_settings(config))
    features = baselines.features(config, workdir, face_clips, records, scored, samples_of, seen)
    repeats, first = [], None  # (scored, findings) of each
    for fold in folds:
        own = trait_predictions.predict(config, samples, fold, end)
        first = first or own
        of_baselines = baselines.predict(config, features, scored, fold, own.scored)
        repeats.append(
            [
                {key: trait_protocol.as_scored(config, one, subjects.labels, fold) for key, one in each.items()}
                for each in (own.scored | of_baselines, own.findings)
            ]
        )
    predictions, pairs = ({key: np.stack([one[key] for one in each], -3) for key in each[0]} for each in zip(*repeats))
    pairs |= comparisons.pairs(predictions, baselines.fused(config, features))

    tested = folds[0] >= 0
    judged = subjects.labels[tested], np.unique(subjects.owner[tested], return_inverse=True)[1]
    score_rows = trait_scores.score_rows(config, _rows(predictions, tested), *judged, trait_names)
    headline = next(r for r in score_rows if r["trait"] == "mean" and r["metric"] == "pcc")
    score_rows += trait_scores.spread_rows(_rows(first.networks, tested), *judged)
    score_rows += trait_scores.difference_rows(config, _rows(pairs, tested), *judged, trait_names)
    # Nothing but permuted labels and look-ups: they are not worth a round for every repeat of the cross-validation.
    score_rows += comparisons.other_rows(config, face_clips, records, scored, features, folds[0], headline["setting"])
    if len(folds) > 1:
        lead = predictions[headline["method"], headline["setting"]]
        single = {("fold_seed", f"{headline['setting']};seed={s}"): lead[i : i + 1] for i, s in enumerate(config.traits.seeds)}
        score_rows += trait_scores.score_rows(config, _rows(single, tested), *judged, trait_names)
    score_rows = [row | {"setting": (row["setting"] + overlap).lstrip(";")} for row in score_rows]
    predictions = {(method, (setting + overlap).lstrip(";")): one for (method, setting), one in predictions.items()}
    trait_scores.write_predictions(workdir, predictions, subjects, trait_names, folds, config.traits.seeds)
    trait_scores.write_folds(workdir, subjects, folds, config.traits.seeds)
    heads, described = trait_predictions.saved_heads(config, samples, folds[0], first.mlp_head, end + overlap, trait_names)
    saved_heads.write_heads(workdir, heads, described)
    fitted_to = trait_predictions.head_rows(folds[0])[samples.row_of]
    weights_by_site.write(config, workdir, heads, scored.headline[fitted_to])
    replace_scores(workdir, "traits", score_rows)
    return {
        "people": int(judged[1].max()) + 1,
        "traits": list(trait_names),
        "folds": int(folds[0].max()) + 1,
        "headline": headline["setting"] + overlap,
        "pcc": headline["value"],
        "seconds": round(time.monotonic() - start, 1),
    }


def _check(config):
    """Raises InputError for settings under which nothing can be computed."""
    traits = config.traits
    baselines.check(traits)
    unknown = [head for head in traits.heads if head not in HEADS]
    if unknown or not traits.heads:
        raise InputError(f"config.traits.heads={tuple(traits.heads)} must name some of {', '.join(HEADS)}.")
    smallest = {"folds": 2, "inner_folds": 2, "bootstrap": 1, "mlp_hidden": 1, "mlp_steps": 1, "mlp_seeds": 1}
    for name, least in smallest.items():
        if traits[name] < least:
            raise InputError(f"config.traits.{name}={traits[name]} must be at least {least}.")
    for name in ("penalties", "mlp_weight_decay"):
        if not traits[name] or min(traits[name]) <= 0:
            raise InputError(f"config.traits.{name}={tuple(traits[name])} must be positive, for example (0.1, 1, 10).")
    if not traits.pca or min(traits.pca) < 0:
        raise InputError(
            f"config.traits.pca={tuple(traits.pca)} must be numbers of components, 0 for all, for example (0, 32)."
        )
    if not traits.seeds or len(set(traits.seeds)) < len(traits.seeds):
        raise InputError(f"config.traits.seeds={tuple(traits.seeds)} must be different whole numbers, for example (0, 1, 2).")
    choices = (("ridge_solver", cv.SOLVERS), ("protocol", trait_protocol.PROTOCOLS), ("aggregate", AGGREGATES))
    for name, known in choices:
        if traits[name] not in known:
            raise InputError(f"config.traits.{name}={traits[name]!r} must be one of {', '.join(known)}.")
    if len(traits.seeds) > 1 and traits.protocol != "k_fold":
        raise InputError(
            f"config.traits.seeds={tuple(traits.seeds)} deal out folds, of which {traits.protocol!r} has one choice only."
        )
    if traits.aggregate != "person" and config.fit.unit == "person":
        raise InputError(
            f"config.traits.aggregate={traits.aggregate!r} needs several units a person: fit with config.fit.unit='clip' or"
            " 'session'."
        )


def _subjects(config, face_clips, records, rows, people, labels, trait_names):
    """(what is scored, {unit_id: its own labels [T]} or None where units count for nothing)."""
    if config.traits.aggregate == "person":
        return trait_protocol.Subjects(people, people, labels), None
    chosen = [face_clips.trait_names.index(name) for name in trait_names]
    unit_labels = trait_features.labels_by_unit(face_clips, records, lambda clip: unit_id(clip, config.fit.unit))
    unit_labels = {unit: values[chosen] for unit, values in unit_labels.items()}
    if config.traits.aggregate == "clip":
        return trait_protocol.Subjects(people, people, labels), unit_labels
    owner = dict(zip(rows["unit_id"].astype(str), rows["person_id"].astype(str)))
    labelled = {unit for unit, values in unit_labels.items() if np.isfinite(values).any()}
    units = sorted(unit for unit, person in owner.items() if person in set(people) and unit in labelled)
    if not units:
        raise InputError(trait_features.OTHER_UNITS)
    return trait_protocol.Subjects(units, [owner[u] for u in units], np.stack([unit_labels[u] for u in units])), unit_labels


def _samples(config, rows, vectors, subjects, unit_labels):
    """What the heads are fitted to, a row a person or a fit unit."""
    if config.traits.aggregate == "person":
        samples = trait_features.samples_by_person(rows, vectors, subjects.ids, subjects.labels)
    elif config.traits.aggregate == "clip":
        samples = trait_features.samples_by_unit(rows, vectors, subjects.ids, unit_labels, subjects.labels)
    else:
        number, blocks = np.arange(len(subjects.ids)), trait_features.blocks_by_unit(rows, vectors, subjects.ids)
        samples = trait_features.Samples(len(number), number, subjects.owner, subjects.labels, blocks)
    return dataclasses.replace(samples, weights=_part_weights(config, vectors.shape[1]))


def _part_weights(config, length: int):
    """Weights that give each block the same variance in a head; None where the representation has filters only."""
    sizes = shared.part_sizes(config)
    return balance_blocks(sizes) if len(sizes) > 1 and sum(sizes) == length else None


def _overlap(subjects, fold) -> str:
    """What settings end with when people are in training and in test; a line says so."""
    both = trait_protocol.overlap(subjects, fold)
    if not both:
        return ""
    tested = {person for person, k in zip(subjects.people, fold) if k >= 0}
    print(
        f"traits: {len(both)} of {len(tested)} people in test are in training too, so knowing a face again helps: scores say"
        " people_overlap, and same_identity among them is what looking people up gives without a pixel"
    )
    return trait_protocol.OVERLAP


def _rows(predictions, tested):
    """Only the people who are tested."""
    return {key: one[..., tested, :] for key, one in predictions.items()}


def _transductive(workdir, people) -> str:
    """What settings end with when the generic model has seen some of the people."""
    seen = set(people) & people_of(workdir)
    if seen:
        print(
            f"traits: {len(seen)} of {len(people)} people were in the generic model's pool, unlabelled: scores say transductive"
        )
    return ";transductive" if seen else ""


def _skip(workdir, reason):
    """Leaves no row and no prediction of an earlier run behind."""
    print(f"traits: skipped, {reason}")
    replace_scores(workdir, "traits", [])
    trait_scores.remove(workdir)
    checkpoints.remove(workdir / saved_heads.FOLDER)
    weights_by_site.remove(workdir)
    return {"skipped": reason}


def _named(ids) -> str:
    ids = sorted(set(ids))
    return ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")


def _finite(rows, vectors):
    """Without the units whose representation is not finite; a line says which."""
    finite = np.asarray(rows["finite"], bool) & np.isfinite(vectors).all(1)
    if finite.all():
        return rows, vectors
    bad = [f"{unit} (scale {scale})" for unit, scale in zip(rows["unit_id"][~finite], rows["scale"][~finite])]
    print(f"traits: {len(bad)} representations are not finite and are left out: {_named(bad)}")
    return rows[finite].reset_index(drop=True), vectors[finite]


def _scored_people(rows, people, labels, trait_names):
    """People with a label and a representation, and the traits that enough of them have; lines say what is left out."""
    represented = set(rows["person_id"].astype(str))
    has_label = np.isfinite(labels).any(1)
    lost = [p for p, known in zip(people, has_label) if known and p not in represented]
    if lost:
        print(f"traits: {len(lost)} people have labels but no representation and are left out: {_named(lost)}")
    keep = np.array([p in represented for p in people]) & has_label
    enough = np.isfinite(labels[keep]).sum(0) >= MIN_PEOPLE
    for name, ok, known in zip(trait_names, enough, np.isfinite(labels[keep]).sum(0)):
        if not ok:
            print(f"traits: {name} is left out, {known} people have a label for it and {MIN_PEOPLE} are needed")
    keep &= np.isfinite(labels[:, enough]).any(1)
    kept_names = tuple(name for name, ok in zip(trait_names, enough) if ok)
    return [p for p, k in zip(people, keep) if k], labels[keep][:, enough], kept_names


def _say_missing(blocks, people):
    """A line for every scale and task that some people lack."""
    for (scale, task), block in blocks.items():
        absent = np.isnan(block).all(1)
        if absent.any():
            who = _named(np.asarray(people)[absent])
            print(
                f"traits: {absent.sum()} people have no representation of scale {scale}, task {task}: {who}; "
                f"alone it is scored without them, beside others it counts as the training people's mean"
            )

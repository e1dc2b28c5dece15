"""Stage `traits`: representations and labels -> cross-validated predictions, metrics with intervals, baselines, heads.

All feature sets and all baselines are judged on the same people by the same folds. Figures are per person: several units of a
person and task (sessions, clips) count as their mean, or their predictions do (config.traits.aggregate); several labels do too.
By choice every unit is scored by itself, with its own label; intervals are by person in any case.
"""

import dataclasses
import functools
import pathlib
import shutil
import time

import numpy as np

from facedyn.config import check
from facedyn.core.verdicts import MIN_PEOPLE
from facedyn.stages.fit.learning import people_of
from facedyn.stages.runtime import common, messages
from facedyn.stages.traits import (
    baselines,
    comparisons,
    saved_heads,
    trait_features,
    trait_predictions,
    trait_protocol,
    trait_scores,
)
from facedyn.store.representations import load_representations
from facedyn.store.scores import TRANSDUCTIVE, ScoreKey, replace_scores

HEADS, AGGREGATES = ("banded_ridge", "ridge", "mlp"), ("person", "clip", "none")


@dataclasses.dataclass(frozen=True)
class _Repeats:
    """Predictions of all S repeats of the cross-validation."""

    folds: list[np.ndarray]  # int [P] each
    predictions: dict[ScoreKey, np.ndarray]  # [S, P, T], the headline first
    pairs: dict[ScoreKey, np.ndarray]  # [2, S, P, T], what is compared
    first: trait_predictions.Predicted  # of the representation, by the first repeat


def run(config, workdir) -> dict:
    """Scores every feature set and baseline; writes scores, predictions, folds, the headline's heads and what they read where.

    Returns: summary; {'skipped': reason} where nobody has labels and representations, which a printed line says too.
    Raises InputError for a missing dataset or table, or a setting that cannot be.
    """
    workdir, start = pathlib.Path(workdir), time.monotonic()
    check(config, "traits", files=False)
    face_clips = common.open_data(common.data_dir(config, workdir), config)
    records = common.records_of(face_clips, config.traits.splits)
    scored = _what_is_scored(config, workdir, face_clips, records)
    if isinstance(scored, str):
        return _skip(workdir, scored)
    marks = _marks(config, workdir, scored.subjects.people)
    features = baselines.features(config, workdir, face_clips, records, scored, marks)
    folds = [trait_protocol.folds(config, face_clips, records, scored.subjects, seed) for seed in config.traits.seeds]
    overlap = trait_protocol.overlap_note(scored.subjects, folds[0])
    repeats = _cross_validate(config, scored, features, folds, marks)
    lead, rows = _score_rows(config, scored, repeats)
    # Nothing but permuted labels and look-ups: they are not worth a round for every repeat of the cross-validation.
    rows += comparisons.other_rows(config, face_clips, records, scored, features, folds[0], lead)
    rows = [row | {"note": ScoreKey(row["method"], note=row.get("note", "")).noting(overlap).note} for row in rows]
    _write(config, workdir, scored, repeats, marks, overlap)
    replace_scores(workdir, "traits", rows)
    headline = next(row for row in rows if row["trait"] == "mean" and row["metric"] == "pcc")
    return {
        "people": len({person for person, k in zip(scored.subjects.people, folds[0]) if k >= 0}),
        "traits": list(scored.trait_names),
        "folds": int(folds[0].max()) + 1,
        "headline": lead.noting(overlap)._asdict(),
        "pcc": headline["value"],
        "seconds": round(time.monotonic() - start, 1),
    }


def _what_is_scored(config, workdir, face_clips, records) -> trait_predictions.Scored | str:
    """People, or units of theirs, with labels and representations; or why there are none. Lines say what is left out."""
    people, labels = trait_features.labels_by_person(face_clips, records)
    if not face_clips.trait_names:
        return "config.data.traits names no trait column"
    if not np.isfinite(labels).any():
        return "none of the people scored has a label"
    rows, vectors = trait_features.finite_rows(*load_representations(workdir))
    people, labels, trait_names = trait_features.people_to_score(rows, people, labels, face_clips.trait_names)
    if not trait_names:
        return f"no trait has {MIN_PEOPLE} people with a label and a representation"
    subjects = trait_protocol.choose_subjects(config, face_clips, records, rows, people, labels, trait_names)
    samples = trait_protocol.samples(config, subjects, rows, vectors)
    if config.traits.aggregate == "person":
        trait_features.log_missing_blocks(samples.blocks, people)
    leading = next(head for head in HEADS if head in config.traits.heads)  # that the headline is of
    return trait_predictions.Scored(subjects, trait_names, samples, trait_predictions.ridge_settings(config), leading)


def _marks(config, workdir, people) -> dict[str, str]:
    """Columns that every key of the representation has; a line says when the generic model has seen some of the people."""
    aggregate, people = config.traits.aggregate, set(people)
    seen = people & people_of(workdir)
    if seen:
        messages.warning(
            f"traits: {len(seen)} of {len(people)} people also trained the generic model, without labels: "
            "their scores are marked transductive"
        )
    return {"aggregate": "" if aggregate == "person" else aggregate, "note": TRANSDUCTIVE if seen else ""}


def _cross_validate(config, scored, features, folds, marks) -> _Repeats:
    """Everything that predicts people, by every repeat."""
    first, of_repeats = None, []
    for fold in folds:
        own = trait_predictions.predict(config, scored.samples, fold, marks)
        first = first or own
        every = own.scored | baselines.predict(config, features, scored, fold, own.scored)
        as_scored = functools.partial(trait_protocol.as_scored, config, labels=scored.subjects.labels, fold=fold)
        of_repeats.append([{key: as_scored(one) for key, one in each.items()} for each in (every, own.findings)])
    predictions, pairs = ({key: np.stack([one[key] for one in each], -3) for key in each[0]} for each in zip(*of_repeats))
    pairs |= comparisons.pairs(predictions, baselines.fused(config, features))
    assert first is not None, "There is at least one repeat"
    return _Repeats(folds, predictions, pairs, first)


def _score_rows(config, scored, repeats) -> tuple[ScoreKey, list[dict]]:
    """(the headline's key, rows of all predictions and differences, the headline's first), of the people who are tested."""
    tested, subjects = repeats.folds[0] >= 0, scored.subjects
    judged = subjects.labels[tested], np.unique(subjects.owner[tested], return_inverse=True)[1]

    def of_tested(predictions):
        return {key: one[..., tested, :] for key, one in predictions.items()}

    lead, names = next(iter(repeats.predictions)), scored.trait_names
    rows = trait_scores.score_rows(config, of_tested(repeats.predictions), *judged, names)
    rows += trait_scores.spread_rows(of_tested(repeats.first.networks), *judged)
    rows += trait_scores.difference_rows(config, of_tested(repeats.pairs), *judged, names)
    if len(repeats.folds) > 1:
        of_seed = {
            lead._replace(method="fold_seed", seed=str(seed)): repeats.predictions[lead][i : i + 1]
            for i, seed in enumerate(config.traits.seeds)
        }
        rows += trait_scores.score_rows(config, of_tested(of_seed), *judged, names)
    return lead, rows


def _write(config, workdir, scored, repeats, marks, overlap: str) -> None:
    """Predictions, folds, the headline's heads and what the ridge reads where."""
    names, seeds, first_fold = scored.trait_names, config.traits.seeds, repeats.folds[0]
    predictions = {key.noting(overlap): one for key, one in repeats.predictions.items()}
    trait_scores.write_predictions(workdir, predictions, scored.subjects, names, repeats.folds, seeds)
    trait_scores.write_folds(workdir, scored.subjects, repeats.folds, seeds)
    marks = marks | {"note": ScoreKey("", note=marks["note"]).noting(overlap).note}
    heads, described = saved_heads.fit_heads(config, scored.samples, first_fold, repeats.first.mlp_head, marks, names)
    saved_heads.write_heads(workdir, heads, described)
    fitted_to = trait_predictions.head_rows(first_fold)[scored.samples.row_of]
    saved_heads.write_weights_by_site(config, workdir, heads, scored.headline[fitted_to])


def _skip(workdir, reason):
    """Leaves no row and no prediction of an earlier run behind."""
    messages.warning(f"traits: skipped, {reason}")
    replace_scores(workdir, "traits", [])
    trait_scores.remove(workdir)
    shutil.rmtree(workdir / saved_heads.FOLDER, ignore_errors=True)
    (workdir / saved_heads.WEIGHTS_BY_SITE).unlink(missing_ok=True)
    return {"skipped": reason}

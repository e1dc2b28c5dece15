"""Stage `traits`: representations and labels -> cross-validated predictions, metrics with intervals, baselines, heads.

All feature sets and all baselines are judged on the same people by the same folds. Everything is per person: several units
of a person and task (sessions, clips) count as their mean, and so do several labels.
"""

import json
import pathlib
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path, write_text
from data_pipelines.progress import Progress
from facedyn.core import cross_validation as cv
from facedyn.core import metrics
from facedyn.stages import baselines, common, comparisons, trait_features
from facedyn.store import checkpoints, stamps
from facedyn.store.representations import load_representations
from facedyn.store.scores import replace_scores

HEADS = ("ridge", "mlp")
# Fewer labelled people than this give no figure worth printing.
MIN_PEOPLE = 6
# How many ids a line names before it says "and so many more".
NAMED = 8


def run(config, workdir) -> dict:
    """Scores every feature set and baseline; writes the stage's rows of scores.csv, predictions and the headline's heads.

    Returns: summary; {'skipped': reason} where nobody has labels and representations, which a printed line says too.
    Raises InputError for a missing dataset or table, or a setting that cannot be.
    """
    workdir, start = pathlib.Path(workdir), time.monotonic()
    _check(config.traits)
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

    blocks = trait_features.blocks_by_person(rows, vectors, people)
    _say_missing(blocks, people)
    folds = min(config.traits.folds, len(people))
    fold = cv.person_folds(people, folds, config.seed, labels)
    predictions = _representation_predictions(config, workdir, blocks, people, labels, trait_names, fold)
    scored = comparisons.Scored(people, labels, fold, trait_names, _ridge_settings(config))
    others, rows_of_others = baselines.run(config, workdir, face_clips, records, blocks, scored, predictions)
    predictions |= others

    score_rows = _score(config, predictions, labels, trait_names) + rows_of_others
    _write_predictions(workdir, predictions, people, labels, trait_names, fold)
    replace_scores(workdir, "traits", score_rows)
    headline = next(r for r in score_rows if r["trait"] == "mean" and r["metric"] == "pcc")
    return {
        "people": len(people),
        "traits": list(trait_names),
        "folds": folds,
        "headline": headline["setting"],
        "pcc": headline["value"],
        "seconds": round(time.monotonic() - start, 1),
    }


def _check(traits):
    """Raises InputError for settings under which nothing can be computed."""
    baselines.check(traits)
    unknown = [head for head in traits.heads if head not in HEADS]
    if unknown or not traits.heads:
        raise InputError(f"config.traits.heads={tuple(traits.heads)} must name some of {', '.join(HEADS)}.")
    for name, least in (("folds", 2), ("inner_folds", 2), ("bootstrap", 1), ("pca", 0), ("mlp_hidden", 1), ("mlp_steps", 1)):
        if traits[name] < least:
            raise InputError(f"config.traits.{name}={traits[name]} must be at least {least}.")
    if not traits.penalties or min(traits.penalties) <= 0:
        raise InputError(f"config.traits.penalties={tuple(traits.penalties)} must be positive, for example (1, 100, 10000).")


def _skip(workdir, reason):
    """Leaves no row and no prediction of an earlier run behind."""
    print(f"traits: skipped, {reason}")
    replace_scores(workdir, "traits", [])
    (workdir / "traits" / "predictions.parquet").unlink(missing_ok=True)
    checkpoints.remove(workdir / "traits" / "heads")
    return {"skipped": reason}


def _named(ids) -> str:
    ids = sorted(set(ids))
    return ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")


def _finite(rows, vectors):
    """Without the units whose representation is not finite; a line says which."""
    finite = np.asarray(rows["finite"], bool) & np.isfinite(vectors).all(1)
    if not finite.all():
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


def _ridge_settings(config) -> cv.RidgeSettings:
    t = config.traits
    return cv.RidgeSettings(tuple(map(float, t.penalties)), t.folds, t.inner_folds, t.pca, config.seed)


def _mlp_settings(config) -> dict:
    names = ("hidden", "steps", "learning_rate", "weight_decay")
    return {"components": config.traits.pca} | {name: config.traits[f"mlp_{name}"] for name in names}


def _representation_predictions(config, workdir, blocks, people, labels, trait_names, fold) -> dict:
    """{(method, setting): out-of-fold predictions [N, T]}, the headline first; writes the headline's heads."""
    sets, settings = trait_features.feature_sets(blocks), _ridge_settings(config)
    pretrain = stamps.read_stamp(workdir, "pretrain") or {"summary": {}}
    seen = set(people) & set(pretrain["summary"].get("people", ()))
    ending = ";transductive" if seen else ""
    if seen:
        print(
            f"traits: {len(seen)} of {len(people)} people were in the generic model's pool, unlabelled: scores say transductive"
        )
    headline, heads, described, found = sets[0], {}, {}, {}
    x = trait_features.matrix(blocks, headline)
    ridge = "ridge" in config.traits.heads
    with Progress("traits", len(sets) if ridge else 1, unit="feature sets") as progress:
        if ridge:
            heads["ridge"], penalties = cv.fit_ridge(x, labels, people, settings)
            described["ridge"] = {"penalties": dict(zip(trait_names, map(float, penalties)))}
            own = {}
            for feature_set in sets:
                own[feature_set] = cv.cross_validate_ridge(
                    trait_features.matrix(blocks, feature_set), labels, people, settings, fold
                ).predictions
                progress.advance(note=feature_set.setting("ridge"))
            alone = {s.blocks[0]: p for s, p in own.items() if len(s.blocks) == 1}
            for feature_set in sets:
                found["representation", feature_set.setting("ridge") + ending] = own[feature_set]
                if len(feature_set.blocks) > 1:
                    members = np.stack([alone[block] for block in feature_set.blocks])
                    found["representation", feature_set.setting("ridge", "predictions") + ending] = _mean_of_known(members)
        if "mlp" in config.traits.heads:
            setting, described["mlp"] = headline.setting("mlp") + ending, {}
            mlp = cv.cross_validate_mlp(x, labels, fold, jax.random.key(config.seed), **_mlp_settings(config))
            found["representation", setting], heads["mlp"] = mlp
            if not ridge:
                progress.advance(note=setting)
    _write_heads(workdir, heads, described, headline, trait_names)
    return found


def _mean_of_known(members) -> np.ndarray:
    """Mean over the first axis of what is not NaN. [M, N, T] -> [N, T]"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a person without any of them stays NaN
        return np.nanmean(members, 0)


def _score(config, predictions, labels, trait_names) -> list[dict]:
    """Rows for scores.csv: every metric of every trait and their mean, with intervals from the same resamplings of people."""
    key, n_people, score_rows = jax.random.key(config.seed), len(labels), []
    for (method, setting), predicted in predictions.items():
        where = np.isfinite(labels) & np.isfinite(predicted)
        figures = metrics.bootstrap(
            metrics.trait_metrics,
            jnp.asarray(labels, jnp.float32),
            jnp.asarray(predicted, jnp.float32),
            jnp.arange(n_people),
            key,
            config.traits.bootstrap,
            n_people=n_people,
            where=jnp.asarray(where),
        )
        value, low, high = map(np.asarray, figures)  # each [M, T + 1]
        counts = [*where.sum(0), where.any(1).sum()]
        for t, trait in enumerate([*trait_names, "mean"]):
            for m, metric in enumerate(metrics.METRICS):
                figures = dict(value=float(value[m, t]), low=float(low[m, t]), high=float(high[m, t]), n=int(counts[t]))
                score_rows.append(dict(method=method, setting=setting, trait=trait, metric=metric) | figures)
    return score_rows


def _write_predictions(workdir, predictions, people, labels, trait_names, fold):
    """traits/predictions.parquet: a row a method, setting, trait and person who has both label and prediction."""
    tables, people = [], np.asarray(people, object)
    for (method, setting), predicted in predictions.items():
        for t, trait in enumerate(trait_names):
            known = np.isfinite(labels[:, t]) & np.isfinite(predicted[:, t])
            columns = dict(method=method, setting=setting, trait=trait, person_id=people[known], fold=fold[known])
            tables.append(pd.DataFrame(columns | dict(label=labels[known, t], prediction=predicted[known, t].astype(float))))
    with atomic_path(workdir / "traits" / "predictions.parquet") as temporary:
        pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)


def _write_heads(workdir, heads, described, headline, trait_names):
    """The headline's heads, fitted to all people: traits/heads/<head>, and in heads.json what goes in and comes out."""
    folder = workdir / "traits" / "heads"
    checkpoints.remove(folder)
    for name, head in heads.items():
        checkpoints.save_pytree(folder / name, head)
        blocks = [list(block) for block in headline.blocks]
        described[name] |= {"setting": headline.setting(name), "traits": list(trait_names), "blocks": blocks}
    write_text(folder / "heads.json", json.dumps(described, indent=1) + "\n")

"""Predictions of the stage `traits` from representations: every feature set, every way of fusing, every head.

Also what the findings compare: the best and the worst task, and the best scale, chosen in each fold by its training people.
"""

import dataclasses
import warnings

import numpy as np

from data_pipelines.progress import Progress
from facedyn.core import cross_validation as cv
from facedyn.core import mlp_validation, stacking
from facedyn.stages.traits import trait_features
from facedyn.stages.traits.saved_heads import SavedHead
from facedyn.stages.traits.trait_features import ALL_TASKS

FUSIONS = ("features", "predictions", "stacking")


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Out-of-fold predictions by one repeat of the cross-validation, float32 [P, T] each."""

    scored: dict  # {(method, setting): predictions}, the headline first
    findings: dict  # {(method, setting): [2, P, T]} predictions, and those that they are compared with
    networks: dict  # {setting: [S, P, T]} the single networks of the MLP
    mlp_head: dict | None  # fitted to everyone, or to those who are in training only, where some are


def ridge_settings(config) -> cv.RidgeSettings:
    """Of config.traits."""
    t = config.traits
    penalties = tuple(map(float, t.penalties))
    return cv.RidgeSettings(penalties, t.folds, t.inner_folds, tuple(t.pca), config.seed, t.ridge_solver)


def mlp_settings(config) -> mlp_validation.MlpSettings:
    """Of config.traits."""
    t = config.traits
    decays = tuple(map(float, t.mlp_weight_decay))
    sizes = (t.mlp_seeds, t.inner_folds, t.mlp_hidden, t.mlp_steps, t.mlp_learning_rate)
    return mlp_validation.MlpSettings(decays, tuple(t.pca), *sizes, config.seed)


def ending(config) -> str:
    """What every setting of the representation ends with."""
    return "" if config.traits.aggregate == "person" else f";aggregate={config.traits.aggregate}"


def predict(config, samples, fold, end: str) -> Predicted:
    """All out-of-fold predictions from the representations, for each of what is scored.

    Args: samples: a row a person or a unit; fold int [P]; end: of every setting.
    """
    row_fold, sets = fold[samples.row_of], trait_features.feature_sets(samples.blocks)
    people = samples.owner  # a number serves as well as a name
    ridge, scored, findings, networks, head = "ridge" in config.traits.heads, {}, {}, {}, None
    with Progress("traits", len(sets) if ridge else 1, unit="feature sets") as progress:
        if ridge:
            found = {}
            for one in sets:
                x = trait_features.matrix(samples.blocks, one)
                weights = samples.weights_for(x.shape[1])
                found[one] = cv.cross_validate_ridge(x, samples.labels, people, ridge_settings(config), row_fold, weights)
                progress.advance(note=one.setting("ridge"))
            fused = {one: _fuse(one, found, samples, row_fold) for one in sets}
            scored |= {
                ("representation", one.setting("ridge", fusion) + end): predictions
                for one in sets
                for fusion, predictions in fused[one].items()
            }
            findings = _findings(config, sets, found, fused, samples, row_fold, end)
        if "mlp" in config.traits.heads:
            x, setting = trait_features.matrix(samples.blocks, sets[0]), sets[0].setting("mlp") + end
            mlp = mlp_validation.cross_validate_mlp(
                x,
                samples.labels,
                people,
                mlp_settings(config),
                row_fold,
                head_rows(fold)[samples.row_of],
                samples.weights_for(x.shape[1]),
            )
            head = mlp.head
            scored["representation", setting] = mlp.predictions
            networks[setting] = mlp.networks
            if not ridge:
                progress.advance(note=setting)
    return Predicted(
        {key: samples.as_scored(p) for key, p in scored.items()},
        {key: np.stack([samples.as_scored(p) for p in pair]) for key, pair in findings.items()},
        {key: np.stack([samples.as_scored(p) for p in each]) for key, each in networks.items()},
        head,
    )


def head_rows(fold) -> np.ndarray:
    """What the final heads are fitted to: bool [P]; everyone, unless some are in training only."""
    return fold < 0 if (fold < 0).any() else fold >= 0


def saved_heads(config, samples, fold, mlp_head, end: str, trait_names) -> tuple[dict, dict]:
    """The headline's heads as `saved_heads.write_heads` takes them: ({name: SavedHead}, {name: what else to note})."""
    first, used = trait_features.feature_sets(samples.blocks)[0], head_rows(fold)[samples.row_of]
    heads, described = {}, {}
    if "ridge" in config.traits.heads:
        x, people = trait_features.matrix(samples.blocks, first)[used], samples.owner[used]
        weights = samples.weights_for(x.shape[1])
        heads["ridge"], penalties, components = cv.fit_ridge(x, samples.labels[used], people, ridge_settings(config), weights)
        chosen = (dict(zip(trait_names, map(float, values))) for values in (penalties, components))
        described["ridge"] = dict(zip(("penalties", "components"), chosen))
    if mlp_head is not None:
        heads["mlp"] = mlp_head
    rows = "person" if config.traits.aggregate == "person" else "clip"
    return {
        name: SavedHead(head, tuple(trait_names), first.blocks, rows, first.setting(name) + end) for name, head in heads.items()
    }, described


def _fuse(one, found, samples, fold) -> dict:
    """{fusion: predictions [R, T]} of a feature set; a single block has nothing to fuse."""
    if len(one.blocks) == 1:
        return {"features": found[one].predictions}
    alone = {other.blocks[0]: result for other, result in found.items() if len(other.blocks) == 1}
    members = [alone[block] for block in one.blocks]
    out = np.stack([member.predictions for member in members])
    stacked = stacking.stack(np.stack([member.inner for member in members]), out, samples.labels, fold)
    return dict(zip(FUSIONS, (found[one].predictions, _mean_of_known(out), stacked)))


def _findings(config, sets, found, fused, samples, fold, end) -> dict:
    """The paper's three findings as pairs of predictions; single tasks and scales are chosen inside the folds.

    Clips that are scored by themselves have one task each, so that tasks cannot be compared on the same ones.
    """

    def chosen(members, fusion, worst=False):
        """Each fold's rows from the member that did best (or worst) on the fold's training rows."""
        number = stacking.choose(np.stack([found[m].inner for m in members]), samples.labels, fold, worst)
        out = np.stack([fused[m].get(fusion, fused[m]["features"]) for m in members])
        return out[number[fold], np.arange(len(fold))]  # rows of fold -1 are NaN whatever the member

    whole, pairs = sets[0], {}
    tasks = [s for s in sets if s.tasks != ALL_TASKS and s.scales == whole.scales and config.traits.aggregate != "none"]
    scales = [s for s in sets if s.tasks == ALL_TASKS and len(s.scales) < len(whole.scales)]
    for fusion, predictions in fused[whole].items():
        setting = whole.setting("ridge", fusion) + end
        if tasks:
            pairs["finding_fused_tasks", setting] = predictions, chosen(tasks, fusion)
        if scales:
            pairs["finding_multi_scale", setting] = predictions, chosen(scales, fusion)
    if tasks:
        setting = dataclasses.replace(tasks[0], tasks="best").setting("ridge") + end
        pairs["finding_task_matters", setting] = chosen(tasks, "features"), chosen(tasks, "features", worst=True)
    return pairs


def _mean_of_known(members) -> np.ndarray:
    """Mean over the first axis of what is not NaN. [M, N, T] -> [N, T]"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a person without any of them stays NaN
        return np.nanmean(members, 0)

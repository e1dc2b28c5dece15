"""Predictions of the stage `traits` from representations: every feature set, every way of fusing, every head.

Also what the findings compare: the best and the worst task, and the best scale, chosen in each fold by its training people.
"""

import dataclasses
import warnings

import numpy as np

from data_pipelines.progress import Progress
from facedyn.core import banded_ridge, mlp_validation, stacking
from facedyn.core import cross_validation as cv
from facedyn.stages.traits import trait_features, trait_protocol
from facedyn.stages.traits.trait_features import ALL_TASKS
from facedyn.store.scores import ScoreKey

BANDED = "banded_ridge"
FUSIONS = ("features", "predictions", "stacking")


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Out-of-fold predictions by one repeat of the cross-validation, float32 [P, T] each."""

    scored: dict[ScoreKey, np.ndarray]  # the headline first
    findings: dict[ScoreKey, np.ndarray]  # [2, P, T] predictions, and those that they are compared with
    networks: dict[ScoreKey, np.ndarray]  # [S, P, T] the single networks of the MLP
    mlp_head: dict | None  # fitted to everyone, or to those who are in training only, where some are


@dataclasses.dataclass(frozen=True)
class Scored:
    """What a comparison is made on: what is scored, and the representation's rows."""

    subjects: trait_protocol.Subjects
    trait_names: tuple[str, ...]
    samples: trait_features.Samples
    settings: cv.RidgeSettings
    head: str = "ridge"  # that leads, and by which whatever has blocks is predicted

    @property
    def single(self) -> trait_features.Samples:
        """Rows of features that are a vector for each of what is scored."""
        number, subjects = np.arange(len(self.subjects.ids)), self.subjects
        return trait_features.Samples(len(number), number, subjects.owner, subjects.labels, {})

    @property
    def headline(self) -> np.ndarray:
        """The headline's features, a row each of `samples`: [R, D]."""
        return trait_features.matrix(self.samples.blocks, trait_features.feature_sets(self.samples.blocks)[0])

    def head_for(self, rows: trait_features.Samples) -> str:
        """By which of the ridges `predict` predicts from features with these rows."""
        return BANDED if self.head == BANDED and rows.bands is not None else "ridge"

    def predict(self, x, rows: trait_features.Samples, fold) -> np.ndarray:
        """Out-of-fold predictions [P, T] of a ridge on x [R, D], whose rows are those of `rows`. fold: int [P].

        Of the banded ridge, where that leads and `rows` have blocks.
        """
        if self.head_for(rows) == BANDED:
            return rows.as_scored(banded(rows, x, fold[rows.row_of]))
        weights = rows.weights_for(x.shape[1])
        found = cv.cross_validate_ridge(x, rows.labels, rows.owner, self.settings, fold[rows.row_of], weights)
        return rows.as_scored(found.predictions)


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


def predict(config, samples, fold, marks: dict) -> Predicted:
    """All out-of-fold predictions from the representations, for each of what is scored.

    Args: samples: one row per person or unit; fold int [P]; marks: columns that all keys have, {'aggregate': ..., 'note': ...}.
    """
    row_fold, sets = fold[samples.row_of], trait_features.feature_sets(samples.blocks)
    ridge, scored, findings, networks, head = "ridge" in config.traits.heads, {}, {}, {}, None
    with Progress("traits", len(sets) if ridge else 1, unit="feature sets") as progress:
        if BANDED in config.traits.heads:
            x = trait_features.matrix(samples.blocks, sets[0])
            scored[sets[0].key(BANDED, **marks)] = banded(samples, x, row_fold)
            scored |= _block_by_block(samples, x, row_fold, sets[0].key(BANDED, **marks))
        if ridge:
            found = {}
            for one in sets:
                x = trait_features.matrix(samples.blocks, one)  # a row's person is known by a number, which serves as a name
                given = x, samples.labels, samples.owner, ridge_settings(config), row_fold, samples.weights_for(x.shape[1])
                found[one] = cv.cross_validate_ridge(*given)
                progress.advance(note=f"scales {one.scales}, tasks {one.tasks}")
            fused = {one: _fuse(one, found, samples, row_fold) for one in sets}
            scored |= {one.key("ridge", f, **marks): predictions for one in sets for f, predictions in fused[one].items()}
            findings = _findings(config, sets, found, fused, samples, row_fold, marks)
        if "mlp" in config.traits.heads:
            x, of_head = trait_features.matrix(samples.blocks, sets[0]), head_rows(fold)[samples.row_of]
            given = x, samples.labels, samples.owner, mlp_settings(config), row_fold, of_head, samples.weights_for(x.shape[1])
            mlp = mlp_validation.cross_validate_mlp(*given)
            key, head = sets[0].key("mlp", **marks), mlp.head
            scored[key], networks[key] = mlp.predictions, mlp.networks
            if not ridge:
                progress.advance(note="mlp")
    return Predicted(
        {key: samples.as_scored(p) for key, p in scored.items()},
        {key: np.stack([samples.as_scored(p) for p in pair]) for key, pair in findings.items()},
        {key: np.stack([samples.as_scored(p) for p in each]) for key, each in networks.items()},
        head,
    )


def banded(samples, x, row_fold) -> np.ndarray:
    """Out-of-fold predictions [R, T] of the banded ridge on x [R, D], whose rows are those of `samples`."""
    bands, weights = samples.bands_for(x.shape[1]), samples.weights_for(x.shape[1])
    return banded_ridge.cross_validate(x, samples.labels, samples.owner, row_fold, bands, weights)


def _block_by_block(samples, x, row_fold, key) -> dict[ScoreKey, np.ndarray]:
    """{`key` with the block's name: predictions [R, T]} from each block alone, where there are several."""
    bands, weights, found = samples.bands_for(x.shape[1]), samples.weights_for(x.shape[1]), {}
    for number, name in enumerate(samples.names if len(samples.names) > 1 else ()):
        chosen = bands % len(samples.names) == number
        if chosen.any():
            own, of_scales = None if weights is None else weights[chosen], bands[chosen] // len(samples.names)
            found[key._replace(block=name)] = banded_ridge.cross_validate(
                x[:, chosen], samples.labels, samples.owner, row_fold, of_scales, own
            )
    return found


def head_rows(fold) -> np.ndarray:
    """What the final heads are fitted to: bool [P]; everyone, unless some are in training only."""
    return fold < 0 if (fold < 0).any() else fold >= 0


def _fuse(one, found, samples, fold) -> dict:
    """{fusion: predictions [R, T]} of a feature set; a single block has nothing to fuse."""
    if len(one.blocks) == 1:
        return {"features": found[one].predictions}
    alone = {other.blocks[0]: result for other, result in found.items() if len(other.blocks) == 1}
    members = [alone[block] for block in one.blocks]
    out = np.stack([member.predictions for member in members])
    stacked = stacking.stack(np.stack([member.inner for member in members]), out, samples.labels, fold)
    return dict(zip(FUSIONS, (found[one].predictions, _mean_of_known(out), stacked)))


def _findings(config, sets, found, fused, samples, fold, marks) -> dict:
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
        key = whole.key("ridge", fusion, **marks)
        if tasks:
            pairs[key._replace(method="finding_fused_tasks")] = predictions, chosen(tasks, fusion)
        if scales:
            pairs[key._replace(method="finding_multi_scale")] = predictions, chosen(scales, fusion)
    if tasks:
        key = tasks[0].key("ridge", **marks)._replace(method="finding_task_matters", tasks="best")
        pairs[key] = chosen(tasks, "features"), chosen(tasks, "features", worst=True)
    return pairs


def _mean_of_known(members) -> np.ndarray:
    """Mean over the first axis of what is not NaN. [M, N, T] -> [N, T]"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a person without any of them stays NaN
        return np.nanmean(members, 0)

"""What a comparison is made on, and the figures that no prediction of people alone leads to.

Permuted labels, what a person's other clips tell, and paired differences between two methods.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.doctor.identity import identity_scores
from facedyn.core import cross_validation as cv
from facedyn.core import metrics

COMPARED = ("pcc", "ccc")  # metrics of which differences are given


@dataclasses.dataclass(frozen=True)
class Scored:
    """What a comparison is made on: who is scored by which folds, and the headline's features."""

    people: list[str]
    labels: np.ndarray  # [N, T]
    fold: np.ndarray  # [N]
    trait_names: tuple[str, ...]
    settings: cv.RidgeSettings

    def predict(self, x) -> np.ndarray:
        """Out-of-fold predictions [N, T] of the ridge on x [N, D]."""
        return cv.cross_validate_ridge(x, self.labels, self.people, self.settings, self.fold).predictions


def permuted_labels(labels, people, fold, seed: int) -> np.ndarray:
    """The people's labels [N, T] dealt out anew, each fold's mean kept near the others' as `cv.person_folds` does.

    Unequal fold means alone would give a PCC well below 0.
    """
    rng, out = np.random.default_rng(seed), labels.copy()
    other = cv.person_folds(people, fold.max() + 1, seed, labels)
    if not (np.bincount(other) == np.bincount(fold)).all():  # folds from elsewhere, such as official splits
        return labels[rng.permutation(len(labels))]
    for k in range(fold.max() + 1):
        out[fold == k] = labels[rng.permutation(np.flatnonzero(other == k))]
    return out


def _score_rows(method, setting, scored_names, names, value, low, high, counts) -> list[dict]:
    """Rows of value, low, high [M, T + 1], for metrics `names` and traits `scored_names` with the mean last."""
    return [
        dict(method=method, setting=setting, trait=trait, metric=metric, value=float(value[m, t]))
        | dict(low=float(low[m, t]), high=float(high[m, t]), n=int(counts[t]))
        for t, trait in enumerate([*scored_names, "mean"])
        for m, metric in enumerate(names)
    ]


def permuted_rows(config, scored, x, setting) -> list[dict]:
    """The headline's ridge on permuted labels: mean over the permutations, and where 95 % of them lie."""
    n, shape = config.traits.permutations, scored.labels.shape
    permuted = [permuted_labels(scored.labels, scored.people, scored.fold, config.seed + 1 + i) for i in range(n)]
    # One call: all permutations are traits of their own and share the principal coordinates.
    predicted = cv.cross_validate_ridge(
        x, np.concatenate(permuted, 1), scored.people, scored.settings, scored.fold
    ).predictions.reshape(len(x), n, shape[1])
    figures = np.stack(
        [
            metrics.trait_metrics(
                jnp.asarray(y, jnp.float32),
                jnp.asarray(predicted[:, i]),
                jnp.asarray(np.isfinite(y) & np.isfinite(predicted[:, i]), jnp.float32),
            )
            for i, y in enumerate(permuted)
        ]
    )  # [n, M, T + 1]
    low, high = np.percentile(figures, (2.5, 97.5), 0)
    known = np.isfinite(scored.labels)
    counts = [*known.sum(0), known.any(1).sum()]
    text = f"{setting};permutations={n}"
    return _score_rows("permuted_labels", text, scored.trait_names, metrics.METRICS, figures.mean(0), low, high, counts)


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
    where = np.isfinite(labels) & np.isfinite(predicted)
    if differ and where.any():
        value, low, high = metrics.bootstrap(
            metrics.trait_metrics,
            jnp.asarray(labels, jnp.float32),
            jnp.asarray(predicted, jnp.float32),
            jnp.asarray(person),
            jax.random.key(config.seed),
            config.traits.bootstrap,
            n_people=len(ids),
            where=jnp.asarray(where),
        )
        counts = [len(set(person[of_trait])) for of_trait in where.T] + [len(set(person[where.any(1)]))]
        rows += _score_rows(
            "same_identity", "other_clips", names, metrics.METRICS, *map(np.asarray, (value, low, high)), counts
        )
    return rows


def other_clips_mean(person, labels) -> tuple[np.ndarray, bool]:
    """(mean label of each clip's person over his or her OTHER clips, [N, T], whether labels differ within any person).

    person: int [N], from 0; labels [N, T], NaN = not known. NaN where there is no other clip.
    """
    known = np.isfinite(labels)
    total, count = np.zeros((person.max() + 1, labels.shape[1])), np.zeros((person.max() + 1, labels.shape[1]))
    np.add.at(total, person, np.where(known, labels, 0.0))
    np.add.at(count, person, known)
    others, sums = count[person] - known, total[person] - np.where(known, labels, 0.0)
    means = np.where(others > 0, sums / np.maximum(others, 1), np.nan)
    return means, bool(np.nanmax(np.abs(means - labels), initial=0.0) > 1e-6)


def differences(config, predictions, lead, fused, scored) -> list[dict]:
    """Paired bootstrap: the headline minus each other method, and a fused pair minus each of its members.

    predictions {(method, setting): [N, T]}; lead: the headline's key; fused {method: key of the baseline it is fused with}.
    """
    pairs = []
    for key in predictions:
        if key[0] in fused:
            pairs += [(key, fused[key[0]]), (key, lead)]
        elif key[0] != lead[0]:
            pairs.append((lead, key))
    rows, chosen = [], [list(metrics.METRICS).index(name) for name in COMPARED]
    for one, other in pairs:
        both = np.stack([predictions[one], predictions[other]], 1)  # [N, 2, T]
        where = np.isfinite(scored.labels) & np.isfinite(both).all(1)
        figures = metrics.bootstrap(
            metrics.metric_differences,
            jnp.asarray(scored.labels, jnp.float32),
            jnp.asarray(both, jnp.float32),
            jnp.arange(len(where)),
            jax.random.key(config.seed),
            config.traits.bootstrap,
            n_people=len(where),
            where=jnp.asarray(where),
        )
        value, low, high = (np.asarray(figure)[chosen] for figure in figures)
        name, setting = f"{one[0]}_minus_{other[0]}", other[1] if one == lead else one[1]
        counts = [*where.sum(0), where.any(1).sum()]
        rows += _score_rows(name, setting, scored.trait_names, COMPARED, value, low, high, counts)
    return rows

"""What a split scores without looking at a single pixel: the same-identity look-up, beside the mean predictor.

Where people are on both sides of a split, the mean label of a person's training clips is a prediction for his or her other
clips; a method that is judged on such a split may have learnt faces by heart. Moments are population moments, as in
facedyn.core.metrics.
"""

import numpy as np

from data_pipelines.doctor.check_traits import label_matrix

METRICS = ("acc", "ccc", "pcc")
METHODS = ("same_identity", "mean_predictor")


def look_up(people, labels, train) -> tuple[np.ndarray, np.ndarray]:
    """(same-identity, mean) predictions [N, T] for every clip, from the clips of `train` alone.

    people [N]; labels [N, T], NaN = not known; train: bool [N]. A clip gets the mean label of its person's training clips, or
    the training mean where the person has none; NaN where a trait has no training label.
    """
    ids, person = np.unique(np.asarray(people).astype(str), return_inverse=True)
    by_person, by_mean = np.full(labels.shape, np.nan), np.full(labels.shape, np.nan)
    for t, values in enumerate(labels.T):
        known = train & np.isfinite(values)
        if known.any():
            count = np.bincount(person[known], minlength=len(ids))
            total = np.bincount(person[known], values[known], len(ids))
            by_mean[:, t] = values[known].mean()
            own = np.where(count > 0, total / np.maximum(count, 1), values[known].mean())
            by_person[:, t] = own[person]
    return by_person, by_mean


def figures(labels, predictions) -> dict[str, float]:
    """ACC = 1 - mean |error|, CCC and PCC of [N] and [N]; a correlation with something constant is 0, as in core.metrics."""
    error = float(np.abs(labels - predictions).mean())
    deviation, other = labels - labels.mean(), predictions - predictions.mean()
    covariance, variances = (deviation * other).mean(), ((deviation**2).mean(), (other**2).mean())
    if min(variances) <= 1e-12 * max(np.abs(labels).max(), np.abs(predictions).max()) ** 2:
        return {"acc": 1 - error, "ccc": 0.0, "pcc": 0.0}
    bias = labels.mean() - predictions.mean()
    ccc = 2 * covariance / (sum(variances) + bias**2)
    return {"acc": 1 - error, "ccc": float(ccc), "pcc": float(covariance / np.sqrt(variances[0] * variances[1]))}


def identity_scores(entries, splits, trait_names, train_splits=("train",)) -> list[dict]:
    """Rows for scores.csv (method, split, trait, metric, value, n): both methods on every split that is not for training.

    [] where no training clip, or no other clip, has a label. n counts people; trait 'mean' is the mean over the traits.
    """
    labels, people = label_matrix(entries, trait_names), np.array([e.person_id for e in entries], object)
    splits = np.array(splits, object)
    predictions = dict(zip(METHODS, look_up(people, labels, np.isin(splits, list(train_splits)))))
    rows = []
    for split in sorted(set(splits) - set(train_splits)):
        scored = {
            name: where
            for t, name in enumerate(trait_names)
            if (where := (splits == split) & np.isfinite(labels[:, t]) & np.isfinite(predictions["mean_predictor"][:, t])).any()
        }
        if not scored:
            continue
        for method in METHODS:
            found = {
                name: figures(labels[where, trait_names.index(name)], predictions[method][where, trait_names.index(name)])
                for name, where in scored.items()
            }
            found["mean"] = {m: float(np.mean([values[m] for values in found.values()])) for m in METRICS}
            anyone = np.logical_or.reduce(list(scored.values()))
            for name, values in found.items():
                n = len(set(people[scored.get(name, anyone)]))
                rows += [dict(method=method, split=split, trait=name, metric=m, value=values[m], n=n) for m in METRICS]
    return rows


def sentence(rows) -> str:
    """What both methods score, mean over the traits, a clause a split; '' for no rows."""
    value = {(r["split"], r["method"], r["metric"]): r["value"] for r in rows if r["trait"] == "mean"}
    clauses = []
    for split in dict.fromkeys(split for split, _, _ in value):
        look, mean = ({m: value[split, method, m] for m in METRICS} for method in METHODS)
        clauses.append(
            f"on {split} ACC {look['acc']:.4f}, CCC {look['ccc']:.3f}, PCC {look['pcc']:.3f} "
            f"(the training mean: ACC {mean['acc']:.4f}, CCC {mean['ccc']:.3f})"
        )
    return f"Without a pixel, the mean label of a person's training clips scores {'; '.join(clauses)}." if clauses else ""

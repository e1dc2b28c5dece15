"""Figures and tables of the stage `traits`: rows of scores.csv, every prediction, and every fold's people."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.files import atomic_path
from facedyn.core import metrics
from facedyn.stages.runtime import keys
from facedyn.store.scores import ScoreKey

COMPARED = ("pcc", "ccc")  # metrics of which differences are given
FOLDER, PREDICTIONS, FOLDS = "traits", "predictions.parquet", "folds.csv"
# What tells predictions apart: the columns of a key that they can differ in.
KEY_COLUMNS = ("method", "head", "scales", "tasks", "fusion", "aggregate", "block", "note")


def score_rows(config, predictions, labels, person, trait_names, statistic=metrics.mean_trait_metrics) -> list[dict]:
    """Rows for scores.csv: every metric of every trait and their mean, with intervals from the same resamplings of people.

    Args: predictions: {key: [S, P, T]}, S repeats of the folds, or [2, S, P, T] where `statistic` is
      `metrics.trait_metric_differences`; labels [P, T], only of what is tested; person int [P], from 0, whose it is.
    """
    rows = []
    for key, predicted in predictions.items():
        rows += rows_of(key, trait_names, *with_intervals(config, labels, predicted, person, statistic))
    return rows


def difference_rows(config, pairs, labels, person, trait_names) -> list[dict]:
    """Rows of paired differences. pairs: {key: [2, S, P, T]}, the first minus the second."""
    rows = score_rows(config, pairs, labels, person, trait_names, metrics.trait_metric_differences)
    return [row for row in rows if row["metric"] in COMPARED]


def with_intervals(
    config, labels, predicted, person, statistic=metrics.mean_trait_metrics
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """A statistic of predictions [..., N, T] of labels [N, T], with its interval: (value, low, high, people of each column).

    person: int [N] from 0, whose row it is; the three are [M, T + 1], the last is a list of T + 1 numbers.
    """
    where = np.isfinite(labels) & np.isfinite(predicted).all(tuple(range(predicted.ndim - 2)))
    figures = metrics.bootstrap(
        statistic,
        jnp.asarray(labels, jnp.float32),
        jnp.asarray(predicted, jnp.float32),
        jnp.asarray(person),
        keys.key(config.seed, "trait_intervals"),
        config.traits.bootstrap,
        n_people=int(person.max()) + 1,
        where=jnp.asarray(where),
    )
    value, low, high = map(np.asarray, figures)
    return value, low, high, people_scored(where, person)


def people_scored(where, person) -> list[int]:
    """How many people each trait of where [N, T] has, and all traits together. person: int [N], whose row it is."""
    return [len(np.unique(person[chosen])) for chosen in (*where.T, where.any(1))]


def rows_of(key: ScoreKey, trait_names, value, low, high, counts) -> list[dict]:
    """Rows for scores.csv of figures [M, T + 1], metrics in the order of METRICS, the mean over the traits last."""
    return [
        key._asdict()
        | dict(trait=trait, metric=metric, value=float(value[m, t]))
        | dict(low=float(low[m, t]), high=float(high[m, t]), n=int(counts[t]))
        for t, trait in enumerate([*trait_names, "mean"])
        for m, metric in enumerate(metrics.METRICS)
    ]


def spread_rows(networks, labels, person) -> list[dict]:
    """Standard deviation of the mean PCC over the networks whose mean is the MLP. networks: {key: [S, P, T]}."""
    rows = []
    for key, predicted in networks.items():
        if len(predicted) > 1:
            where = np.isfinite(labels) & np.isfinite(predicted).all(0)
            pcc = [
                metrics.trait_metrics(labels, one, jnp.asarray(where))[list(metrics.METRICS).index("pcc"), -1]
                for one in predicted
            ]
            figures = dict(trait="mean", metric="pcc_sd", value=float(np.std(pcc)), n=people_scored(where, person)[-1])
            rows.append(key._asdict() | figures)
    return rows


def write_predictions(workdir, predictions, subjects, trait_names, folds, seeds) -> None:
    """traits/predictions.parquet: one row per key (its KEY_COLUMNS), seed, trait and person with label and prediction.

    Where units are scored by themselves, one row per unit, named in the column unit_id. One row group per key, so that neither
    this nor a reader of one of them holds the whole table.

    Args: predictions: {key: [S, P, T]}; subjects: `trait_protocol.Subjects`; folds int [S, P].
    """
    labels, people, unit = subjects.labels, np.asarray(subjects.people, object), _unit_column(subjects)
    numbers = {"fold": pa.int64(), "seed": pa.int64(), "label": pa.float64(), "prediction": pa.float64()}
    names = (*KEY_COLUMNS, "trait", "person_id", *numbers, *unit)
    schema = pa.schema([(name, numbers.get(name, pa.string())) for name in names])
    with atomic_path(workdir / FOLDER / PREDICTIONS) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for key, predicted in predictions.items():
            tables = []
            for seed, fold, one in zip(seeds, folds, predicted):
                for t, trait in enumerate(trait_names):
                    known = np.isfinite(labels[:, t]) & np.isfinite(one[:, t])
                    columns = {name: getattr(key, name) for name in KEY_COLUMNS} | dict(trait=trait, person_id=people[known])
                    columns |= dict(fold=fold[known], seed=seed, label=labels[known, t], prediction=one[known, t].astype(float))
                    tables.append(pd.DataFrame(columns | {name: values[known] for name, values in unit.items()}))
            table = pd.concat(tables, ignore_index=True)[list(names)]
            if len(table):
                writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))


def write_folds(workdir, subjects, folds, seeds) -> None:
    """traits/folds.csv: seed, person_id, fold and, of units, unit_id; fold -1 is in training only. folds int [S, P]."""
    columns = {"person_id": subjects.people} | _unit_column(subjects)
    tables = [pd.DataFrame({"seed": seed} | columns).assign(fold=fold) for seed, fold in zip(seeds, folds)]
    with atomic_path(workdir / FOLDER / FOLDS) as temporary:
        pd.concat(tables).to_csv(temporary, index=False, lineterminator="\n")


def _unit_column(subjects) -> dict:
    return {} if subjects.ids == subjects.people else {"unit_id": np.asarray(subjects.ids, object)}


def remove(workdir) -> None:
    """Deletes both tables of an earlier run."""
    for name in (PREDICTIONS, FOLDS):
        (workdir / FOLDER / name).unlink(missing_ok=True)

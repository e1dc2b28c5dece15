"""WORKDIR/scores.csv, the one long table of every figure that anyone quotes: its columns, reading and writing.

A stage replaces its own rows and leaves the others'. The report and the terminal print from this table and compute nothing.
"""

import math
import pathlib
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path
from facedyn.core import verdicts


class ScoreKey(NamedTuple):
    """What a figure is of: the columns that tell rows apart, beside stage, trait and metric; '' where one does not apply.

    docs/method.md says what each may hold.
    """

    method: str
    head: str = ""
    scales: str = ""
    tasks: str = ""
    fusion: str = ""
    weighting: str = ""
    unit: str = ""
    aggregate: str = ""
    block: str = ""
    seconds: str = ""
    control: str = ""
    of: str = ""
    split: str = ""
    seed: str = ""
    note: str = ""

    @property
    def scale_numbers(self) -> tuple[int, ...]:
        """The scales as numbers: (1, 2) of '1+2'."""
        return tuple(map(int, listed(self.scales)))

    def noting(self, *notes: str) -> "ScoreKey":
        """The same with these notes behind its own."""
        return self._replace(note=joined((*listed(self.note), *filter(None, notes))))


class ScoreRow(NamedTuple):
    """A row of the table: what its figure is of, and the figure with its interval, people and verdict."""

    stage: str
    key: ScoreKey
    trait: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    chance: float
    verdict: str


NUMBERS = ("value", "low", "high", "n", "chance")
COLUMNS = ("stage", *ScoreKey._fields, *ScoreRow._fields[2:])
REQUIRED = ("method", "metric", "value", "n")
STAGE_ORDER = ("prepare", "pretrain", "fit", "traits")

# Notes: people scored here were, without labels, among those the generic model learnt from; people are in training and in test;
# the ranking is of a site's states, not of pixels, and so is not to be compared with that of copied pixels.
TRANSDUCTIVE, PEOPLE_OVERLAP, ON_STATES = "transductive", "people_overlap", "states"

# Paired differences that answer a question, of `traits`; what is single is chosen in each fold by its training people.
FINDINGS = ("finding_fused_tasks", "finding_multi_scale", "finding_task_matters")
# Figures of how well people are told apart.
IDENTIFICATION = ("top1", "mrr", "within_distance", "between_distance", "icc")
MINUS, PLUS = "_minus_", "+"

# The results that get a verdict: not baselines, controls or differences.
JUDGED = {
    "pretrain": ("generic",),
    "fit": ("representation", "split_half", "cross_session", "cross_task", "cross_clip"),
    "traits": ("representation",),
}


def joined(values) -> str:
    """Several values in one cell: '1+2' of (1, 2)."""
    return "+".join(map(str, values))


def listed(cell: str) -> tuple[str, ...]:
    """The values that `joined` put into a cell.

    >>> listed("1+2"), listed("")
    (('1', '2'), ())
    """
    return tuple(cell.split("+")) if cell else ()


def is_comparison(method: str) -> bool:
    """Whether the figures are differences, of two methods ('representation_minus_mean_face') or a finding, and no scores."""
    return MINUS in method or method in FINDINGS


def scores_path(workdir) -> pathlib.Path:
    """Where the table lies."""
    return pathlib.Path(workdir).expanduser() / "scores.csv"


def empty_scores() -> pd.DataFrame:
    """The table without a row."""
    return _typed(pd.DataFrame({name: pd.Series(dtype=str) for name in COLUMNS}))


def load_scores(workdir) -> pd.DataFrame:
    """The whole table: texts are str ('' where a column does not apply), numbers float (NaN where there is none), n is Int64.

    Raises InputError when there is none, or it is not such a table.
    """
    path = scores_path(workdir)
    if not path.is_file():
        raise InputError(f"There is no scores.csv in {workdir}; run pretrain, fit or traits first.")
    table = bounded.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns) != COLUMNS:
        raise InputError(f"{path} is not a table of scores: its columns must be {','.join(COLUMNS)}; delete it and run again.")
    try:
        return _typed(table)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it, and run the stages again.") from error


def replace_scores(workdir, stage: str, rows: list[dict]) -> None:
    """Writes the rows of `stage` in the place of its older ones, atomically; other stages' rows stay.

    A row has the keys `method`, `metric`, `value` and `n`, and any others of COLUMNS: '' and, for low and high, NaN where they
    lack.
    No interval is kept of fewer than 3 people. `chance` and `verdict` are found here, for the rows of all stages.
    Raises ValueError for an unknown or missing key, or a row of another stage.
    """
    for row in rows:
        if not set(REQUIRED) <= set(row) <= set(COLUMNS) or row.get("stage", stage) != stage:
            raise ValueError(f"A row of {stage!r} must have the keys {REQUIRED} and may have others of {COLUMNS}, not {row}.")
    texts = dict.fromkeys(COLUMNS, "") | {"stage": stage, "low": math.nan, "high": math.nan}
    table = _typed(pd.DataFrame([texts | row for row in rows], columns=list(COLUMNS))) if rows else empty_scores()
    if scores_path(workdir).is_file():
        old = load_scores(workdir)
        table = pd.concat([some for some in (old.loc[old["stage"] != stage], table) if len(some)] or [table], ignore_index=True)
    place = {name: i for i, name in enumerate(STAGE_ORDER)}
    order = np.argsort([place.get(s, len(place)) for s in table["stage"]], kind="stable")
    with atomic_path(scores_path(workdir)) as temporary:
        with_verdicts(table.iloc[order]).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its columns chance and verdict as its other columns make them, and without intervals of too few people."""
    table = table.reset_index(drop=True)
    table.loc[table["n"] < verdicts.MIN_INTERVAL_PEOPLE, ["low", "high"]] = math.nan
    scored = [not is_comparison(method) for method in table["method"]]
    levels = [verdicts.chance_level(metric, n) for metric, n in zip(table["metric"], table["n"])]
    table["chance"] = np.where(scored, levels, math.nan) if len(table) else table["chance"]
    table["verdict"] = [verdict_of(table, row).word for row in score_rows(table)]
    return table


def verdict_of(table: pd.DataFrame, row: ScoreRow) -> verdicts.Verdict:
    """The verdict on a row of the table, with its reason; NOT_JUDGED for what is no result, such as baselines and controls."""
    if row.key.method not in JUDGED.get(row.stage, ()) or row.key.control or row.key.seconds:
        return verdicts.NOT_JUDGED
    copied = _copied(table, row) if row.metric == "ranking_accuracy" else math.nan
    return verdicts.judge(row.metric, row.value, row.low, row.high, int(row.n), copied)


def _copied(table: pd.DataFrame, row: ScoreRow) -> float:
    """Ranking accuracy of the copied input beside a row's: of the same people, for `fit` of pretrain's held-out ones."""
    own = table.loc[(table["method"] == "copy_input") & (table["stage"] == "pretrain") & (table["scales"] == row.key.scales)]
    if row.stage == "pretrain":
        own = own[own["split"] == row.key.split]
    elif (own["split"] != "validation").any():
        own = own[own["split"] != "validation"]
    if not len(own) or ON_STATES in listed(row.key.note):
        return math.nan
    return float(own["value"].iloc[0])


def score_rows(table: pd.DataFrame) -> list[ScoreRow]:
    """The rows of the table, in their order."""
    keys = map(ScoreKey, *(table[name] for name in ScoreKey._fields))
    return list(map(ScoreRow, table["stage"], keys, *(table[name] for name in ScoreRow._fields[2:])))


def rows_of_key(table: pd.DataFrame, key: ScoreKey) -> pd.DataFrame:
    """The rows of the table that have this key."""
    chosen = np.logical_and.reduce([table[name] == value for name, value in key._asdict().items()])
    return table.loc[chosen]


def _typed(table):
    table = table.copy()
    for name in COLUMNS:
        if name not in NUMBERS:
            table[name] = table[name].astype(str)
        else:
            numbers = pd.Series(pd.to_numeric(table[name].replace("", math.nan)))
            table[name] = numbers.astype("Int64" if name == "n" else float)
    return table.reset_index(drop=True)

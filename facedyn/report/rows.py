"""Rows of scores.csv as the sections of the page want them: the headline, one row, a cell of a table, a grid of settings."""

import math

from facedyn.report import page
from facedyn.report.inputs import Inputs
from facedyn.store import scores
from facedyn.store.scores import describe, is_comparison, number

METRICS = ("pcc", "ccc", "acc", "rmse", "r2")
METRIC_NAMES = {"pcc": "PCC", "ccc": "CCC", "acc": "ACC", "rmse": "RMSE", "r2": "R²"}
METRIC_NAMES |= {"top1": "top-1", "mrr": "mean reciprocal rank", "ranking_accuracy": "ranking accuracy"}
METRIC_NAMES |= {"within_distance": "distance within", "between_distance": "between people", "icc": "ICC"}
METRIC_HEADS = [METRIC_NAMES[m] for m in METRICS]


def headline(inputs: Inputs):
    """(method, setting) of the trait scores that lead, or None."""
    return scores.headline(inputs.scores)


def means(inputs: Inputs):
    """Mean over the traits of every method; differences of two are none."""
    traits = inputs["traits"]
    return traits[(traits["trait"] == "mean") & ~traits["method"].map(is_comparison).astype(bool)]


def row_of(rows, method, setting, metric):
    """The one row, or None."""
    chosen = rows[(rows["method"] == method) & (rows["setting"] == setting) & (rows["metric"] == metric)]
    return next(chosen.itertuples(index=False), None)


def cell(row):
    """A figure with its interval beneath, as `page.table` takes it."""
    if row is None:
        return "–"
    interval = "" if math.isnan(row.low) else f"{number(row.low)} to {number(row.high)}"
    return number(row.value), interval


def score_grid(rows, metric, caption: str) -> str:
    """A table of one stage's rows, methods down and settings across; '' for none."""
    rows = rows[rows["metric"] == metric]
    if not len(rows):
        return ""
    settings_ = list(dict.fromkeys(rows["setting"]))
    body = []
    for method in dict.fromkeys(rows["method"]):
        found = [row_of(rows, method, setting, metric) for setting in settings_]
        people = {row.n for row in found if row is not None}
        body.append([describe(method, "", rows["stage"].iloc[0])[0], *map(cell, found), " / ".join(map(str, sorted(people)))])
    columns = [METRIC_NAMES[metric], *(sentence(describe("", setting)[1]) for setting in settings_), "people"]
    return page.table(columns, body, caption, numbers=range(1, len(columns)))


def sentence(words: str) -> str:
    """With a capital first letter."""
    return words[:1].upper() + words[1:]


def in_order(values):
    """Distinct values as they come, 'mean' last."""
    return sorted(dict.fromkeys(values), key=lambda value: value == "mean")

"""Rows of scores.csv in words: names of methods, reading order, cells, verdicts, and the whole table for a terminal."""

import io
import math

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from facedyn.core.verdicts import TOO_FEW, Verdict
from facedyn.store.scores import (
    FINDINGS,
    IDENTIFICATION,
    MINUS,
    PLUS,
    ScoreKey,
    ScoreRow,
    is_comparison,
    listed,
    rows_of_key,
    score_rows,
    verdict_of,
)

WIDTH = 100  # of a terminal, in characters
METRICS = ("pcc", "ccc", "acc", "rmse", "r2")
METRIC_NAMES = {"pcc": "PCC", "ccc": "CCC", "acc": "ACC", "rmse": "RMSE", "r2": "R²"}
METRIC_NAMES |= {"top1": "top-1", "mrr": "mean reciprocal rank", "ranking_accuracy": "ranking accuracy"}
METRIC_NAMES |= {"within_distance": "distance within", "between_distance": "between people", "icc": "ICC"}

# The methods that the figures are about come first in every table, then what they are compared with.
# Ways to identify people, the most informative first: halves of the same clips share light, camera and expression.
IDENTIFIED = {"cross_session": "another session", "cross_task": "another task", "cross_clip": "another clip"}
IDENTIFIED |= {"split_half": "the other half of their frames"}
METHOD_ORDER = ("representation", "generic", "split_half")
# Not what a representation has to be better than.
NO_BASELINES = ("representation", "oracle", "fold_seed", "permuted_labels")
# What the fit is compared with: the generic model as it is or, in closed form, the population filters.
WITHOUT = "without person filters"
METHOD_NAMES = {
    "representation": "person filters",
    "generic": "generic model",
    "representation_minus_generic": "with minus without filters",
    "same_identity": "same-identity look-up",
    "time_shuffled": "time-shuffled frames",
    "swapped_dynamics": "somebody else's movement",
    "reversed": "clips played backwards",
    "oracle": "oracle: true tracks",
    "copy_input": "copy of the input",
    "untrained": "untrained U-net",
    "fold_seed": "one repeat of the cross-validation",
    "finding_fused_tasks": "all tasks minus the best single task",
    "finding_multi_scale": "all scales minus the best single scale",
    "finding_task_matters": "best task minus worst task",
}


def method_name(method: str, stage: str = "") -> str:
    """A method of a stage in words; 'a+b_minus_c' is the difference of a fused with b, and c."""
    if (stage, method) == ("fit", "generic"):
        return WITHOUT
    if method in METHOD_NAMES:
        return METHOD_NAMES[method]
    for separator, word in ((MINUS, " minus "), (PLUS, " + ")):
        if separator in method:
            return word.join(map(method_name, method.split(separator)))
    return method.replace("_", " ")


def details(key: ScoreKey) -> str:
    """What a key says beside the method: 'ridge, scales 1+2, all tasks, features fused, transductive'."""
    words = ["MLP" if key.head == "mlp" else key.head.replace("_", " ")]
    words.append(f"scale{'s' * (len(key.scale_numbers) > 1)} {key.scales}" if key.scales else "")
    words.append("all tasks" if key.tasks == "all" else f"task {key.tasks}" if key.tasks else "")
    words.append(f"{key.fusion} fused" if key.fusion else "")
    for name in ("weighting", "unit", "aggregate", "block", "control", "of", "split", "seed"):
        value = getattr(key, name)
        words.append(f"{name} {value}".replace("_", " ") if value else "")
    return ", ".join([*filter(None, words), *(note.replace("_", " ") for note in listed(key.note))])


def describe(key: ScoreKey, stage: str = "") -> tuple[str, str]:
    """(method, everything else) of a stage in words."""
    return method_name(key.method, stage), details(key)


def headline_first(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows in reading order: methods before baselines; the ridge on all scales and tasks, features fused, leads."""
    heads, fused = {"banded_ridge": 0, "ridge": 1, "mlp": 2}, {"features": 0, "": 0, "predictions": 1}

    def place(row):
        key, first = row.key, row.key.method.split(PLUS)[0]  # fused ones come after the method itself
        method = (METHOD_ORDER.index(first) if first in METHOD_ORDER else len(METHOD_ORDER), row.key.method != first)
        choice = heads.get(key.head, 3), fused.get(key.fusion, 2)
        scales = key.scale_numbers
        return method, bool(key.of or key.block), key.tasks not in ("all", ""), -len(scales), *choice, key.tasks, scales

    rows = score_rows(scores)
    return scores.iloc[sorted(range(len(rows)), key=lambda i: place(rows[i]))]


def trait_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over the traits of every method, the headline first; differences of two are none."""
    rows = scores.loc[(scores["stage"] == "traits") & (scores["trait"] == "mean")]
    return headline_first(rows.loc[~rows["method"].map(is_comparison).astype(bool)])


def differences(scores: pd.DataFrame) -> pd.DataFrame:
    """Differences of two methods, means over the traits."""
    rows = scores.loc[(scores["stage"] == "traits") & (scores["trait"] == "mean")]
    return rows.loc[rows["method"].str.contains(MINUS, regex=False)]


def headline(scores: pd.DataFrame) -> ScoreKey | None:
    """The key of the trait scores that lead, or None."""
    return next((row.key for row in score_rows(trait_means(scores))), None)


def headline_row(scores: pd.DataFrame) -> ScoreRow | None:
    """The mean PCC that leads, or None."""
    key = headline(scores)
    return None if key is None else row_of(scores.loc[scores["trait"] == "mean"], key, "pcc")


def trait_rows(scores: pd.DataFrame, key: ScoreKey, metric: str) -> dict[str, ScoreRow]:
    """{trait, 'mean' among them: its row} of the trait scores of a key."""
    rows = rows_of_key(scores.loc[(scores["stage"] == "traits") & (scores["metric"] == metric) & (scores["trait"] != "")], key)
    return {row.trait: row for row in score_rows(rows)}


def baseline_row(scores: pd.DataFrame, method: str = "") -> ScoreRow | None:
    """The mean PCC of the best baseline, or of `method`; None where there is none."""
    means = trait_means(scores)
    means = means.loc[(means["metric"] == "pcc") & ~means["method"].str.contains(PLUS, regex=False)]
    means = means.loc[means["method"] == method] if method else means.loc[~means["method"].isin(NO_BASELINES)]
    return max(score_rows(means), key=lambda row: -1.0 if math.isnan(row.value) else row.value, default=None)


def difference_row(scores: pd.DataFrame, baseline: ScoreRow) -> ScoreRow | None:
    """The paired difference of mean PCC between the representation and the method of a row, or None."""
    rows = differences(scores)
    rows = rows.loc[(rows["metric"] == "pcc") & (rows["method"] == f"representation{MINUS}{baseline.key.method}")]
    return next(iter(score_rows(rows)), None)


def identification_row(scores: pd.DataFrame) -> ScoreRow | None:
    """Top-1 by the most informative way to identify people, with most scales; or None."""
    rows = scores.loc[(scores["stage"] == "fit") & (scores["metric"] == "top1") & (scores["control"] == "")]
    rows = rows.loc[(rows["block"] == "") & rows["method"].isin(IDENTIFIED)]
    best = sorted(score_rows(rows), key=lambda row: (-[*IDENTIFIED].index(row.key.method), len(row.key.scale_numbers)))
    return best[-1] if best else None


def generic_rows(scores: pd.DataFrame) -> list[tuple[ScoreRow, ScoreRow | None]]:
    """(ranking accuracy of the generic model, that of the copied input or None), a pair for each scale."""
    rows = quoted(scores)
    rows = rows.loc[(rows["stage"] == "pretrain") & (rows["method"] == "generic") & (rows["metric"] == "ranking_accuracy")]
    copied = "copy_input"
    return [(row, row_of(scores, row.key._replace(method=copied), "ranking_accuracy")) for row in score_rows(rows)]


def quoted(scores: pd.DataFrame) -> pd.DataFrame:
    """Without the figures of validation people, where others are held out: the best step was chosen by them."""
    others = set(scores.loc[scores["stage"] == "pretrain", "split"]) - {"validation"}
    return scores.loc[(scores["stage"] != "pretrain") | (scores["split"] != "validation")] if others else scores


def row_of(rows: pd.DataFrame, key: ScoreKey, metric: str) -> ScoreRow | None:
    """The one row, or None."""
    return next(iter(score_rows(rows_of_key(rows.loc[rows["metric"] == metric], key))), None)


def metric_rows(scores: pd.DataFrame, metrics) -> list[list]:
    """A row a key, in their order, as `page.table` takes it: what it is, its row of each metric or None, the people."""
    return [[describe(e["key"]), *(e.get(m) for m in metrics), int(e["n"])] for e in pivot_metrics(scores)]


def pivot_metrics(scores: pd.DataFrame) -> list[dict]:
    """One dict a key, in the order of the rows: {'key', 'n', metric: row, ...}."""
    groups = {}
    for row in score_rows(scores):
        groups.setdefault(row.key, {"key": row.key, "n": row.n})[row.metric] = row
    return list(groups.values())


def key_results(scores: pd.DataFrame) -> list[tuple[str, Verdict]]:
    """(what, verdict) of the results to be read first: generic model and filters of each scale, identification, traits."""
    rows, lead = quoted(scores), headline(scores)
    keys = [row.key for row in score_rows(rows)]
    most = max((len(key.scale_numbers) for key, metric in zip(keys, rows["metric"]) if metric == "top1"), default=0)
    chosen = [
        row.metric == "ranking_accuracy"
        or (row.metric == "top1" and len(key.scale_numbers) == most and not key.block)
        or (key == lead and (row.stage, row.trait, row.metric) == ("traits", "mean", "pcc"))
        for key, row in zip(keys, score_rows(rows))
    ]
    return judged(scores, rows.loc[np.array(chosen, bool)])


def judged(scores: pd.DataFrame, rows: pd.DataFrame) -> list[tuple[str, Verdict]]:
    """(what, verdict) of those of some rows of `scores` that are judged."""
    found = []
    for row in score_rows(rows):
        verdict = verdict_of(scores, row)
        what = ", ".join(filter(None, (*describe(row.key, row.stage), METRIC_NAMES[row.metric])))
        found += [(what, verdict)] if verdict.word else []
    return found


def number(value: float, digits: int = 3) -> str:
    """A figure as tables show it; a dash for NaN."""
    rounded = round(value, digits) + 0.0 if math.isfinite(value) else value  # + 0.0: no "−0.000"
    return "–" if math.isnan(value) else f"{rounded:.{digits}f}".replace("-", "−")


def with_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """'0.412 [0.301, 0.518]', without the brackets where there is no interval."""
    if math.isnan(low) or math.isnan(high):
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def figure(row: ScoreRow, digits: int = 3) -> str:
    """A row's figure `with_interval`."""
    return with_interval(row.value, row.low, row.high, digits)


def key_figure(row: ScoreRow) -> str:
    """A figure to be shown large; a dash where so few people say nothing."""
    return "–" if row.verdict == TOO_FEW else number(row.value, 2)


def size(cell) -> float:
    """The figure of a row or a number, for sorting: minus infinity where there is none."""
    value = getattr(cell, "value", cell)
    return -math.inf if not isinstance(value, (int, float)) or math.isnan(value) else value


def sentence(words: str) -> str:
    """With a capital first letter."""
    return words[:1].upper() + words[1:]


def in_order(values):
    """Distinct values as they come, 'mean' last."""
    return sorted(dict.fromkeys(values), key=lambda value: value == "mean")


def score_table(scores: pd.DataFrame) -> str:
    """The table for a terminal of 100 columns: trait metrics (headline first), ranking accuracy, identification, verdicts."""
    written = io.StringIO()
    console = Console(file=written, width=WIDTH, force_terminal=False, color_system=None)
    for table in (*_trait_tables(scores), *_other_tables(quoted(scores))):
        console.print(table)
    results = key_results(scores)
    if results:
        rows = [(what, verdict.word, verdict.reason) for what, verdict in results]
        console.print(_table("Verdicts", ("result", "verdict", "why"), (), rows))
    text = written.getvalue().rstrip()
    return "\n".join(line.rstrip() for line in text.splitlines()) or "No scores yet."


def _trait_tables(scores):
    means = scores.loc[(scores["stage"] == "traits") & (scores["trait"] == "mean")]
    findings, of_two, traits = means.loc[means["method"].isin(FINDINGS)], differences(scores), trait_means(scores)
    if len(traits):
        n = int(np.max(traits["n"]))
        title = f"Traits: mean over the traits, {n} people, 95 % interval by resampling people"
        rows = [
            (*describe(e["key"]), _interval_cell(e.get("pcc")), *(_cell(e.get(m)) for m in ("ccc", "acc", "rmse")))
            for e in pivot_metrics(traits)
        ]
        yield _table(title, ("method", "setting"), ("PCC", "CCC", "ACC", "RMSE"), rows)
    if len(findings):
        title = "Findings: paired difference of the mean PCC, same resampled people"
        pcc = score_rows(findings.loc[findings["metric"] == "pcc"])
        rows = [(*describe(row.key), _interval_cell(row)) for row in pcc]
        yield _table(title, ("difference", "setting"), ("PCC",), rows)
    if len(of_two):
        title = "Differences: both methods on the same resampled people, 95 % interval"
        rows = [(*describe(e["key"]), *(_interval_cell(e.get(m)) for m in ("pcc", "ccc"))) for e in pivot_metrics(of_two)]
        yield _table(title, ("difference", "setting"), ("PCC", "CCC"), rows)
    lead = headline(scores)
    if lead is not None:
        own = rows_of_key(scores.loc[(scores["stage"] == "traits") & ~scores["trait"].isin(["mean", ""])], lead)
        pcc = score_rows(own.loc[own["metric"] == "pcc"])
        rows = [(row.trait, _interval_cell(row), str(row.n)) for row in pcc]
        if rows:
            yield _table("Per trait: " + ", ".join(describe(lead)), ("trait",), ("PCC", "people"), rows)


def _other_tables(scores):
    columns = ("stage", "method", "setting")
    ranked = score_rows(scores.loc[scores["metric"] == "ranking_accuracy"])
    told_apart = score_rows(scores.loc[scores["metric"].isin(IDENTIFICATION)])
    if rows := [(*_named(row), _interval_cell(row), str(row.n)) for row in ranked]:
        yield _table("Ranking accuracy: share of pairs of frames in the right order", columns, ("value", "n"), rows)
    if rows := [(*_named(row), row.metric, _interval_cell(row), number(row.chance), str(row.n)) for row in told_apart]:
        title = "Identification: is a person's other half (session, task, clip) the nearest neighbour?"
        yield _table(title, (*columns, "metric"), ("value", "chance", "n"), rows)


def _named(row: ScoreRow):
    return row.stage, *describe(row.key, row.stage)


def _table(title, columns, numbers, rows):
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _cell(row: ScoreRow | None):
    return "–" if row is None else number(row.value)


def _interval_cell(row: ScoreRow | None):
    return "–" if row is None else with_interval(row.value, row.low, row.high)

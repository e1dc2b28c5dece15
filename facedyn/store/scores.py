"""WORKDIR/scores.csv, the one long table of every figure that anyone quotes, and its shape on the terminal.

A stage replaces its own rows and leaves the others'. The report and the terminal print from this table and compute nothing.
"""

import io
import math
import pathlib
import re

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path

COLUMNS = ("stage", "method", "setting", "trait", "metric", "value", "low", "high", "n")
TEXT, NUMBERS = COLUMNS[:5], ("value", "low", "high")
STAGE_ORDER = ("prepare", "pretrain", "fit", "traits")
WIDTH = 100

# What a setting may say, and what holds where it says nothing.
FLAGS = ("transductive", "people_overlap")
SETTING_PARTS = {"head": "", "scales": (), "tasks": "", "fusion": ""} | dict.fromkeys(FLAGS, False)

# Paired differences that answer a question, of `traits`; what is single is chosen in each fold by its training people.
FINDINGS = {
    "finding_fused_tasks": "all tasks minus the best single task",
    "finding_multi_scale": "all scales minus the best single scale",
    "finding_task_matters": "best task minus worst task",
}
# Figures of how well people are told apart.
IDENTIFICATION = ("top1", "mrr", "within_distance", "between_distance", "icc")

# The methods that the figures are about come first in every table, then what they are compared with.
METHOD_ORDER = ("representation", "generic", "split_half")
METHOD_NAMES = {
    "representation": "person filters",
    "generic": "generic model",
    "representation_minus_generic": "with minus without filters",
    "mean_predictor": "mean predictor",
    "same_identity": "same-identity look-up",
    "mean_face": "mean face",
    "rank_pooling": "rank pooling",
    "dynamic_images": "dynamic images",
    "linear_dynamics": "linear dynamics",
    "generic_feature": "generic feature",
    "optical_flow": "optical flow",
    "permuted_labels": "permuted labels",
    "time_shuffled": "time-shuffled frames",
    "cross_session": "cross session",
    "cross_task": "cross task",
    "cross_clip": "cross clip",
    "oracle": "oracle: true tracks",
    "zero_map": "zero map",
    "copy_input": "copy of the input",
    "untrained": "untrained U-net",
    "oracle_dynamic_image": "oracle dynamic image",
    "split_half": "split half",
    "fold_seed": "one repeat of the cross-validation",
} | FINDINGS
# What the fit is compared with: the generic model as it is or, in closed form, the filters that hold for everybody.
WITHOUT = "without person filters"


def scores_path(workdir) -> pathlib.Path:
    """Where the table lies."""
    return pathlib.Path(workdir).expanduser() / "scores.csv"


def empty_scores() -> pd.DataFrame:
    """The table without a row."""
    return _typed(pd.DataFrame({name: pd.Series(dtype=str) for name in COLUMNS}))


def load_scores(workdir) -> pd.DataFrame:
    """The whole table; texts are str ('' where empty), value, low and high are float (NaN where empty), n is int.

    Raises InputError when there is none, or it is not such a table.
    """
    path = scores_path(workdir)
    if not path.is_file():
        raise InputError(f"There is no scores.csv in {workdir}; run pretrain, fit or traits first.")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns) != COLUMNS:
        raise InputError(f"{path} is not a table of scores: its columns must be {','.join(COLUMNS)}; delete it and run again.")
    return _typed(table)


def replace_scores(workdir, stage: str, rows: list[dict]) -> None:
    """Writes the rows of `stage` in the place of its older ones, atomically; other stages' rows stay.

    A row has the keys of COLUMNS; `stage` may lack, `low` and `high` are NaN or lack where there is no interval, `setting` and
    `trait` are '' where they lack. Raises ValueError for an unknown or missing key, or a row of another stage.
    """
    complete = []
    for row in rows:
        row = {"stage": stage, "setting": "", "trait": "", "low": math.nan, "high": math.nan} | row
        if set(row) != set(COLUMNS) or row["stage"] != stage:
            raise ValueError(f"A row of {stage!r} must have the keys {COLUMNS}, not {row}.")
        complete.append(row)
    new = _typed(pd.DataFrame(complete, columns=list(COLUMNS))) if complete else empty_scores()
    if scores_path(workdir).is_file():
        old = load_scores(workdir)
        new = pd.concat([table for table in (old[old["stage"] != stage], new) if len(table)] or [new])
    place = {name: i for i, name in enumerate(STAGE_ORDER)}
    new = new.sort_values("stage", key=lambda column: column.map(lambda s: place.get(s, len(place))), kind="stable")
    with atomic_path(scores_path(workdir)) as temporary:
        new.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def parse_setting(setting: str) -> dict:
    """'ridge;scales=1+2;tasks=all;fusion=features;transductive' -> its parts, by name.

    Keys: head ('' where there is none), scales (tuple of int), tasks ('all', a task, or ''), fusion ('' for a single feature
    set), those of FLAGS (bool), and whatever else is given as name=value.

    >>> parse_setting("ridge;scales=1+2;tasks=all")["scales"]
    (1, 2)
    """
    parts = dict(SETTING_PARTS)
    for i, part in enumerate(setting.split(";")):
        name, equals, value = part.partition("=")
        if name in ("scale", "scales") and equals:
            parts["scales"] = tuple(int(s) for s in re.findall(r"\d+", value))
        elif equals:
            parts[name] = value
        elif name in FLAGS:
            parts[name] = True
        elif i == 0:
            parts["head"] = name
    return parts


def headline_first(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows in reading order: methods before baselines; the ridge on all scales and tasks, features fused, leads."""

    heads, fused = {"ridge": 0, "mlp": 1}, {"features": 0, "": 0, "predictions": 1}

    def place(row):
        s = parse_setting(row.setting)
        first = row.method.split(PLUS)[0]  # fused ones come behind the method itself
        method = (METHOD_ORDER.index(first) if first in METHOD_ORDER else len(METHOD_ORDER), row.method != first)
        choice = heads.get(s["head"], 2), fused.get(s["fusion"], 2)
        return method, "of" in s, s["tasks"] not in ("all", ""), -len(s["scales"]), *choice, s["tasks"], s["scales"]

    order = sorted(range(len(scores)), key=lambda i: place(scores.iloc[i]))
    return scores.iloc[order]


def headline(scores: pd.DataFrame) -> tuple[str, str] | None:
    """(method, setting) of the trait scores that lead, or None."""
    rows = scores[(scores["stage"] == "traits") & (scores["trait"] == "mean")]
    rows = headline_first(rows[~rows["method"].map(is_comparison).astype(bool)])
    return (rows["method"].iloc[0], rows["setting"].iloc[0]) if len(rows) else None


MINUS, PLUS = "_minus_", "+"


def is_difference(method: str) -> bool:
    """Whether the figures are differences of two methods, 'representation_minus_mean_face', and no scores."""
    return MINUS in method


def is_comparison(method: str) -> bool:
    """Whether the figures are differences of any kind, of two methods or a finding, and no scores."""
    return is_difference(method) or method in FINDINGS


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


def describe(method: str, setting: str, stage: str = "") -> tuple[str, str]:
    """(method, setting) of a stage in words: ('person filters', 'ridge, scales 1+2, all tasks, features fused')."""
    s, words = parse_setting(setting), []
    if s["head"]:
        words.append("MLP" if s["head"] == "mlp" else s["head"])
    if s["scales"]:
        words.append(("scales " if len(s["scales"]) > 1 else "scale ") + "+".join(map(str, s["scales"])))
    if s["tasks"]:
        words.append("all tasks" if s["tasks"] == "all" else f"task {s['tasks']}")
    if s["fusion"]:
        words.append(f"{s['fusion']} fused")
    words += [f"{name} {value}".replace("_", " ") for name, value in s.items() if name not in SETTING_PARTS]
    words += [flag.replace("_", " ") for flag in FLAGS if s[flag]]
    return method_name(method, stage), ", ".join(words)


def number(value: float, digits: int = 3) -> str:
    """A figure as tables show it; a dash for NaN."""
    rounded = round(value, digits) + 0.0 if math.isfinite(value) else value  # + 0.0: no "−0.000"
    return "–" if math.isnan(value) else f"{rounded:.{digits}f}".replace("-", "−")


def with_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """'0.412 [0.301, 0.518]', without the brackets where there is no interval."""
    if math.isnan(low) or math.isnan(high):
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def pivot_metrics(scores: pd.DataFrame) -> list[dict]:
    """One dict a (method, setting), in the order of the rows: {'method', 'setting', 'n', metric: row, ...}."""
    groups = {}
    for row in scores.itertuples(index=False):
        entry = groups.setdefault((row.method, row.setting), {"method": row.method, "setting": row.setting, "n": row.n})
        entry[row.metric] = row
    return list(groups.values())


def score_table(scores: pd.DataFrame) -> str:
    """The table for a terminal of 100 columns: trait metrics (headline first), ranking accuracy, identification."""
    console = Console(file=io.StringIO(), width=WIDTH, force_terminal=False, color_system=None)
    means = scores[(scores["stage"] == "traits") & (scores["trait"] == "mean")]
    findings, differences = means[means["method"].isin(FINDINGS)], means[means["method"].map(is_difference).astype(bool)]
    traits = headline_first(means[~means["method"].map(is_comparison).astype(bool)])
    if len(traits):
        n = int(traits["n"].max())
        table = _table(f"Traits: mean over the traits, {n} people, 95 % interval by resampling people", "method", "setting")
        for name in ("PCC", "CCC", "ACC", "RMSE"):
            table.add_column(name, justify="right", no_wrap=True)
        for entry in pivot_metrics(traits):
            cells = [_interval_cell(entry.get("pcc")), *(_cell(entry.get(m)) for m in ("ccc", "acc", "rmse"))]
            table.add_row(*describe(entry["method"], entry["setting"]), *cells)
        console.print(table)
    if len(findings):
        table = _table("Findings: paired difference of the mean PCC, same resampled people", "difference", "setting")
        table.add_column("PCC", justify="right", no_wrap=True)
        for row in findings[findings["metric"] == "pcc"].itertuples(index=False):
            table.add_row(*describe(row.method, row.setting), with_interval(row.value, row.low, row.high))
        console.print(table)
    if len(differences):
        table = _table("Differences: both methods on the same resampled people, 95 % interval", "difference", "setting")
        for name in ("PCC", "CCC"):
            table.add_column(name, justify="right", no_wrap=True)
        for entry in pivot_metrics(differences):
            cells = (_interval_cell(entry.get(m)) for m in ("pcc", "ccc"))
            table.add_row(*describe(entry["method"], entry["setting"]), *cells)
        console.print(table)
    per_trait = scores[(scores["stage"] == "traits") & ~scores["trait"].isin(["mean", ""]) & (scores["metric"] == "pcc")]
    if len(traits) and len(per_trait):
        first = traits.iloc[0]
        chosen = per_trait[(per_trait["method"] == first["method"]) & (per_trait["setting"] == first["setting"])]
        table = _table("Per trait: " + ", ".join(describe(first["method"], first["setting"])), "trait")
        table.add_column("PCC", justify="right", no_wrap=True)
        table.add_column("people", justify="right")
        for row in chosen.itertuples(index=False):
            table.add_row(row.trait, with_interval(row.value, row.low, row.high), str(row.n))
        console.print(table)
    for title, metrics in (
        ("Ranking accuracy: share of pairs of frames in the right order", ("ranking_accuracy",)),
        ("Identification: is a person's other half (session, task, clip) the nearest neighbour?", IDENTIFICATION),
    ):
        rows = scores[scores["metric"].isin(metrics)]
        if len(rows):
            table = _table(title, "stage", "method", "setting", *(["metric"] if len(metrics) > 1 else []))
            table.add_column("value", justify="right", no_wrap=True)
            table.add_column("n", justify="right")
            for row in rows.itertuples(index=False):
                metric = [row.metric] if len(metrics) > 1 else []
                interval = with_interval(row.value, row.low, row.high)
                table.add_row(row.stage, *describe(row.method, row.setting, row.stage), *metric, interval, str(row.n))
            console.print(table)
    text = console.file.getvalue().rstrip()
    return "\n".join(line.rstrip() for line in text.splitlines()) or "No scores yet."


def _table(title, *columns):
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _cell(row):
    return "–" if row is None else number(row.value)


def _interval_cell(row):
    return "–" if row is None else with_interval(row.value, row.low, row.high)


def _typed(table):
    table = table.copy()
    for name in TEXT:
        table[name] = table[name].astype(str)
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name].replace("", math.nan)).astype(float)
    table["n"] = pd.to_numeric(table["n"]).astype(int)
    return table.reset_index(drop=True)

"""Sections on traits: key figures, the headline table with baselines, scatter, scales and tasks and fusion."""

from facedyn.report import page, plots
from facedyn.report.findings import findings
from facedyn.report.forest import forest
from facedyn.report.inputs import Inputs
from facedyn.report.rows import METRIC_HEADS, METRICS, cell, headline, in_order, means, row_of, sentence
from facedyn.store.scores import (
    PLUS,
    describe,
    headline_first,
    is_difference,
    number,
    parse_setting,
    pivot_metrics,
    with_interval,
)

# Groups of the comparison, in this order.
GROUPS = {
    "all": "Person filters, all tasks",
    "task": "Person filters, one task",
    "fused": "Person filters together with a baseline",
    "baseline": "Baselines",
}


def tiles(inputs: Inputs) -> str:
    """The key figures on top of the page."""
    items, lead = [], headline(inputs)
    if lead:
        row = row_of(means(inputs), *lead, "pcc")
        note = f"95 % interval {number(row.low, 2)} to {number(row.high, 2)}, {row.n} people"
        items.append(("PCC, mean over the traits", number(row.value, 2), note))
    ranked = inputs["fit"][inputs["fit"]["metric"] == "ranking_accuracy"]
    for setting in ranked[ranked["method"] == "representation"]["setting"].head(1):
        before, after = (row_of(ranked, method, setting, "ranking_accuracy") for method in ("generic", "representation"))
        if before is not None:
            figure = f"{number(before.value)} → {number(after.value)}"
            items.append(("Ranking accuracy, without → with person filters", figure, describe("", setting)[1]))
    found = inputs["fit"][(inputs["fit"]["metric"] == "top1") & (inputs["fit"]["method"] == "split_half")]
    if len(found):
        row = max(found.itertuples(index=False), key=lambda r: len(parse_setting(r.setting)["scales"]))
        items.append(
            ("Split-half identification, top-1", number(row.value, 2), f"of {row.n} people, {describe('', row.setting)[1]}")
        )
    return page.tile_row(items)


def trait_scores(inputs: Inputs) -> page.Section:
    """The headline table with baselines, and the headline trait by trait."""
    rows, lead = headline_first(means(inputs)), headline(inputs)
    if lead is None:
        reason = inputs.stamps.get("traits", {}).get("summary", {}).get("skipped")
        return page.section(
            "traits", "Trait prediction", page.paragraph(f"No trait was predicted{f': {reason}' if reason else ''}.")
        )
    entries = [e for e in pivot_metrics(rows) if e["method"] != "representation" or _is_full(e["setting"], lead[1])]
    baselines = [i for i, e in enumerate(entries) if e["method"] != "representation"]
    body = [[describe(e["method"], e["setting"]), *(cell(e.get(m)) for m in METRICS), str(e["n"])] for e in entries]
    columns = ["method", *METRIC_HEADS, "people"]
    caption = "Mean over the traits; beneath each figure its 95 % interval, by resampling people."
    parts = [page.table(columns, body, caption, numbers=range(1, 7), lead=(0,), breaks=baselines[:1])]
    parts += _differences(inputs)
    of_lead = inputs["traits"][(inputs["traits"]["method"] == lead[0]) & (inputs["traits"]["setting"] == lead[1])]
    body = []
    for trait in in_order(of_lead["trait"]):
        chosen = of_lead[of_lead["trait"] == trait]
        body.append([trait, *(cell(row_of(chosen, *lead, m)) for m in METRICS), str(chosen["n"].iloc[0])])
    words = sentence(", ".join(describe(*lead))) + "."
    parts += [page.heading("Trait by trait"), page.table(["trait", *METRIC_HEADS, "people"], body, words, numbers=range(1, 7))]
    if any(parse_setting(setting)["transductive"] for setting in rows["setting"]):
        words = "Transductive: people scored here were, without labels, among those the generic model learnt from."
        parts.append(page.paragraph(words, note=True))
    return page.section("traits", "Trait prediction", *parts)


def _differences(inputs) -> list[str]:
    """Paired differences between the person filters, alone or fused, and what they are compared with."""
    rows = inputs["traits"][inputs["traits"]["trait"] == "mean"]
    entries = pivot_metrics(rows[rows["method"].map(is_difference).astype(bool)])
    if not entries:
        return []
    body = [[describe(e["method"], e["setting"]), *(cell(e.get(m)) for m in ("pcc", "ccc")), str(e["n"])] for e in entries]
    words = (
        "Mean over the traits of one method minus that of the other, both on the same resampled people: where the interval "
        "excludes 0, the difference is more than chance among people."
    )
    columns = ["difference", "PCC", "CCC", "people"]
    return [page.heading("Against the baselines"), page.table(columns, body, words, numbers=(1, 2, 3), lead=(0,))]


def scatters(inputs: Inputs) -> page.Section:
    """Predicted against label, a plot a trait."""
    lead, table = headline(inputs), inputs.predictions
    if lead is None or table is None:
        return page.section("scatter", "Predicted and labelled", page.paragraph("There are no predictions to draw."))
    table = table[(table["method"] == lead[0]) & (table["setting"] == lead[1])]
    if "seed" in table:  # of several repeats of the folds the first
        table = table[table["seed"] == table["seed"].iloc[0]]
    items = []
    for i, trait in enumerate(in_order(table["trait"])):
        own = table[table["trait"] == trait]
        row = row_of(inputs["traits"][inputs["traits"]["trait"] == trait], *lead, "pcc")
        caption = f"PCC {with_interval(row.value, row.low, row.high, 2)}" if row is not None else ""
        items.append(plots.scatter(f"scatter{i}", trait, own["label"].to_numpy(), own["prediction"].to_numpy(), caption))
    caption = f"A point a person, predicted by a head that never saw him or her; {', '.join(describe(*lead))}."
    return page.section("scatter", "Predicted and labelled", page.figure(page.grid(items, 270), caption))


def comparison(inputs: Inputs) -> page.Section:
    """Intervals over scales, tasks, fusion, heads and baselines."""
    rows = headline_first(means(inputs))
    rows = rows[rows["metric"] == "pcc"]
    if not len(rows):
        return page.section("comparison", "Scales, tasks and fusion", page.paragraph("There are no trait scores to compare."))
    drawn = {group: [] for group in GROUPS}
    for row in rows.itertuples(index=False):
        group = "all" if parse_setting(row.setting)["tasks"] in ("all", "") else "task"
        if row.method != "representation":
            group = "fused" if row.method.startswith("representation" + PLUS) else "baseline"
        method, setting = describe(row.method, row.setting.removesuffix(";transductive"))
        label = setting if row.method == "representation" else f"{method} ({setting})" if setting else method
        drawn[group].append((label, row.value, row.low, row.high))
    groups = [(GROUPS[group], of_group) for group, of_group in drawn.items() if of_group]
    content = forest(groups, "PCC, mean over the traits, with its 95 % interval by resampling people")
    return page.section("comparison", "Scales, tasks and fusion", *findings(inputs), content)


def _is_full(setting, lead) -> bool:
    """Uses the scales and tasks of the headline."""
    a, b = parse_setting(setting), parse_setting(lead)
    return a["scales"] == b["scales"] and a["tasks"] == b["tasks"]

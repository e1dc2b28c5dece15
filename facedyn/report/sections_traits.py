"""Sections on traits: key figures, the table with baselines, scatter plots, comparisons, where traits are read from."""

from facedyn.core.verdicts import TOO_FEW
from facedyn.features import block_and_site
from facedyn.report import page, plots, tables
from facedyn.report.inputs import Inputs
from facedyn.report.tables import number
from facedyn.store.scores import FINDINGS, PLUS, TRANSDUCTIVE, joined, listed

# Groups of the comparison, in this order.
GROUPS = {
    "all": "Person filters, all tasks",
    "task": "Person filters, one task",
    "fused": "Person filters together with a baseline",
    "baseline": "Baselines",
}
# What a finding says when its interval lies above 0, below it, or contains it.
SENTENCES = {
    "finding_fused_tasks": (
        "Tasks fused predict better than the best single task",
        "Tasks fused predict worse than the best single task",
        "Whether tasks fused predict better than the best single task cannot be told",
    ),
    "finding_multi_scale": (
        "Several scales predict better than the best single scale",
        "Several scales predict worse than the best single scale",
        "Whether several scales predict better than the best single scale cannot be told",
    ),
    "finding_task_matters": (
        "The task matters: the best one predicts better than the worst",
        "The task that looks best in training predicts worse than the one that looks worst",
        "Whether the task matters cannot be told",
    ),
}
NOTE = (
    "Differences of the mean PCC with 95 % intervals, both sides judged on the same resampled people. The best and the worst "
    "single task or scale are chosen in each fold by its training people, so neither is favoured by the people it is judged on."
)
SHARE = "share_of_prediction"


def tiles(inputs: Inputs) -> str:
    """The key figures on top of the page; a dash and the verdict where they rest on too few people."""
    items, lead = [], tables.headline(inputs.scores)
    if lead:
        row = tables.row_of(tables.trait_means(inputs.scores), lead, "pcc")
        note = f"95 % interval {number(row.low, 2)} to {number(row.high, 2)}, {row.n} people"
        items.append(("PCC, mean over the traits", tables.key_figure(row), _with_verdict(note, row)))
    ranked = inputs["fit"][inputs["fit"]["metric"] == "ranking_accuracy"]
    for row in ranked[ranked["method"] == "representation"].head(1).itertuples(index=False):
        key = tables.key_of(row)
        before = tables.row_of(ranked, key._replace(method="generic"), "ranking_accuracy")
        if before is not None:
            figure = f"{number(before.value)} → {number(row.value)}" if row.verdict != TOO_FEW else "–"
            note = _with_verdict(tables.details(key), row)
            items.append(("Ranking accuracy, without → with person filters", figure, note))
    found = inputs["fit"][inputs["fit"]["metric"] == "top1"]
    found = found[(found["control"] == "") & (found["block"] == "")]
    kind = next((kind for kind in tables.IDENTIFIED if kind in set(found["method"])), "")
    found = found[found["method"] == kind]
    if len(found):
        row = max(found.itertuples(index=False), key=lambda r: len(tables.key_of(r).scale_numbers))
        note = f"of {row.n} people, {tables.details(tables.key_of(row))}; chance {number(row.chance)}"
        items.append(
            (
                f"{tables.method_name(kind).capitalize()}: identification, top-1",
                tables.key_figure(row),
                _with_verdict(note, row),
            )
        )
    return page.tile_row(items)


def _with_verdict(note, row) -> str:
    return f"{note}: {row.verdict}" if row.verdict else note


def trait_scores(inputs: Inputs) -> page.Section:
    """The headline table with baselines, and the headline trait by trait."""
    rows, lead = tables.trait_means(inputs.scores), tables.headline(inputs.scores)
    if lead is None:
        reason = inputs.stamps.get("traits", {}).get("summary", {}).get("skipped")
        return page.section(
            "traits", "Trait prediction", page.paragraph(f"No trait was predicted{f': {reason}' if reason else ''}.")
        )
    entries = [e for e in tables.pivot_metrics(rows) if e["key"].method != "representation" or _is_full(e["key"], lead)]
    baselines = [i for i, e in enumerate(entries) if e["key"].method != "representation"]
    body = [[tables.describe(e["key"]), *(page.figure_cell(e.get(m)) for m in tables.METRICS), str(e["n"])] for e in entries]
    columns = ["method", *tables.METRIC_HEADS, "people"]
    caption = "Mean over the traits; beneath each figure its 95 % interval, by resampling people."
    parts = [page.table(columns, body, caption, numbers=range(1, 7), lead=(0,), breaks=baselines[:1])]
    of_lead = tables.rows_of_key(inputs["traits"], lead)
    pcc = of_lead[of_lead["metric"] == "pcc"]
    parts += page.verdicts(tables.judged(inputs.scores, pcc[pcc["trait"] == "mean"]))
    parts += _differences(inputs)
    body = []
    for trait in tables.in_order(of_lead["trait"]):
        chosen = of_lead[of_lead["trait"] == trait]
        figures = [tables.row_of(chosen, lead, m) for m in tables.METRICS]
        verdict = figures[0].verdict if figures[0] is not None else ""
        body.append([trait, *map(page.figure_cell, figures), str(chosen["n"].iloc[0]), verdict or "–"])
    words = tables.sentence(", ".join(tables.describe(lead))) + "; the verdict is on the PCC."
    columns = ["trait", *tables.METRIC_HEADS, "people", "verdict"]
    parts += [page.heading("Trait by trait"), page.table(columns, body, words, numbers=range(1, 7))]
    if any(TRANSDUCTIVE in listed(note) for note in rows["note"]):
        words = "Transductive: people scored here were, without labels, among those the generic model learnt from."
        parts.append(page.paragraph(words, note=True))
    return page.section("traits", "Trait prediction", *parts)


def _differences(inputs) -> list[str]:
    """Paired differences between the person filters, alone or fused, and what they are compared with."""
    entries = tables.pivot_metrics(tables.differences(inputs.scores))
    if not entries:
        return []
    body = [[tables.describe(e["key"]), *(page.figure_cell(e.get(m)) for m in ("pcc", "ccc")), str(e["n"])] for e in entries]
    words = (
        "Mean over the traits of one method minus that of the other, both on the same resampled people: where the interval "
        "excludes 0, the difference is more than chance among people."
    )
    columns = ["difference", "PCC", "CCC", "people"]
    return [page.heading("Against the baselines"), page.table(columns, body, words, numbers=(1, 2, 3), lead=(0,))]


def scatters(inputs: Inputs) -> page.Section:
    """Predicted against label, a plot a trait."""
    lead, table = tables.headline(inputs.scores), inputs.predictions
    if lead is None or table is None:
        return page.section("scatter", "Predicted and labelled", page.paragraph("There are no predictions to draw."))
    if "seed" in table:  # of several repeats of the folds the first
        table = table[table["seed"] == table["seed"].iloc[0]]
    items = []
    for i, trait in enumerate(tables.in_order(table["trait"])):
        own = table[table["trait"] == trait]
        row = tables.row_of(inputs["traits"][inputs["traits"]["trait"] == trait], lead, "pcc")
        caption = f"PCC {tables.with_interval(row.value, row.low, row.high, 2)}" if row is not None else ""
        items.append(plots.scatter(f"scatter{i}", trait, own["label"].to_numpy(), own["prediction"].to_numpy(), caption))
    caption = f"One point per person, predicted by a head that never saw him or her; {', '.join(tables.describe(lead))}."
    return page.section("scatter", "Predicted and labelled", page.figure(page.grid(items, 270), caption))


def comparison(inputs: Inputs) -> page.Section:
    """Intervals over scales, tasks, fusion, heads and baselines."""
    rows = tables.trait_means(inputs.scores)
    rows = rows[(rows["metric"] == "pcc") & (rows["block"] == "")]
    if not len(rows):
        return page.section("comparison", "Scales, tasks and fusion", page.paragraph("There are no trait scores to compare."))
    drawn = {group: [] for group in GROUPS}
    for row in rows.itertuples(index=False):
        group = "all" if row.tasks in ("all", "") else "task"
        if row.method != "representation":
            group = "fused" if row.method.startswith("representation" + PLUS) else "baseline"
        key = tables.key_of(row)
        method, setting = tables.describe(key._replace(note=joined(n for n in listed(key.note) if n != TRANSDUCTIVE)))
        label = setting if row.method == "representation" else f"{method} ({setting})" if setting else method
        drawn[group].append((label, row.value, row.low, row.high))
    groups = [(GROUPS[group], of_group) for group, of_group in drawn.items() if of_group]
    content = plots.forest(groups, "PCC, mean over the traits, with its 95 % interval by resampling people")
    return page.section("comparison", "Scales, tasks and fusion", *findings(inputs), content)


def _is_full(key, lead) -> bool:
    """Uses the scales and tasks of the headline."""
    return (key.scales, key.tasks, key.block) == (lead.scales, lead.tasks, "")


def findings(inputs: Inputs) -> list[str]:
    """A paragraph a finding, and what they rest on; [] where there is nothing to compare."""
    rows = inputs["traits"]
    rows = rows[(rows["trait"] == "mean") & (rows["metric"] == "pcc")]
    parts = []
    for method in FINDINGS:
        own = list(rows[rows["method"] == method].itertuples(index=False))
        if own:
            lead = own[0]
            words = SENTENCES[method][0 if lead.low > 0 else 1 if lead.high < 0 else 2]
            others = "".join(f"; {_fusion(row)} {_interval(row)}" for row in own[1:])
            parts.append(page.paragraph(f"{words}: {_fusion(lead)} {_interval(lead)}{others}."))
    return [page.heading("Do tasks and scales matter?"), *parts, page.paragraph(NOTE, note=True)] if parts else []


def _fusion(row) -> str:
    fusion = row.fusion
    return f"{fusion} fused" if fusion and fusion != "stacking" else fusion or tables.method_name(row.method)


def _interval(row) -> str:
    return f"{number(row.value, 2)} [{number(row.low, 2)}, {number(row.high, 2)}]"


def blocks(inputs: Inputs) -> page.Section:
    """What each block of the representation predicts alone, and what the head takes from each block, site, scale and task."""
    title, name, table = "Where traits are read from", "weights", inputs.weights
    parts, lead = _alone(inputs), tables.headline(inputs.scores)
    if table is None or not len(table):
        words = "There is no traits/weights_by_site.csv, which the stage traits writes with its ridge: run it again."
        return page.section(name, title, *parts, page.paragraph(words))
    table = table.assign(block=[block_and_site(site)[0] for site in table["site"]], place=_sites(table))
    words = (
        "Each feature has a weight in the saved ridge. The share of a block (site, scale, task) is what it contributes to the "
        "variance of the predictions, here of the people the ridge was fitted to; a share below 0 offsets others. It says what "
        "the head uses, not how good the head is: where the interval of the PCC contains 0, it describes noise."
    )
    parts += [page.heading("What the head takes"), page.paragraph(words)]
    for column in ("block", "place", "scale", "task"):
        columns = list(dict.fromkeys(table[column]))
        if len(columns) > 1:
            shares = table.pivot_table(SHARE, "trait", column, "sum", sort=False)[columns]
            rows = [(f"{trait}{_figure(inputs, trait)}", list(map(float, shares.loc[trait]))) for trait in shares.index]
            what = "site of the U-net" if column == "place" else column
            caption = f"Share of the variance of the predictions, by {what}."
            parts.append(page.heat_table(["trait", *(str(c).replace("_", " ") for c in columns)], rows, caption))
    note = "Sites run from the finest skip of the U-net to its bottleneck; more of each in traits/weights_by_site.csv."
    return page.section(name, title, *parts, page.paragraph(note, note=True)) if lead else page.section(name, title, *parts)


def _sites(table) -> list[str]:
    return [block_and_site(site)[1] for site in table["site"]]


def _alone(inputs) -> list[str]:
    """A forest of the blocks' own PCC beside that of all together."""
    rows = inputs["traits"]
    rows = rows[(rows["trait"] == "mean") & (rows["metric"] == "pcc") & (rows["method"] == "representation")]
    alone = rows[rows["block"] != ""].sort_values("value", ascending=False)
    lead = tables.headline(inputs.scores)
    if not len(alone) or lead is None:
        return []
    whole = tables.row_of(rows, lead, "pcc")
    drawn = [("all blocks", [("all blocks", whole.value, whole.low, whole.high)])] if whole is not None else []
    drawn.append(("one block", [(r.block.replace("_", " "), r.value, r.low, r.high) for r in alone.itertuples(index=False)]))
    caption = "PCC of each block of the representation alone, mean over the traits, with its 95 % interval"
    return [page.heading("What each block predicts alone"), plots.forest(drawn, caption)]


def _figure(inputs, trait) -> str:
    lead, scores = tables.headline(inputs.scores), inputs["traits"]
    row = tables.row_of(scores[scores["trait"] == trait], lead, "pcc") if lead else None
    return f": PCC {tables.with_interval(row.value, row.low, row.high, 2)}" if row is not None else ""

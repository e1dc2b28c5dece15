"""The section 'What can be predicted?': traits by method and scatter plots; folded, all figures and what they come from."""

from facedyn.features import block_and_site
from facedyn.report import page, plots, tables
from facedyn.report.inputs import Inputs
from facedyn.report.tables import METRIC_NAMES, figure
from facedyn.store.scores import FINDINGS, TRANSDUCTIVE, ScoreRow, listed, score_rows

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
# Traits drawn, a plot each.
PLOTS = 8
TERMS = {
    "ccc": "CCC (concordance) is a PCC that also counts errors in level and spread",
    "acc": "ACC is 1 minus the mean absolute error, for labels in [0, 1]",
    "rmse": "RMSE is the root of the mean squared error, in the labels' unit",
    "r2": "R² is the share of the labels' variance that is predicted",
}


def predicted(inputs: Inputs) -> page.Section:
    """Which traits are predicted how well, by the features and by what they are compared with."""
    name, title, lead = "traits", "What can be predicted?", tables.headline(inputs.scores)
    if lead is None:
        reason = inputs.stamps.get("traits", {}).get("summary", {}).get("skipped")
        why = reason or "name the trait columns of your labels in config.data.traits and run the stage traits"
        return page.Section(name, title, "", f"No trait was predicted: {why}.")
    parts = [_by_method(inputs, lead)]
    if any(TRANSDUCTIVE in listed(note) for note in tables.trait_means(inputs.scores)["note"]):
        words = "Transductive: people scored here were, without labels, among those the generic model learnt from."
        parts.append(page.paragraph(words, note=True))
    parts += [_scatters(inputs, lead), *findings(inputs)]
    parts += [
        page.details(
            "All methods, scales, tasks, ways to fuse them and single blocks, in all metrics", *_metrics(inputs, lead)
        ),
        page.details("Differences from the baselines, with intervals", _differences(inputs)),
        page.details("Where traits are read from", _read_from(inputs)),
    ]
    return page.Section(name, title, "\n".join(filter(None, parts)))


def _by_method(inputs, lead) -> str:
    """A heat map of PCC, traits by methods: the headline first, then the best method first."""
    entries = {}  # of each method the first, which is scored like the headline
    for entry in tables.pivot_metrics(tables.trait_means(inputs.scores)):
        if "pcc" in entry and not (entry["key"].of or entry["key"].block):
            entries.setdefault(entry["key"].method, entry)
    entries = sorted(entries.values(), key=lambda e: (e["key"] != lead, -tables.size(e["pcc"])))
    by_key = [tables.trait_rows(inputs.scores, e["key"], "pcc") for e in entries]
    columns = [tables.method_name(e["key"].method) for e in entries]
    traits = [t for t in tables.in_order(by_key[0]) if t != "mean"]
    traits.sort(key=lambda t: -tables.size(by_key[0][t]))
    rows = [[trait, *(of.get(trait) for of in by_key)] for trait in [*traits, "mean"]]
    words = "PCC of each trait (the deeper the colour, the higher), the best predicted first; columns from the best method on."
    kinds = page.Cells(heat=tuple(range(1, len(columns) + 1)))
    return page.table("pcc_by_trait_and_method", ["trait", *columns], rows, words, lead=("mean",), cells=kinds)


def _metrics(inputs, lead) -> list[str]:
    """Methods by metrics, the mean over the traits; and traits by metrics, of the headline."""
    shown = inputs.trait_metrics
    columns, body = [*(METRIC_NAMES[m] for m in shown), "people"], tables.metric_rows(tables.trait_means(inputs.scores), shown)
    words = "Mean over the traits, with 95 % intervals by resampling people; the highest PCC first."
    parts = [page.paragraph("; ".join(TERMS[m] for m in shown if m in TERMS) + ".", note=True)]
    parts.append(page.table("methods", ["method", *columns], body, words, main=1, lead=(tables.describe(lead),)))
    by_metric = {m: tables.trait_rows(inputs.scores, lead, m) for m in shown}
    body = []
    for trait, row in by_metric["pcc"].items():
        body.append([trait, *(of.get(trait) for of in by_metric.values()), int(row.n), row.verdict or "–"])
    words = tables.sentence(", ".join(tables.describe(lead))) + "; the best predicted trait first; the verdict is on the PCC."
    parts.append(page.table("traits", ["trait", *columns, "verdict"], body, words, main=1, lead=("mean",)))
    return parts


def _differences(inputs) -> str:
    """Paired differences between the person filters, alone or fused, and what they are compared with."""
    body = tables.metric_rows(tables.differences(inputs.scores), ("pcc", "ccc"))
    words = (
        "Mean over the traits of one method minus that of the other, both on the same resampled people: where the interval "
        "excludes 0, the difference is more than chance among people."
    )
    return page.table("differences", ["difference", "PCC", "CCC", "people"], body, words, main=1)


def _scatters(inputs, lead) -> str:
    """Predicted against label, a plot a trait."""
    table = inputs.predictions
    if table is None or not len(table):
        return ""
    if "seed" in table:  # of several repeats of the folds the first
        table = table[table["seed"] == table["seed"].iloc[0]]
    items, rows = [], tables.trait_rows(inputs.scores, lead, "pcc")
    traits = sorted(tables.in_order(table["trait"]), key=lambda t: -tables.size(rows.get(t)))
    for trait in traits[:PLOTS]:
        own = table[table["trait"] == trait]
        row = rows.get(trait)
        note = f"PCC {figure(row, 2)}" if row is not None else ""
        words = f"{trait}: predicted against labelled, {len(own)} people, {note}"
        x, y, people = (own[column].to_numpy() for column in ("label", "prediction", "person_id"))
        items.append(page.panel(trait, note, plots.scatter(x, y, people, ("label", "predicted"), words, agreement=True)))
    caption = f"One point per person, predicted by a head that never saw him or her; {', '.join(tables.describe(lead))}. "
    caption += "Point at a mark for its name; on the line, prediction and label are equal."
    caption += f" Of {len(traits)} traits the {PLOTS} that are predicted best are drawn." * (len(traits) > PLOTS)
    return page.figure(page.grid(items, 240), caption)


def findings(inputs: Inputs) -> list[str]:
    """A sentence a finding, and what they rest on; [] where there is nothing to compare."""
    rows = inputs["traits"]
    rows = rows.loc[(rows["trait"] == "mean") & (rows["metric"] == "pcc")]
    found = []
    for method in FINDINGS:
        own = score_rows(rows.loc[rows["method"] == method])
        if own:
            lead = own[0]
            words = SENTENCES[method][0 if lead.low > 0 else 1 if lead.high < 0 else 2]
            others = "".join(f"; {_fusion(row)} {figure(row, 2)}" for row in own[1:])
            found.append(f"{words}: {_fusion(lead)} {figure(lead, 2)}{others}.")
    heading = page.heading("Do tasks and scales matter?")
    return [heading, page.listing(found), page.paragraph(NOTE, note=True)] if found else []


def _fusion(row: ScoreRow) -> str:
    fusion = row.key.fusion
    return f"{fusion} fused" if fusion and fusion != "stacking" else fusion or tables.method_name(row.key.method)


def _read_from(inputs) -> str:
    """A heat map of what the head takes from each block, site, scale and task."""
    table, lead = inputs.weights, tables.headline(inputs.scores)
    if table is None:
        return ""
    named = [block_and_site(site) for site in table["site"]]
    table = table.assign(block=[block for block, _ in named], place=[place for _, place in named])
    shares = {}
    for column, prefix in (("block", ""), ("place", "site "), ("scale", "scale "), ("task", "task ")):
        if table[column].nunique() > 1:
            of_column = table.pivot_table(SHARE, "trait", column, "sum", sort=False)
            shares |= {f"{prefix}{value}".replace("_", " "): of_column[value] for value in dict.fromkeys(table[column])}
    pcc = tables.trait_rows(inputs.scores, lead, "pcc") if lead is not None else {}
    traits = sorted(dict.fromkeys(table["trait"]), key=lambda t: -tables.size(pcc.get(t)))
    rows = [[trait, *(float(of_column[trait]) for of_column in shares.values())] for trait in traits]
    if not shares:
        return ""
    words = (
        "What each block, site of the U-net (from the finest to the bottleneck), scale and task contributes to the variance "
        "of the predictions, the best predicted trait first. A share below 0 offsets others. It says what the head uses, not "
        "how good the head is: where the interval of the PCC contains 0, it describes noise."
    )
    kinds = page.Cells(heat=tuple(range(1, len(shares) + 1)), percent=True)
    return page.table("shares_of_prediction", ["trait", *shares], rows, words, cells=kinds)

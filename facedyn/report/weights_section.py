"""Section on where the ridge reads each trait: its weights pushed back to sites, scales and tasks."""

from facedyn.report import page
from facedyn.report.inputs import Inputs
from facedyn.report.rows import headline, row_of
from facedyn.store.scores import with_interval

SHARE = "share_of_prediction"


def weights(inputs: Inputs) -> page.Section:
    """A table of sites and scales a trait, one of tasks, and the shares of all weights to compare with."""
    title, name, table = "Where traits are read from", "weights", inputs.weights
    if table is None or not len(table):
        words = "There is no traits/weights_by_site.csv, which the stage traits writes with its ridge: run it again."
        return page.section(name, title, page.paragraph(words))
    words = (
        "Each filter weight has a weight in the saved ridge. A site's share is what it contributes to the variance of the "
        "predictions, here of the people the ridge was fitted to; a share below 0 takes back what others add. It says what "
        "the head uses, not how good the head is: where the interval of the PCC contains 0, it describes noise."
    )
    first = table[table["trait"] == table["trait"].iloc[0]]
    items = [
        _by_scale(first.assign(part=first["weights"] / first["weights"].sum()), "part", "Share of all weights, to compare")
    ]
    items += [_by_scale(own, SHARE, f"{trait}{_figure(inputs, trait)}") for trait, own in table.groupby("trait", sort=False)]
    parts = [page.paragraph(words), page.grid(items, 290)]
    tasks = list(dict.fromkeys(table["task"]))
    if len(tasks) > 1:
        by_task = table.pivot_table(SHARE, "trait", "task", "sum", sort=False)
        rows = [(str(trait), [float(by_task.loc[trait, task]) for task in tasks]) for trait in by_task.index]
        parts.append(page.heading("By task"))
        parts.append(
            page.heat_table(["trait", *tasks], rows, "Share of the variance of the predictions, all sites and scales.")
        )
    note = "Sites run from the finest skip of the U-net to its bottleneck; more of each in traits/weights_by_site.csv."
    if table["site"].str.endswith("_innovations").any():
        note += " Innov.: the moments of what the filters of the site do not foresee, which have the same say as the filters."
    if table["site"].str.endswith("_step_correlations").any():
        note += " Joint: correlations of what moves at the same moment, which again have the same say."
    return page.section(name, title, *parts, page.paragraph(note, note=True))


def _by_scale(table, column, caption) -> str:
    sites, scales = list(dict.fromkeys(table["site"])), sorted(set(table["scale"]))
    shares = table.pivot_table(column, "site", "scale", "sum").reindex(index=sites, columns=scales)
    named = {
        site: site.replace("_innovations", " innov.").replace("_step_correlations", " joint") for site in sites
    }  # short enough for a phone
    rows = [(named[site], [*map(float, shares.loc[site]), float(shares.loc[site].sum())]) for site in sites]
    rows.append(("all", [*map(float, shares.sum()), float(shares.to_numpy().sum())]))
    return page.heat_table(["site", *(f"scale {s}" for s in scales), "all"], rows, caption, totals=True)


def _figure(inputs, trait) -> str:
    lead, scores = headline(inputs), inputs["traits"]
    row = row_of(scores[scores["trait"] == trait], *lead, "pcc") if lead else None
    return f": PCC {with_interval(row.value, row.low, row.high, 2)}" if row is not None else ""

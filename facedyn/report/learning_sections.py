"""Sections on self-supervision: learning curves of the generic model, what person filters add, identification."""

import numpy as np

from facedyn.report import page, plots
from facedyn.report.inputs import Inputs
from facedyn.report.rows import METRIC_NAMES, cell, score_grid
from facedyn.store.representations import CONTROLS
from facedyn.store.scores import IDENTIFICATION, METHOD_NAMES, describe, parse_setting, pivot_metrics, with_interval

# Points of a curve drawn up to so many.
CURVE_POINTS = 400


def pretraining(inputs: Inputs) -> page.Section:
    """Learning curves, a plot a scale: ranking accuracy of held-out people with the controls, and the loss."""
    title, name = "Self-supervision: the generic model", "pretraining"
    log = [row for row in inputs.log if row.get("stage") == "pretrain" and "ranking_accuracy" in row]
    scored = inputs["pretrain"][inputs["pretrain"]["metric"] == "ranking_accuracy"]
    if not log and not len(scored):
        return page.section(name, title, page.paragraph("The generic model's training left no record."))
    accuracies, losses = [], []
    for scale in sorted({row["scale"] for row in log}):
        points = [row for row in log if row["scale"] == scale]
        points = points[:: -max(1, len(points) // CURVE_POINTS)][::-1]  # from the end, so that the last is there
        of_scale = np.array([_scales(setting) == (scale,) for setting in scored["setting"]], bool)
        controls = scored[of_scale & (scored["method"] != "generic")]
        named = {METHOD_NAMES.get(m, m): v for m, v in zip(controls["method"], controls["value"])}
        keys = ("step", "ranking_accuracy", "loss")
        steps, accuracy, loss = (np.array([row.get(k, np.nan) for row in points], float) for k in keys)
        label = f"Scale {scale}"
        accuracies.append(plots.curves(f"curve{scale}", label, steps, accuracy, "ranking accuracy", "generic model", named))
        if np.isfinite(loss).all():  # a diverged run has none that could be drawn
            losses.append(plots.curves(f"loss{scale}", label, steps, loss, "loss in training", "loss", {}))
    parts = []
    if log:
        caption = (
            "Share of pairs of frames in the right order, on the validation people, by whom the best step is chosen; dashed "
            "the controls, on the people of the table below. The model learnt from neither."
        )
        parts = [page.figure(page.grid(accuracies, 380), caption)]
        if losses:
            drawn = page.figure(page.grid(losses, 380), "Mean since the step before.")
            parts.append(page.details("Loss over the steps", drawn))
    else:
        parts = [page.paragraph("There is no metrics.jsonl to draw learning curves from.")]
    caption = (
        "Ranking accuracy on people held out, the test split where there is one, with its 95 % interval by resampling people."
    )
    return page.section(name, title, *parts, score_grid(scored, "ranking_accuracy", caption))


def personalisation(inputs: Inputs) -> page.Section:
    """Without person filters against with them, on frames held back."""
    title, name, table, scored = "Person-specific filters", "filters", inputs.representations, inputs["fit"]
    if not len(table) and not len(scored):
        return page.section(name, title, page.paragraph("No person filters were fitted."))
    items = []
    for scale in sorted(set(table["scale"])):
        own = table[(table["scale"] == scale) & table["finite"].astype(bool)]
        before, after = (own[f"ranking_accuracy_{name}"].to_numpy(float) for name in ("generic", "fitted"))
        known = np.isfinite(before) & np.isfinite(after)
        if known.any():
            items.append(plots.before_after(f"fitted{scale}", f"Scale {scale}", before[known], after[known]))
    words = (
        "Ranking accuracy on frames that were held back from the fit, a point a fit unit; above the line the filters helped. "
        f"Without person filters means {inputs.without_filters} alone."
    )
    parts = [page.figure(page.grid(items, 270), words)] if items else [page.paragraph("No frames were held back from the fit.")]
    caption = "Ranking accuracy on frames held back, mean over people, with its 95 % interval by resampling people."
    return page.section(name, title, *parts, score_grid(scored, "ranking_accuracy", caption))


RELIABILITY = (
    " Each weight counts by how alike it was in both halves of the people that the generic model learnt from; with weights "
    "alike, all count the same."
)


def identification(inputs: Inputs) -> page.Section:
    """How well people are told apart by their filters: the table, and everyone's halves against everyone's."""
    title, name = "Identification", "identification"
    scored = inputs["fit"][inputs["fit"]["metric"].isin(IDENTIFICATION)]
    entries = sorted(pivot_metrics(scored), key=_place)
    halves, parts = inputs.views.halves, []
    if entries:
        body = [[describe(e["method"], e["setting"]), *(cell(e.get(m)) for m in IDENTIFICATION), str(e["n"])] for e in entries]
        words = (
            "Two sets of filters of each person, fitted to halves of the frames, or to one session (task, clip) and the mean "
            "of the others: is, among all people, the same person's other set the nearest? Beside it the mean cosine distance "
            "within and between people, and the intraclass correlation of leading components. 95 % intervals by resampling."
            + RELIABILITY
            * any("weighting=uniform" in e["setting"] for e in entries)
        )
        columns = ["filters of", *(METRIC_NAMES[m] for m in IDENTIFICATION), "people"]
        kinds = [_place(e)[:-1] for e in entries]
        breaks = [i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]]
        parts.append(page.table(columns, body, words, numbers=range(1, len(columns)), lead=(0,), breaks=breaks))
        parts += [page.paragraph(words) for words in _against_controls(entries)]
    if halves is not None:
        svg = plots.matrix("halves", halves, "filters of the second half", "filters of the first half")
        everyone = inputs.representations["person_id"].nunique()
        shown = f"{len(halves)}" + f" of {everyone}" * (len(halves) < everyone)
        caption = (
            f"Cosine similarity of the halves of {shown} people, all scales together: blue low, orange high; the same "
            "person is on the diagonal. People in the order of the leading principal component."
        )
        parts.append(page.figure(svg, caption))
    if not parts:
        words = "No one was identified: the fit of halves is left out (config.fit.split_half) and no person has two sessions."
        parts = [page.paragraph(words)]
    return page.section(name, title, *parts)


def _against_controls(entries) -> list[str]:
    """A sentence for each control of the split halves, all scales: does it identify less?"""
    lead, found = entries[0], []
    for entry in entries:
        if entry["method"] not in CONTROLS or entry["setting"] != lead["setting"] or not {"top1"} <= entry.keys() & lead.keys():
            continue
        own, control = lead["top1"], entry["top1"]
        verdict = "lower" if control.high < own.low else "higher" if control.low > own.high else ""
        name = describe(entry["method"], "")[0].capitalize()
        words = f"{name}, the control, identify {with_interval(*_interval(control), 2)}"
        words += f" against {with_interval(*_interval(own), 2)}: "
        words += f"clearly {verdict}." if verdict else "the intervals overlap."
        if entry["method"] == "time_shuffled" and verdict != "lower":
            words += " They hold a person's looks and no movement, so these figures alone do not show that movement identifies."
        found.append(words)
    return found


def _interval(row):
    return row.value, row.low, row.high


def _place(entry):
    """Split halves before what is found across sessions, controls behind what they are compared with; all scales first."""
    parts = parse_setting(entry["setting"])
    methods = ("split_half", "cross_session")
    order = methods.index(entry["method"]) if entry["method"] in methods else len(methods)
    return order, entry["method"], parts.get("control", ""), -len(parts["scales"])


def _scales(setting):
    return parse_setting(setting)["scales"]

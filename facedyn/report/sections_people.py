"""The sections 'How much video is enough?', predicted from halves, and 'Who is alike?', with similarities and a map."""

import numpy as np
import pandas as pd

from facedyn.core.identification import length_for, spearman_brown
from facedyn.report import page, plots, tables
from facedyn.report.inputs import Inputs
from facedyn.stages.fit.swapped import NAME as SWAPPED
from facedyn.store.scores import IDENTIFICATION, ScoreRow, score_rows

# Reliabilities that are asked for: of a rough, a usual and a good measurement.
WANTED = (0.7, 0.8, 0.9)
# The curve goes so many times beyond what was measured, at most and at least.
FARTHEST, NEAREST = 20.0, 4.0
# Traits drawn, a map each; ids written beside the points of at most so many people; pairs of people named.
MAPS, NAMED_PEOPLE, PAIRS = 8, 150, 10


def enough(inputs: Inputs) -> page.Section:
    """How many people are found again against seconds of video, as measured; and reliability, as predicted from halves."""
    parts = [*_measured(inputs), *_predicted(inputs)]
    missing = "Name lengths to be measured, config.fit.video_seconds=1,5, or config.fit.split_half=True, and run the stage fit."
    return page.Section("enough", "How much video is enough?", "\n".join(parts), "" if parts else missing)


def _measured(inputs: Inputs) -> list[str]:
    """Top-1 by the first seconds of video and by all, with somebody else's movement beside it: a curve and a table."""
    lead, first = tables.identification_row(inputs.scores), inputs.first_seconds
    if lead is None or not len(first):
        return []
    of_all = inputs.scores[(inputs.scores["stage"] == "fit") & (inputs.scores["seconds"] == "")]
    rows = pd.concat([first, of_all])
    rows = rows.loc[(rows["metric"] == "top1") & (rows["scales"] == lead.key.scales) & (rows["block"] == "")]
    own = rows.loc[(rows["method"] == lead.key.method) & (rows["control"] == "")]
    swapped = rows.loc[(rows["method"] == SWAPPED) | ((rows["method"] == lead.key.method) & (rows["control"] == SWAPPED))]
    seconds = sorted(set(first["seconds"]), key=float)
    shown = [row for s in (*seconds, "") for row in score_rows(own.loc[own["seconds"] == s])[:1]]
    others = {row.key.seconds: row for row in score_rows(swapped)}
    if len(shown) < len(seconds) + 1:
        return []
    length = _seconds_of_all(inputs, lead.key.method)
    places = [*map(float, seconds), max(length, float(seconds[-1]))]
    names = [*seconds, f"all, {length:,.0f}"]
    values, low, high = (np.array([getattr(row, part) for row in shown], float) for part in ("value", "low", "high"))
    band = (low, high) if np.isfinite(low + high).all() else None
    marks = [(x, y, f"{name} seconds: {y:.2f}") for x, y, name in zip(places, values, names)]
    words = f"People found again against seconds of video: {', '.join(f'{y:.2f} at {n}' for n, y in zip(names, values))}"
    labels, levels = ("seconds of video", "share found again"), {"chance": lead.chance}
    drawn = plots.curve(places, values, labels, "measured", levels, words, size=(640, 280), band=band, marks=marks)
    body = [[name, row, others.get(row.key.seconds)] for name, row in zip(names, shown)]
    way, chance = tables.method_name(lead.key.method), tables.number(lead.chance)
    caption = f"Top-1 of {lead.n} people by the first seconds alone, {way}; chance {chance}."
    note = (
        "No movement tells people apart after a second: a share that is high there already is looks. One that still rises at "
        "the end says that more video would help."
    )
    columns = ["seconds of video", "as filmed", "with somebody else's movement"]
    return [page.figure(drawn, caption), page.paragraph(note), page.table("first_seconds", columns, body, caption)]


def _seconds_of_all(inputs: Inputs, method: str) -> float:
    """Seconds of usable video in what is compared: of each unit, or half of one; the mean."""
    if inputs.quality is None or not len(inputs.representations):
        return 0.0
    used = inputs.quality.loc[inputs.quality["verdict"] == "ok"]
    used = used.loc[used["person_id"].isin(inputs.representations["person_id"])]
    units = inputs.representations["unit_id"].nunique() * (2 if method == "split_half" else 1)
    return float((used["n_kept"] / used["fps"]).sum() / units)


def _predicted(inputs: Inputs) -> list[str]:
    """Reliability against seconds of video per person, predicted from that of halves."""
    rows = inputs["fit"]
    rows = rows.loc[
        (rows["method"] == "split_half") & (rows["metric"] == "icc") & (rows["control"] == "") & (rows["block"] == "")
    ]
    row = max(score_rows(rows), key=lambda row: len(row.key.scales), default=None)
    seconds = inputs.views.alike.half_seconds if inputs.views.alike is not None else np.nan
    if row is None or not np.isfinite(seconds):
        return []
    figure = tables.figure(row, 2)
    words = (
        f"Two halves of a person's video, {seconds:,.0f} seconds each, agree with ICC {figure} of {row.n} people. "
        "ICC, the intraclass correlation of the ten leading components of the features, is the share of what differs between "
        "measurements that is between people: 1 is a perfect measurement, 0 is noise."
    )
    if not row.value > 0:
        return [page.paragraph(f"{words} From this, no length of video can be predicted.")]
    values = row.value, row.high, row.low
    body = [[f"reliability {wanted}", *(_length(x, wanted, seconds) for x in values)] for wanted in WANTED]
    note = (
        "This is a prediction by the Spearman-Brown formula, and no measurement: it holds for more video of the same kind. "
        "Halves of the same clips share light, camera and mood, so other days will agree less."
    )
    columns = ["for", "seconds per person", "at best", "at worst"]
    caption = "Seconds of usable video per person for a reliability, with the ends of the ICC's 95 % interval."
    table = page.table("seconds_for_reliability", columns, body, caption)
    return [page.paragraph(words), _reliability(row, seconds), page.paragraph(note), table]


def _length(reliability, wanted, seconds) -> int | str:
    found = length_for(reliability, wanted) * seconds
    return "not known" if np.isnan(reliability) else "cannot be reached" if np.isinf(found) else round(found)


def _reliability(row: ScoreRow, seconds) -> str:
    longest = np.clip(length_for(row.value, WANTED[-1]) * 1.3, NEAREST, FARTHEST)
    lengths = np.linspace(0.1, longest, 120)
    values, low, high = (spearman_brown(x, lengths) for x in (row.value, row.low, row.high))
    band = (low, high) if np.isfinite(row.low + row.high) else None
    marks = [(seconds, row.value, f"measured: halves of {seconds:.0f} seconds")]
    marks.append((2 * seconds, float(spearman_brown(row.value, 2)), f"predicted for all {2 * seconds:.0f} seconds"))
    words = f"Predicted reliability against seconds of video: {row.value:.2f} measured at {seconds:.0f} seconds"
    labels, levels = ("seconds of usable video per person", "reliability"), {"reliability": 0.9}
    drawn = plots.curve(lengths * seconds, values, labels, "predicted", levels, words, size=(640, 280), band=band, marks=marks)
    caption = "Predicted reliability with its 95 % interval. The left point is measured on halves, the right one predicted."
    return page.figure(drawn, caption)


def alike(inputs: Inputs, names: bool) -> page.Section:
    """Similarities, the most similar people, a map, and folded how well people are recognised."""
    recognised = page.details("How well people are recognised, in full", *_identification(inputs))
    parts = [*_matrix(inputs), *_map(inputs, names), recognised]
    missing = "At least three people with features are needed."
    return page.Section("people", "Who is alike?", "\n".join(filter(None, parts)), missing)


def _matrix(inputs) -> list[str]:
    found = inputs.views.alike
    if found is None:
        return []
    people, values, n = found.people, found.values, len(found.people)
    halves = bool(np.isfinite(np.diagonal(values)).any())
    labels = ("second half", "first half") if halves else ("the same people", "people")
    everyone = inputs.representations["person_id"].nunique()
    shown = f"{n}" + f" of {everyone}" * (n < everyone)
    caption = f"Cosine similarity of the features of {shown} people, all scales together: blue low, orange high. "
    own = "The outlined diagonal is the same person, the first half of the video with the second. "
    caption += own if halves else "The diagonal, each person with himself or herself, is left out. "
    caption += "Similar people stand together. Point at a row for the name and the most similar other person."
    both = (values + values.T) / 2
    i, j = np.triu_indices(n, 1)
    most = np.argsort(-both[i, j], kind="stable")[:PAIRS]
    rows = [[people[i[k]], people[j[k]], float(both[i[k], j[k]])] for k in most]
    words = "The pairs of different people that are most alike, by the mean cosine of both directions."
    table = page.table("most_similar_people", ["person", "and", "similarity"], rows, words, main=2)
    return [page.figure(plots.matrix(values, people, labels), caption), table]


def _map(inputs, names) -> list[str]:
    """One map per trait, or one without colour; `names` writes ids beside the points, on a map of their own."""
    found = inputs.views.people_map
    if found is None:
        return []
    (x, y), shares, people = found.coordinates.T, found.shares, found.people
    axes = tuple(f"component {i} ({100 * share:.0f} %)" for i, share in enumerate(shares, 1))
    labels = _labels(inputs.predictions, people)
    plane = "Principal components of the z-scored representations, all scales and tasks side by side; one point per person. "
    everyone = inputs.representations["person_id"].nunique()
    plane += f"Drawn are {len(people)} of {everyone} people. " * (len(people) < everyone)
    plane += f"The two components hold {100 * shares.sum():.0f} % of the variance."
    plane += " Neighbours may differ in others." * bool(shares.sum() < 0.995)
    words = f"{len(people)} people by their representations"
    items = [
        page.panel(trait, "", plots.scatter(x, y, people, axes, f"{trait}: {words}", colours=values))
        for trait, values in list(labels.items())[:MAPS]
    ]
    parts = [page.heading("A map of people")]
    if labels:
        legend = '<p class="note">labelled low<span class="key labels"></span>high; grey: without a label</p>'
        more = f" {len(labels) - MAPS} more traits are not drawn." if len(labels) > MAPS else ""
        parts += [legend, page.figure(page.grid(items, 240), plane + more)]
    else:
        drawn = plots.scatter(x, y, people, axes, words, side=380)
        parts.append(page.figure(drawn, plane + " There are no labels to colour it by."))
    if names and len(people) <= NAMED_PEOPLE:
        drawn = plots.scatter(x, y, people, axes, f"With their ids: {words}", side=640, written=True)
        parts.append(page.figure(drawn, "The same map, with each person's id.", wide=True))
    elif names:
        parts.append(page.paragraph(f"Ids are not written beside more than {NAMED_PEOPLE} people.", note=True))
    return parts


def _labels(predictions, ids) -> dict[str, np.ndarray]:
    """{trait: label of each person, NaN where not known}, from the table of predictions."""
    if predictions is None or not len(predictions):
        return {}
    labels = predictions.drop_duplicates(["trait", "person_id"]).pivot(index="person_id", columns="trait", values="label")
    labels = labels.reindex(ids)
    found = {trait: labels[trait].to_numpy(float) for trait in tables.in_order(predictions["trait"])}
    return {trait: values for trait, values in found.items() if np.isfinite(values).any()}


def _identification(inputs) -> list[str]:
    scored = inputs["fit"][inputs["fit"]["metric"].isin(IDENTIFICATION)]
    body = []
    for *cells, people in tables.metric_rows(scored[scored["block"] == ""], IDENTIFICATION):
        top1 = cells[1 + IDENTIFICATION.index("top1")]
        chance, verdict = (float(top1.chance), top1.verdict) if top1 is not None else (None, "")
        body.append([*cells, chance, people, verdict or "–"])
    words = (
        "Two sets of filters of each person, of halves of the frames, or of one session (task, clip) and the mean of the "
        "others: is the same person's other set the nearest of all (top-1)? Beside it the mean reciprocal rank, the mean "
        "cosine distance within and between people, and the ICC (intraclass "
        "correlation: the share of what differs between measurements that is between people) of leading components."
    )
    columns = ["filters of", *(tables.METRIC_NAMES[m] for m in IDENTIFICATION), "chance of top-1", "people", "verdict"]
    row, top1 = tables.identification_row(inputs.scores), scored[scored["metric"] == "top1"]
    table = page.table("identification", columns, body, words, main=1)
    judged = top1.iloc[:0] if row is None else tables.rows_of_key(top1, row.key)
    return [table, *page.verdicts(tables.judged(inputs.scores, judged))]

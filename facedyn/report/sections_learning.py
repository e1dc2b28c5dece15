"""Sections on self-supervision: learning curves, what person filters add, identification, dynamic representations, a map."""

import numpy as np

from facedyn.report import page, plots, tables
from facedyn.report.inputs import Inputs
from facedyn.store.representations import CONTROLS
from facedyn.store.scores import IDENTIFICATION

# Points of a curve drawn up to so many.
CURVE_POINTS = 400
# Pictures beyond this many characters of HTML are left out: the page must stay small enough to be sent.
MAX_CHARACTERS = 2_500_000
# Traits drawn, a map each; ids written beside the points of at most so many people.
MAPS, NAMED_PEOPLE = 8, 150


def pretraining(inputs: Inputs) -> page.Section:
    """Learning curves, a plot a scale: ranking accuracy of held-out people with the controls, and the loss."""
    title, name = "Self-supervision: the generic model", "pretraining"
    log = [row for row in inputs.log if row.get("stage") == "pretrain" and "ranking_accuracy" in row]
    every = inputs["pretrain"][inputs["pretrain"]["metric"] == "ranking_accuracy"]
    scored = tables.quoted(every)
    if not log and not len(scored):
        return page.section(name, title, page.paragraph("The generic model's training left no record."))
    accuracies, losses = [], []
    for scale in sorted({row["scale"] for row in log}):
        points = [row for row in log if row["scale"] == scale]
        points = points[:: -max(1, len(points) // CURVE_POINTS)][::-1]  # from the end, so that the last is there
        # The curve's own people: controls of others would lie higher or lower for reasons of theirs.
        controls = every[(every["scales"] == str(scale)) & (every["split"] == "validation") & (every["method"] != "generic")]
        named = {tables.method_name(m): v for m, v in zip(controls["method"], controls["value"])}
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
            "the controls, on the same people."
        )
        if len(scored) < len(every):
            caption += " The table below is of others, whom neither the model nor the choice of its step has seen."
        parts = [page.figure(page.grid(accuracies, 380), caption)]
        if losses:
            drawn = page.figure(page.grid(losses, 380), "Mean since the step before.")
            parts.append(page.details("Loss over the steps", drawn))
    else:
        parts = [page.paragraph("There is no metrics.jsonl to draw learning curves from.")]
    caption = (
        "Ranking accuracy on people held out, the test split where there is one, with its 95 % interval by resampling people."
    )
    return page.section(name, title, *parts, _grid(scored, "ranking_accuracy", caption), *_verdicts(inputs, scored))


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
        "Ranking accuracy on frames held back from the fit, one point per fit unit; above the line the filters helped. "
        f"Without person filters means {inputs.without_filters} alone."
    )
    parts = [page.figure(page.grid(items, 270), words)] if items else [page.paragraph("No frames were held back from the fit.")]
    caption = "Ranking accuracy on frames held back, mean over people, with its 95 % interval by resampling people."
    scored = scored[scored["metric"] == "ranking_accuracy"]
    return page.section(name, title, *parts, _grid(scored, "ranking_accuracy", caption), *_verdicts(inputs, scored))


def identification(inputs: Inputs) -> page.Section:
    """How well people are told apart by their filters: the table, and everyone's halves against everyone's."""
    title, name = "Identification", "identification"
    scored = inputs["fit"][inputs["fit"]["metric"].isin(IDENTIFICATION)]
    entries = sorted(tables.pivot_metrics(scored[scored["block"] == ""]), key=_place)
    halves, parts = inputs.views.halves, []
    if entries:
        body = [
            [tables.describe(e["key"]), *(page.figure_cell(e.get(m)) for m in IDENTIFICATION), *_chance_and_people(e)]
            for e in entries
        ]
        words = (
            "Two sets of filters of each person, fitted to halves of the frames, or to one session (task, clip) and the mean "
            "of the others: is, among all people, the same person's other set the nearest? Beside it the mean cosine distance "
            "within and between people, and the intraclass correlation of leading components. 95 % intervals by resampling."
        )
        columns = ["filters of", *(tables.METRIC_NAMES[m] for m in IDENTIFICATION), "chance of top-1", "people", "verdict"]
        kinds = [_place(e)[:-1] for e in entries]
        breaks = [i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]]
        parts.append(page.table(columns, body, words, numbers=range(1, len(columns)), lead=(0,), breaks=breaks))
        parts += _verdicts(inputs, tables.rows_of_key(scored[scored["metric"] == "top1"], entries[0]["key"]))
        parts += _movement_or_looks(scored)
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


# What a control that identifies people shows, or does not.
SHOWN = {
    "swapped_dynamics": (
        "each person with his or her own covariance of states and somebody else's course in time; what identifies people there "
        "is looks."
    ),
    "time_shuffled": (
        "frames in random order have no movement, but what looks leave in the filters cancels there, too: a low figure proves "
        "nothing."
    ),
    "untrained": "the U-net before it has learnt anything; what is above it is what the self-supervision added.",
}


def _movement_or_looks(scored) -> list[str]:
    """Top-1 of all blocks and of each alone, the controls beside it, by the most informative way there is."""
    top1 = scored[scored["metric"] == "top1"]
    kind = next((kind for kind in tables.IDENTIFIED if (top1["method"] == kind).any()), "")
    most = max(top1["scales"], key=lambda scales: len(scales.split("+")), default="")
    top1 = top1[top1["scales"] == most]
    # The halves' controls bear their own name as a method, the others' that of the way.
    columns = {"": top1[(top1["method"] == kind) & (top1["control"] == "")]}
    for control in CONTROLS:
        of_halves = (top1["method"] == control) & (kind == "split_half")
        own = top1[of_halves | ((top1["method"] == kind) & (top1["control"] == control))]
        columns |= {control: own} if len(own) else {}
    if not len(columns[""]):
        return []
    body = []
    for block in dict.fromkeys(columns[""]["block"]):
        cells = [next(own[own["block"] == block].itertuples(index=False), None) for own in columns.values()]
        body.append([block.replace("_", " ") or "all blocks", *map(page.figure_cell, cells)])
    row = next(columns[""].itertuples(index=False))
    caption = f"Top-1 of {row.n} people, {tables.method_name(kind)}, all scales; chance {tables.number(row.chance)}."
    head = ["block", "as filmed", *(tables.method_name(control) for control in list(columns)[1:])]
    words = [page.paragraph(f"{tables.method_name(c).capitalize()}: {SHOWN[c]}", note=True) for c in list(columns)[1:]]
    return [page.heading("Is it movement or looks?"), page.table(head, body, caption, numbers=range(1, len(head))), *words]


def _place(entry):
    """What is found across sessions before split halves, controls behind what they are compared with; all scales first."""
    key, methods = entry["key"], tables.IDENTIFIED
    order = methods.index(key.method) if key.method in methods else len(methods)
    return order, key.method, key.control, -len(key.scale_numbers)


def _chance_and_people(entry) -> list[str]:
    """The last cells of a row: what guessing would find, how many people there are, and the verdict on top-1."""
    top1 = entry.get("top1")
    chance, verdict = (tables.number(top1.chance), top1.verdict) if top1 is not None else ("–", "")
    return [chance, str(entry["n"]), verdict or "–"]


def _grid(rows, metric, caption: str) -> str:
    """A table of one stage's rows, methods down and settings across; '' for none."""
    rows = rows[rows["metric"] == metric]
    if not len(rows):
        return ""
    stage, keys = rows["stage"].iloc[0], list(map(tables.key_of, rows.itertuples(index=False)))
    settings, body = list(dict.fromkeys(key._replace(method="") for key in keys)), []
    for method in dict.fromkeys(key.method for key in keys):
        found = [tables.row_of(rows, setting._replace(method=method), metric) for setting in settings]
        people = {row.n for row in found if row is not None}
        body.append([tables.method_name(method, stage), *map(page.figure_cell, found), " / ".join(map(str, sorted(people)))])
    columns = [tables.METRIC_NAMES[metric], *(tables.sentence(tables.details(setting)) for setting in settings), "people"]
    return page.table(columns, body, caption, numbers=range(1, len(columns)))


def _verdicts(inputs: Inputs, rows) -> list[str]:
    """A sentence for each of the rows that are judged."""
    return page.verdicts(tables.judged(inputs.scores, rows))


def dynamics(inputs: Inputs, faces: bool) -> page.Section:
    """Small multiples, one figure per person and scale; the first person's are open."""
    title, name, examples = "Dynamic representations", "dynamics", inputs.examples
    if not faces:
        words = "Left out: config.report.faces is False, so no picture of a person is here."
        return page.section(name, title, page.paragraph(words))
    if examples is None or not len(examples["frame"]):
        return page.section(name, title, page.paragraph("There are no examples: the stage fit has not written any."))
    words = (
        "From the centre frame alone the model predicts what changes around it, here over that frame in grey: one map for the "
        "frames before, one for those after. Red gets brighter as time goes on, blue darker. Below the maps with person "
        f"filters are those without, by {inputs.without_filters}, for the same frame, and the difference, in stronger colours."
    )
    legend = '<p class="note">darker<span class="key"></span>brighter, as time goes on</p>'
    people, parts, used, left = examples["person_id"].astype(str), [], 0, 0
    for person in sorted(set(people)):
        own = [i for i in np.argsort(examples["scale"], kind="stable") if people[i] == person]
        figures = "".join(_example(examples, i) for i in own)
        used += len(figures)
        if used > MAX_CHARACTERS and parts:
            left += 1
            continue
        parts.append(page.details(f"Person {person}", figures) if parts else figures)
    if left:
        parts.append(page.paragraph(f"{left} more people are in representations/examples.npz.", note=True))
    return page.section(name, title, page.paragraph(words), legend, *parts)


def _example(examples, i) -> str:
    """Frames, maps and centre frame in a row; below the maps without person filters; below those the difference."""
    window, frame = examples["windows"][i], examples["frame"][i]
    person, scale, half = str(examples["person_id"][i]), int(examples["scale"][i]), len(examples["windows"][i]) // 2
    fitted, without = examples["fitted"][i], examples["generic"][i]
    limit, limit_of_difference = _limit(fitted, without), _limit(fitted - without)
    names = ("before", "after") if len(fitted) == 2 else ("whole window",)
    columns = f"grid-template-columns: repeat({half}, 1fr) repeat({len(names) + 1}, 1.7fr) repeat({half}, 1fr)"

    def cell(content, span=1, kind=""):
        opening = f'<div class="{kind}"' if kind else "<div"
        return f'{opening} style="grid-column: span {span}">{content}</div>'

    def frames(chosen, when):
        return "".join(cell(page.image(plots.frame_png(f), f"frame {when} the centre")) for f in chosen)

    def maps(values, whose, limit, middle=""):
        overlays = [
            cell(page.image(plots.overlay_png(m, frame, limit), f"dynamic representation over the face, {when}: {whose}"))
            for m, when in zip(values, names)
        ]
        return overlays[0] + cell(middle) + "".join(overlays[1:])

    def row(label, *of_maps):
        return cell(page.text(label), half, "label side") + maps(*of_maps) + cell("", half)

    heads = [f"person filters, {names[0]}", "centre", *(f"person filters, {n}" for n in names[1:])]
    cells = cell(f"{half} frames before", half, "label head")
    cells += "".join(cell(page.text(h), 1, "label head") for h in heads)
    cells += cell(f"{half} frames after", half, "label head")
    centre = page.image(plots.frame_png(frame), "centre frame")
    cells += (
        frames(window[:half], "before") + maps(fitted, "person filters", limit, centre) + frames(window[half + 1 :], "after")
    )
    cells += row(tables.WITHOUT, without, tables.WITHOUT, limit)
    cells += row("difference", fitted - without, "difference", limit_of_difference)
    caption = f"Person {person}, scale {scale}: every {_ordinal(scale)}frame."
    if limit_of_difference > 0:
        caption += f" Colours of the difference {limit / limit_of_difference:.1f} times as strong as those above."
    return page.figure(f'<div class="example" style="{columns}">{cells}</div>', caption, wide=True)


def _limit(*maps) -> float:
    """What the deepest colour stands for: nearly the largest value of the maps, mean over their channels."""
    return float(np.quantile(np.abs(np.concatenate([m.mean(-1) for m in maps])), 0.995))


def _ordinal(scale):
    return "" if scale == 1 else {2: "2nd ", 3: "3rd "}.get(scale, f"{scale}th ")


def people(inputs: Inputs, names: bool) -> page.Section:
    """One map per trait, or one without colour; `names` writes ids beside the points, on a map of their own."""
    title, name, found = "Map of people", "people", inputs.views.people_map
    if found is None:
        return page.section(name, title, page.paragraph("Fewer than three people have person filters: there is no map."))
    coordinates, shares, parts = found.coordinates, found.shares, []
    labels = _labels(inputs.predictions, found.people)
    plane = "Principal components of the z-scored representations, all scales and tasks side by side; one point per person. "
    everyone = inputs.representations["person_id"].nunique()
    plane += f"Drawn are {len(coordinates)} of {everyone} people. " * (len(coordinates) < everyone)
    plane += f"The two components hold {100 * shares.sum():.0f} % of the variance."
    if labels:
        items = [
            plots.people_map(f"people{i}", trait, coordinates, shares, values)
            for i, (trait, values) in enumerate(list(labels.items())[:MAPS])
        ]
        legend = '<p class="note">labelled low<span class="key labels"></span>high; grey: without a label</p>'
        more = f" {len(labels) - MAPS} more traits are not drawn." if len(labels) > MAPS else ""
        parts += [legend, page.figure(page.grid(items, 285), plane + more)]
    else:
        svg = plots.people_map("people", f"{len(coordinates)} people", coordinates, shares)
        parts.append(page.figure(svg, plane + " There are no labels to colour it by."))
    if names and len(found.people) <= NAMED_PEOPLE:
        svg = plots.people_map("named", "With their ids", coordinates, shares, names=found.people)
        parts.append(page.figure(svg, "The same map, with each person's id.", wide=True))
    elif names:
        parts.append(page.paragraph(f"Ids are not written beside more than {NAMED_PEOPLE} people.", note=True))
    return page.section(name, title, *parts)


def _labels(predictions, ids) -> dict[str, np.ndarray]:
    """{trait: label of each person, NaN where not known}, from the table of predictions."""
    if predictions is None or not len(predictions):
        return {}
    labels = predictions.drop_duplicates(["trait", "person_id"]).pivot(index="person_id", columns="trait", values="label")
    labels = labels.reindex(ids)
    found = {trait: labels[trait].to_numpy(float) for trait in tables.in_order(predictions["trait"])}
    return {trait: values for trait, values in found.items() if np.isfinite(values).any()}

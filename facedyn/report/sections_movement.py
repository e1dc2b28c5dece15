"""The sections 'What moves?', with the maps that the model predicts and how well it does, and 'Is it movement or looks?'."""

import numpy as np

from facedyn.report import page, plots, tables
from facedyn.report.inputs import Inputs
from facedyn.store.representations import CONTROLS
from facedyn.store.scores import score_rows

# Points of a curve drawn up to so many.
CURVE_POINTS = 400
# Pictures beyond this many characters of HTML are left out: the page must stay small enough to be sent.
MAX_CHARACTERS = 2_500_000
# Colours of a difference are at most so many times as strong as those of the maps; below this share of them, nothing is seen.
MOST_AMPLIFIED, VISIBLE = 8.0, 0.05
THIRDS = ("upper third of the pictures (brows and eyes)", "middle third (nose and cheeks)", "lower third (mouth and chin)")
# Baselines that see no movement.
LOOKS = ("mean_face", "generic_feature")
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
    "reversed": (
        "clips played backwards, looked up among those played forwards: looks are the same backwards, so what falls with the "
        "direction of time is movement. A high figure says nothing against it: much of movement is the same both ways."
    ),
    "untrained": "the U-net before it has learnt anything; what is above it is what the self-supervision added.",
}


def moves(inputs: Inputs, faces: bool) -> page.Section:
    """Where the faces are predicted to change, in pictures, and how well: ranking accuracy beside that of a copied input."""
    name, title = "moves", "What moves?"
    log = [row for row in inputs.log if row.get("stage") == "pretrain" and "ranking_accuracy" in row]
    every = inputs["pretrain"].loc[inputs["pretrain"]["metric"] == "ranking_accuracy"]
    fitted = inputs["fit"].loc[inputs["fit"]["metric"] == "ranking_accuracy"]
    parts, scored = _pictures(inputs) if faces else [], tables.quoted(every)
    if not faces:
        parts = [page.paragraph("Without pictures of people, as config.report.faces is False.", note=True)]
    tabled = [
        _ranking(scored, "ranking_generic", "The generic model, on people held out (the test split where there is one)."),
        _ranking(fitted, "ranking_filters", f"Frames held back from the fit; without filters means {inputs.without_filters}."),
    ]
    if any(tabled):
        words = "Ranking accuracy is the share of pairs of frames that the prediction puts in the right order: 0.5 is guessing."
        words += " A model that only copies its input reaches the figure of the copied input."
        parts += [page.heading("How well is movement predicted?"), page.paragraph(words), *tabled]
        parts += page.verdicts(tables.judged(inputs.scores, scored))
    parts.append(page.details("Learning curves", _curves(log, every, len(scored) < len(every))))
    if not (log or any(tabled) or inputs.examples is not None):
        return page.Section(name, title, "", "The stage pretrain trains the model that says so; it has not run here.")
    return page.Section(name, title, "\n".join(filter(None, parts)))


def _ranking(rows, name, caption: str) -> str:
    """A table of one stage's ranking accuracy, methods down and settings across, the best first."""
    keys = [row.key for row in score_rows(rows)]
    settings, body = list(dict.fromkeys(key._replace(method="") for key in keys)), []
    for method in dict.fromkeys(key.method for key in keys):
        found = [tables.row_of(rows, setting._replace(method=method), "ranking_accuracy") for setting in settings]
        people = max(int(row.n) for row in found if row is not None)
        body.append([tables.method_name(method, rows["stage"].iloc[0]), *found, people])
    columns = ["ranking accuracy", *(tables.sentence(tables.details(setting)) for setting in settings), "people"]
    return page.table(name, columns, body, f"{caption} With 95 % intervals by resampling people.", main=1)


def _curves(log, every, others: bool) -> str:
    """Ranking accuracy of the validation people with the controls, a plot a scale."""
    drawn = []
    for scale in sorted({row["scale"] for row in log}):
        points = [row for row in log if row["scale"] == scale]
        points = points[:: -max(1, len(points) // CURVE_POINTS)][::-1]  # from the end, so that the last is there
        # The curve's own people: controls of others would lie higher or lower for reasons of theirs.
        controls = every[(every["scales"] == str(scale)) & (every["split"] == "validation") & (every["method"] != "generic")]
        named = {tables.method_name(m): v for m, v in zip(controls["method"], controls["value"])}
        steps, values = (np.array([row.get(key, np.nan) for row in points], float) for key in ("step", "ranking_accuracy"))
        words = f"Scale {scale}: ranking accuracy over the steps, at the end {values[-1]:.2f}"
        labels = ("step", "ranking accuracy")
        drawn.append(page.panel(f"Scale {scale}", "", plots.curve(steps, values, labels, "generic model", named, words)))
    caption = "Ranking accuracy of the validation people, by whom the best step is chosen; dashed the controls, "
    caption += "on the same people."
    caption += " The table above is of others, whom neither the model nor the choice of its step has seen." * others
    return page.figure(page.grid(drawn, 380), caption) if drawn else ""


def _pictures(inputs) -> list[str]:
    """Small multiples, one figure per person and scale; the first person's are open."""
    examples = inputs.examples
    if examples is None or not len(examples["frame"]):
        return []
    energy = np.abs(examples["fitted"]).mean((1, -1)).sum((0, 2))  # of the rows of the picture, [H]
    shares = [part.sum() / (energy.sum() or 1.0) for part in np.array_split(energy, 3)]
    where = ", ".join(f"{page.percentage(share)} in the {third}" for share, third in zip(shares, THIRDS))
    words = (
        "From the centre frame alone the model predicts what changes around it, here over that frame in grey: one map for the "
        "frames before, one for those after. Red gets brighter as time goes on, blue darker. Below the maps with person "
        f"filters are those without, by {inputs.without_filters}, for the same frame, and the difference, in stronger colours."
    )
    legend = '<p class="note">darker<span class="key"></span>brighter, as time goes on</p>'
    people, used, left = examples["person_id"].astype(str), 0, 0
    parts = [page.paragraph(f"Of the change that is predicted in the examples below, {where}."), page.paragraph(words), legend]
    first = len(parts)
    for person in sorted(set(people)):
        own = [i for i in np.argsort(examples["scale"], kind="stable") if people[i] == person]
        figures = "".join(_example(examples, i) for i in own)
        used += len(figures)
        if used > MAX_CHARACTERS and len(parts) > first:
            left += 1
            continue
        parts.append(page.details(f"Person {person}", figures) if len(parts) > first else figures)
    if left:
        parts.append(page.paragraph(f"{left} more people are in representations/examples.npz.", note=True))
    return parts


def _example(examples, i) -> str:
    """Frames, maps and centre frame in a row; below the maps without person filters; below those the difference."""
    window, frame = examples["windows"][i], examples["frame"][i]
    person, scale, half = str(examples["person_id"][i]), int(examples["scale"][i]), len(examples["windows"][i]) // 2
    fitted, without = examples["fitted"][i], examples["generic"][i]
    limit, least = _limit(fitted, without), _limit(fitted - without)
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

    def row(label, content):
        return cell(page.text(label), half, "label side") + content + cell("", half)

    heads = [f"person filters, {names[0]}", "centre", *(f"person filters, {n}" for n in names[1:])]
    cells = cell(f"{half} frames before", half, "label head")
    cells += "".join(cell(page.text(h), 1, "label head") for h in heads)
    cells += cell(f"{half} frames after", half, "label head")
    centre = page.image(plots.frame_png(frame), "centre frame")
    cells += frames(window[:half], "before") + maps(fitted, "person filters", limit, centre)
    cells += frames(window[half + 1 :], "after") + row(tables.WITHOUT, maps(without, tables.WITHOUT, limit))
    caption = f"Person {person}, scale {scale}: every {_ordinal(scale)}frame."
    if least > VISIBLE * limit:
        strongest = max(least, limit / MOST_AMPLIFIED)
        cells += row("difference", maps(fitted - without, "difference", strongest))
        caption += f" Colours of the difference {limit / strongest:.1f} times as strong as those above."
    else:
        cells += row("difference", cell("no visible difference", len(names) + 1, "label head"))
    return page.figure(f'<div class="example" style="{columns}">{cells}</div>', caption, wide=True)


def _limit(*maps) -> float:
    """What the deepest colour stands for: nearly the largest value of the maps, mean over their channels."""
    return float(np.quantile(np.abs(np.concatenate([m.mean(-1) for m in maps])), 0.995))


def _ordinal(scale):
    return "" if scale == 1 else {2: "2nd ", 3: "3rd "}.get(scale, f"{scale}th ")


def looks(inputs: Inputs) -> page.Section:
    """How many people are recognised once movement or looks are taken away, by block; what appearance says of the traits."""
    columns = _by_control(inputs["fit"])
    parts = [*_identified(columns), _traits_of_looks(inputs)] if len(columns) > 1 else [_traits_of_looks(inputs)]
    missing = "Name controls to compare with, config.fit.controls=time_shuffled,swapped_dynamics, and run the stage fit."
    return page.Section("looks", "Is it movement or looks?", "\n".join(filter(None, parts)), missing)


def _by_control(fitted) -> dict:
    """{control, '' for the videos as filmed: rows of top-1, of all scales}, by the most informative way there is."""
    lead = tables.identification_row(fitted)
    if lead is None:
        return {}
    top1 = fitted.loc[(fitted["metric"] == "top1") & (fitted["scales"] == lead.key.scales)]
    columns = {"": top1.loc[(top1["method"] == lead.key.method) & (top1["control"] == "")]}
    # The halves' controls bear their own name as a method, the others' that of the way.
    for control in CONTROLS:
        of_halves = (top1["method"] == control) & (lead.key.method == "split_half")
        own = top1.loc[of_halves | ((top1["method"] == lead.key.method) & (top1["control"] == control))]
        columns |= {control: own} if len(own) else {}
    return columns


def _identified(columns) -> list[str]:
    """The answer in a sentence, and a heat map of top-1, blocks by controls."""
    body = []
    for block in dict.fromkeys(columns[""]["block"]):
        cells = [next(iter(score_rows(own.loc[own["block"] == block])), None) for own in columns.values()]
        body.append([block.replace("_", " ") or "all blocks", *cells])
    whole = dict(zip(columns, body[0][1:]))
    row, swapped = whole[""], whole.get("swapped_dynamics")
    parts, chance = [], tables.number(row.chance)
    if swapped is not None and swapped.low == swapped.low:
        figures = f"{tables.number(swapped.value)} of the people are recognised with somebody else's movement in place of "
        figures += f"their own, {tables.number(row.value)} with their own; chance is {chance}"
        found = "Some of it is looks" if swapped.low > row.chance else "It is movement" if row.low > row.chance else "Neither"
        parts = [page.paragraph(f"{found}: {figures}.")]
    names = [tables.method_name(control) for control in list(columns)[1:]]
    way = tables.method_name(row.key.method)
    caption = f"Top-1 of {row.n} people, {way}, all scales, by each block alone; chance {chance}."
    kinds = page.Cells(heat=tuple(range(1, len(columns) + 1)))
    head = ["block", "as filmed", *names]
    parts.append(page.table("movement_or_looks", head, body, caption, main=1, lead=("all blocks",), cells=kinds))
    said = (f"{tables.sentence(name)}: {SHOWN[control]}" for control, name in zip(list(columns)[1:], names))
    return parts + [page.paragraph(words, note=True) for words in said]


def _traits_of_looks(inputs) -> str:
    """Mean PCC of baselines that see no movement, beside that of the features; '' where there are none."""
    own, alone = tables.headline_row(inputs.scores), [tables.baseline_row(inputs.scores, name) for name in LOOKS]
    alone = [row for row in alone if row is not None]
    if own is None or not alone:
        return ""
    body = [[tables.method_name(row.key.method), row, int(row.n)] for row in (own, *alone)]
    found = "predict the traits, too" if any(row.low > 0 for row in alone) else "do not predict the traits"
    words, columns = "Mean PCC of the features, and of single frames without any movement.", ["from", "PCC", "people"]
    table = page.table("traits_by_looks", columns, body, words, main=1, lead=(body[0][0],))
    return page.paragraph(f"Looks alone {found} better than guessing.") + table

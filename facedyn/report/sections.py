"""The sections of the report, each a function of the tables that returns HTML. Absent input is a sentence, never a gap.

Nothing is computed here that is not in the tables: figures come from scores.csv, points from the tables' own columns.
"""

import datetime
import json
import math

import numpy as np

from facedyn.report import page, plots
from facedyn.report.findings import findings
from facedyn.report.inputs import Inputs
from facedyn.store.scores import (
    IDENTIFICATION,
    METHOD_NAMES,
    describe,
    headline_first,
    is_comparison,
    is_difference,
    number,
    parse_setting,
    pivot_metrics,
    with_interval,
)

METRICS = ("pcc", "ccc", "acc", "rmse", "r2")
METRIC_NAMES = {"pcc": "PCC", "ccc": "CCC", "acc": "ACC", "rmse": "RMSE", "r2": "R²"}
METRIC_NAMES |= {"top1": "top-1", "mrr": "mean reciprocal rank", "ranking_accuracy": "ranking accuracy"}
METRIC_NAMES |= {"within_distance": "distance within", "between_distance": "between people", "icc": "ICC"}
METRIC_HEADS = [METRIC_NAMES[m] for m in METRICS]
# Clips that were left out are named one by one up to this many, points of a curve drawn up to that many.
NAMED_CLIPS, CURVE_POINTS = 200, 400


def headline(inputs: Inputs):
    """(method, setting) of the trait scores that lead, or None."""
    rows = headline_first(_means(inputs))
    return (rows["method"].iloc[0], rows["setting"].iloc[0]) if len(rows) else None


def tiles(inputs: Inputs) -> str:
    """The key figures on top of the page."""
    items, lead = [], headline(inputs)
    if lead:
        row = _row(_means(inputs), *lead, "pcc")
        note = f"95 % interval {number(row.low, 2)} to {number(row.high, 2)}, {row.n} people"
        items.append(("PCC, mean over the traits", number(row.value, 2), note))
    ranked = inputs["fit"][inputs["fit"]["metric"] == "ranking_accuracy"]
    for setting in ranked[ranked["method"] == "representation"]["setting"].head(1):
        before, after = (_row(ranked, method, setting, "ranking_accuracy") for method in ("generic", "representation"))
        if before is not None:
            figure = f"{number(before.value)} → {number(after.value)}"
            items.append(("Ranking accuracy, generic → person filters", figure, describe("", setting)[1]))
    found = inputs["fit"][(inputs["fit"]["metric"] == "top1") & (inputs["fit"]["method"] == "split_half")]
    if len(found):
        row = max(found.itertuples(index=False), key=lambda r: len(parse_setting(r.setting)["scales"]))
        items.append(
            ("Split-half identification, top-1", number(row.value, 2), f"of {row.n} people, {describe('', row.setting)[1]}")
        )
    return page.tile_row(items)


def trait_scores(inputs: Inputs) -> str:
    """The headline table with baselines, and the headline trait by trait."""
    rows, lead = headline_first(_means(inputs)), headline(inputs)
    if lead is None:
        reason = inputs.stamps.get("traits", {}).get("summary", {}).get("skipped")
        return page.section(
            "traits", "Trait prediction", page.paragraph(f"No trait was predicted{f': {reason}' if reason else ''}.")
        )
    entries = [e for e in pivot_metrics(rows) if e["method"] != "representation" or _is_full(e["setting"], lead[1])]
    baselines = [i for i, e in enumerate(entries) if e["method"] != "representation"]
    body = [[describe(e["method"], e["setting"]), *(_cell(e.get(m)) for m in METRICS), str(e["n"])] for e in entries]
    columns = ["method", *METRIC_HEADS, "people"]
    caption = "Mean over the traits; beneath each figure its 95 % interval, by resampling people."
    parts = [page.table(columns, body, numbers=range(1, 7), lead=(0,), breaks=baselines[:1], caption=caption)]
    parts += _differences(inputs)
    of_lead = inputs["traits"][(inputs["traits"]["method"] == lead[0]) & (inputs["traits"]["setting"] == lead[1])]
    body = []
    for trait in _in_order(of_lead["trait"]):
        chosen = of_lead[of_lead["trait"] == trait]
        body.append([trait, *(_cell(_row(chosen, *lead, m)) for m in METRICS), str(chosen["n"].iloc[0])])
    parts += [page.heading("Trait by trait"), page.paragraph(_sentence(", ".join(describe(*lead))) + ".", note=True)]
    parts.append(page.table(["trait", *METRIC_HEADS, "people"], body, numbers=range(1, 7)))
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
    body = [[describe(e["method"], e["setting"]), *(_cell(e.get(m)) for m in ("pcc", "ccc")), str(e["n"])] for e in entries]
    words = (
        "Mean over the traits of one method minus that of the other, both on the same resampled people: where the interval "
        "excludes 0, the difference is more than chance among people."
    )
    columns = ["difference", "PCC", "CCC", "people"]
    return [
        page.heading("Against the baselines"),
        page.paragraph(words, note=True),
        page.table(columns, body, numbers=(1, 2, 3), lead=(0,)),
    ]


def scatters(inputs: Inputs) -> str:
    """Predicted against label, a plot a trait."""
    lead, table = headline(inputs), inputs.predictions
    if lead is None or table is None:
        return page.section("scatter", "Predicted and labelled", page.paragraph("There are no predictions to draw."))
    table = table[(table["method"] == lead[0]) & (table["setting"] == lead[1])]
    items = []
    for i, trait in enumerate(_in_order(table["trait"])):
        own = table[table["trait"] == trait]
        row = _row(inputs["traits"][inputs["traits"]["trait"] == trait], *lead, "pcc")
        caption = f"PCC {with_interval(row.value, row.low, row.high, 2)}" if row is not None else ""
        items.append(plots.scatter(f"scatter{i}", trait, own["label"].to_numpy(), own["prediction"].to_numpy(), caption))
    caption = f"A point a person, predicted by a head that never saw him or her; {', '.join(describe(*lead))}."
    return page.section("scatter", "Predicted and labelled", page.figure(page.grid(items, 270), caption))


def comparison(inputs: Inputs) -> str:
    """Forest plot over scales, tasks, fusion, heads and baselines."""
    rows = headline_first(_means(inputs))
    rows = rows[rows["metric"] == "pcc"]
    if not len(rows):
        return page.section("comparison", "Scales, tasks and fusion", page.paragraph("There are no trait scores to compare."))
    drawn = []
    for row in rows.itertuples(index=False):
        parts = parse_setting(row.setting)
        group = "baseline" if row.method != "representation" else "all" if parts["tasks"] in ("all", "") else "task"
        method, setting = describe(row.method, row.setting.removesuffix(";transductive"))
        label = setting if row.method == "representation" else f"{method} ({setting})" if setting else method
        drawn.append((label, row.value, row.low, row.high, group))
    caption = (
        "Mean PCC over the traits with its 95 % interval: person filters on all tasks, on single tasks, and the baselines."
    )
    svg = plots.forest("forest", drawn, "PCC, mean over the traits")
    return page.section("comparison", "Scales, tasks and fusion", *findings(inputs), page.figure(svg, caption, wide=True))


def pretraining(inputs: Inputs) -> str:
    """Ranking accuracy of held-out people over the steps, a plot a scale, with the controls."""
    title, log = (
        "Self-supervision: the generic model",
        [r for r in inputs.log if r.get("stage") == "pretrain" and "ranking_accuracy" in r],
    )
    scored = inputs["pretrain"][inputs["pretrain"]["metric"] == "ranking_accuracy"]
    if not log and not len(scored):
        return page.section("pretraining", title, page.paragraph("The generic model's training left no record."))
    items = []
    for scale in sorted({row["scale"] for row in log}):
        points = [row for row in log if row["scale"] == scale]
        points = points[:: max(1, len(points) // CURVE_POINTS)]
        controls = scored[(scored["setting"].map(_scales) == (scale,)) & (scored["method"] != "generic")]
        named = {METHOD_NAMES.get(m, m): v for m, v in zip(controls["method"], controls["value"])}
        steps, accuracy = (np.array([row[k] for row in points], float) for k in ("step", "ranking_accuracy"))
        items.append(plots.curves(f"curve{scale}", f"Scale {scale}", steps, accuracy, named))
    caption = "Share of pairs of frames in the right order, on people whom the model never saw; controls as dashed lines."
    parts = [page.figure(page.grid(items, 380), caption)] if items else []
    return page.section("pretraining", title, *parts, _score_grid(scored, "ranking_accuracy"))


def personalisation(inputs: Inputs) -> str:
    """Generic against fitted on frames held back, and identification."""
    title, table, scored = "Person-specific filters", inputs.representations, inputs["fit"]
    if not len(table) and not len(scored):
        return page.section("filters", title, page.paragraph("No person filters were fitted."))
    items = []
    for scale in sorted(set(table["scale"])):
        own = table[(table["scale"] == scale) & table["finite"].astype(bool)]
        before, after = (own[f"ranking_accuracy_{name}"].to_numpy(float) for name in ("generic", "fitted"))
        known = np.isfinite(before) & np.isfinite(after)
        if known.any():
            items.append(plots.before_after(f"fitted{scale}", f"Scale {scale}", before[known], after[known]))
    caption = (
        "Ranking accuracy on frames that were held back from the fit, a point a fit unit; above the line the filters helped."
    )
    parts = (
        [page.figure(page.grid(items, 270), caption)] if items else [page.paragraph("No frames were held back from the fit.")]
    )
    return page.section("filters", title, *parts, _score_grid(scored, "ranking_accuracy"), *_identification(scored))


def _identification(scored) -> list[str]:
    entries = pivot_metrics(scored[scored["metric"].isin(IDENTIFICATION)])
    body = [[describe(e["method"], e["setting"]), *(_cell(e.get(m)) for m in IDENTIFICATION), str(e["n"])] for e in entries]
    if not body:
        return []
    words = (
        "Filters fitted to one half of a person's frames: is, among all people, the other half of the same person the nearest? "
        "Beside it the mean cosine distance within and between people, and the intraclass correlation of leading components."
    )
    columns = ["filters of", *(METRIC_NAMES[m] for m in IDENTIFICATION), "people"]
    table = page.table(columns, body, numbers=range(1, len(columns)), lead=(0,))
    return [page.heading("Identification"), page.paragraph(words, note=True), table]


def dynamics(inputs: Inputs, faces: bool) -> str:
    """Dynamic representations of some people."""
    title, examples = "Dynamic representations", inputs.examples
    if not faces:
        return page.section(
            "dynamics", title, page.paragraph("Left out: config.report.faces is False, so no picture of a person is here.")
        )
    if examples is None or not len(examples["frame"]):
        return page.section("dynamics", title, page.paragraph("There are no examples: the stage fit has not written any."))
    legend = '<p class="note">darker<span class="key"></span>brighter, as time goes on</p>'
    words = (
        "From the centre frame alone the model draws what changes around it: one map for the frames before, one for those "
        "after. Red gets brighter as time goes on, blue darker."
    )
    order = np.lexsort((examples["scale"], examples["person_id"].astype(str)))
    return page.section("dynamics", title, page.paragraph(words), legend, *(_example(examples, i) for i in order))


def _example(examples, i) -> str:
    """Window, maps with the person's filters, maps over the face, and the generic model's maps."""
    window, frame = examples["windows"][i], examples["frame"][i]
    person, scale, half = str(examples["person_id"][i]), int(examples["scale"][i]), len(examples["windows"][i]) // 2
    fitted, generic = examples["fitted"][i], examples["generic"][i]
    limit = float(np.quantile(np.abs(np.concatenate([fitted.mean(-1), generic.mean(-1)])), 0.995))
    names = ("before", "after") if len(fitted) == 2 else ("whole window",)
    columns = f"grid-template-columns: repeat({half}, 1fr) repeat({len(names) + 1}, 1.7fr) repeat({half}, 1fr)"

    def centred(middle, maps_of):
        pictures = [page.image(maps_of(m), f"dynamic representation, {name}") for m, name in zip(middle, names)]
        return [*pictures[:1], None, *pictures[1:]]

    def cell(content, span=1, kind=""):
        return f'<div class="{kind}" style="grid-column: span {span}">{content or ""}</div>'

    def row(label, cells):
        side = cell(page.text(label), half, "label side")
        return side + "".join(cell(c) for c in cells) + cell("", half)

    def frames(chosen):
        return "".join(cell(page.image(plots.frame_png(f), "frame of the window")) for f in chosen)

    centre = centred(fitted, lambda m: plots.map_png(m, limit))
    centre[1] = page.image(plots.frame_png(frame), "centre frame")
    heads = [*names[:1], "centre", *names[1:]]
    cells = cell(page.text(f"{half} frames before"), half, "label head")
    cells += "".join(cell(page.text(h), 1, "label head") for h in heads)
    cells += cell(page.text(f"{half} frames after"), half, "label head")
    cells += frames(window[:half]) + "".join(cell(c) for c in centre) + frames(window[half + 1 :])
    cells += row("over the face", centred(fitted, lambda m: plots.overlay_png(m, frame, limit)))
    cells += row("generic model, before the fit", centred(generic, lambda m: plots.map_png(m, limit)))
    caption = f"Person {person}, scale {scale}: every {_ordinal(scale)}frame. "
    caption += "Maps with the person's own filters but for the last row."
    return page.figure(f'<div class="example" style="{columns}">{cells}</div>', caption)


def quality(inputs: Inputs) -> str:
    """What prepare found, and what it left out."""
    title, table = "Videos and faces", inputs.quality
    if table is None or not len(table):
        return page.section("quality", title, page.paragraph("There is no quality table."))
    ok = table["verdict"] == "ok"
    out = table[~ok]
    decoded, found, kept = (int(table[name].sum()) for name in ("n_decoded", "n_found", "n_kept"))
    rows = [
        ["clips", str(len(table)), f"{int(ok.sum())} used, {len(out)} left out"],
        ["people", str(table["person_id"].nunique()), f"{table[ok]['person_id'].nunique()} with a usable clip"],
        ["frames decoded", f"{decoded:,}", ""],
        ["frames with the face found", f"{found:,}", f"{100 * found / decoded:.1f} %" if decoded else ""],
        ["frames kept", f"{kept:,}", f"{100 * kept / decoded:.1f} %" if decoded else ""],
        ["clips with more than one face", str(int((table["n_two_faces"] > 0).sum())), "the main person was followed"],
        ["clips with gaps", str(int((table["n_gaps"] > 0).sum())), "no window crosses a gap"],
    ]
    parts = [page.table(["", "number", ""], rows, numbers=(1,))]
    share = table["share_found"].to_numpy(float)
    share = share[np.isfinite(share)]
    if len(share):
        svg = plots.histogram("share", np.clip(share, 0, 1), "share of a clip's frames in which the face was found", "clips")
        parts.append(page.figure(svg))
    if len(out):
        parts.append(page.heading("Left out"))
        shown = out.head(NAMED_CLIPS)
        body = [list(map(str, row)) for row in zip(shown["clip_id"], shown["person_id"], shown["reason"])]
        parts.append(page.table(["clip", "person", "reason"], body))
        if len(out) > len(shown):
            parts.append(page.paragraph(f"And {len(out) - len(shown)} more, see quality.parquet.", note=True))
    return page.section("quality", title, *parts)


def settings(inputs: Inputs) -> str:
    """Commands, hashes, versions, seed and every setting."""
    title = "Settings and versions"
    if not inputs.stamps:
        return page.section("settings", title, page.paragraph("No stage has left its settings."))
    rows = []
    for stage, stamp in inputs.stamps.items():
        rows.append(
            [
                stage,
                stamp["config_hash"],
                str(stamp["config"].get("seed", "")),
                stamp["started"][:16].replace("T", " "),
                _duration(stamp),
            ]
        )
        rows[-1].append(stamp["command"])
    parts = [page.table(["stage", "config", "seed", "started (UTC)", "took", "command"], rows, numbers=(4,), code=(1, 5))]
    versions = {}
    for stage, stamp in inputs.stamps.items():
        versions.setdefault(json.dumps(stamp["versions"]), []).append(stage)
    for text, stages in versions.items():
        listed = ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
        parts.append(
            page.paragraph((f"{', '.join(stages)}: " if len(versions) > 1 else "Versions: ") + listed + ".", note=True)
        )
    last = list(inputs.stamps.values())[-1]
    flat = [[name, json.dumps(value)] for name, value in last["config"].items()]
    parts.append(
        page.details(f"All settings of config {last['config_hash']}", page.table(["setting", "value"], flat, code=(0, 1)))
    )
    return page.section("settings", title, *parts)


def _means(inputs):
    """Mean over the traits of every method; differences of two are none."""
    traits = inputs["traits"]
    return traits[(traits["trait"] == "mean") & ~traits["method"].map(is_comparison).astype(bool)]


def _row(rows, method, setting, metric):
    """The one row, or None."""
    chosen = rows[(rows["method"] == method) & (rows["setting"] == setting) & (rows["metric"] == metric)]
    return next(chosen.itertuples(index=False), None)


def _cell(row):
    if row is None:
        return "–"
    interval = "" if math.isnan(row.low) else f"{number(row.low)} to {number(row.high)}"
    return number(row.value), interval


def _is_full(setting, lead) -> bool:
    """Uses the scales and tasks of the headline."""
    a, b = parse_setting(setting), parse_setting(lead)
    return a["scales"] == b["scales"] and a["tasks"] == b["tasks"]


def _score_grid(rows, metric) -> str:
    """Methods down, settings across."""
    rows = rows[rows["metric"] == metric]
    if not len(rows):
        return ""
    settings_ = list(dict.fromkeys(rows["setting"]))
    body = []
    for method in dict.fromkeys(rows["method"]):
        found = [_row(rows, method, setting, metric) for setting in settings_]
        people = {row.n for row in found if row is not None}
        body.append([describe(method, "")[0], *map(_cell, found), " / ".join(map(str, sorted(people)))])
    columns = [METRIC_NAMES[metric], *(_sentence(describe("", setting)[1]) for setting in settings_), "people"]
    return page.table(columns, body, numbers=range(1, len(columns)))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _scales(setting):
    return parse_setting(setting)["scales"]


def _in_order(values):
    """Distinct values as they come, 'mean' last."""
    return sorted(dict.fromkeys(values), key=lambda value: value == "mean")


def _ordinal(scale):
    return "" if scale == 1 else {2: "2nd ", 3: "3rd "}.get(scale, f"{scale}th ")


def _duration(stamp) -> str:
    seconds = datetime.datetime.fromisoformat(stamp["finished"]) - datetime.datetime.fromisoformat(stamp["started"])
    minutes, rest = divmod(int(seconds.total_seconds()), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

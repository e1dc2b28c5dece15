"""Sections on the data and the run: what prepare kept, the worst clips, what the doctor found, settings and versions."""

import datetime
import hashlib
import json

import numpy as np

from data_pipelines.faces.quality import frames_seen
from facedyn.report import inputs as report_inputs
from facedyn.report import page, plots, tables
from facedyn.report.inputs import Inputs

# Clips that were left out are named one by one up to this many, items of a finding up to that many.
NAMED_CLIPS, NAMED_ITEMS = 200, 4
# Whole frames are drawn larger than crops.
LARGEST_FRAME = 144


def quality(inputs: Inputs, faces: bool) -> page.Section:
    """Counts, the clips that are worth a look, and those that were left out."""
    title, name, table = "Videos and faces", "quality", inputs.quality
    if table is None or not len(table):
        return page.section(name, title, page.paragraph("There is no quality table."))
    ok = table["verdict"] == "ok"
    out = table[~ok]
    decoded, found, kept = (int(table[column].sum()) for column in ("n_decoded", "n_found", "n_kept"))
    looked_at = int(frames_seen(table).sum())
    rows = [
        ["clips", str(len(table)), f"{int(ok.sum())} used, {len(out)} left out"],
        ["people", str(table["person_id"].nunique()), f"{table[ok]['person_id'].nunique()} with a usable clip"],
        ["frames decoded", f"{decoded:,}", ""],
        ["frames with the face found", f"{found:,}", f"{100 * found / looked_at:.1f} %" if looked_at else ""],
        ["frames kept", f"{kept:,}", f"{100 * kept / looked_at:.1f} %" if looked_at else ""],
        ["clips with more than one face", str(int((table["n_two_faces"] > 0).sum())), "the main person was followed"],
        ["clips with gaps", str(int((table["n_gaps"] > 0).sum())), "no window crosses a gap"],
    ]
    for column, word in report_inputs.FLAGS.items():
        if column in table and int(table[column].sum()):
            rows.append([f"frames flagged: {word}", f"{int(table[column].sum()):,}", "kept, and flagged in quality.parquet"])
    parts = [page.table(["", "number", ""], rows, "What the stage prepare saw.", numbers=(1,))]
    share = table["share_found"].to_numpy(float)
    share = share[np.isfinite(share)]
    if len(share):
        svg = plots.histogram("share", np.clip(share, 0, 1), "share of a clip's frames in which the face was found", "clips")
        parts.append(page.figure(svg))
    parts += _worst(inputs, table, faces)
    if len(out):
        parts.append(page.heading("Left out"))
        if faces:
            cards = [
                _card(inputs, clip_id, reason)
                for clip_id, _, reason in report_inputs.left_out(table)
                if clip_id in inputs.views.clips
            ]
            parts.append(page.grid(cards, 180) if cards else "")
        shown = out.head(NAMED_CLIPS)
        body = [list(map(str, row)) for row in zip(shown["clip_id"], shown["person_id"], shown["reason"])]
        listed = page.table(["clip", "person", "reason"], body, "Clips that are not in the data set.")
        parts.append(listed if len(out) <= 12 else page.details(f"{len(out)} clips with their reasons", listed))
        if len(out) > len(shown):
            parts.append(page.paragraph(f"And {len(out) - len(shown)} more, see quality.parquet.", note=True))
    return page.section(name, title, *parts)


def _worst(inputs, table, faces) -> list[str]:
    """Cards of the worst clips that are used; a sentence where there is none."""
    heading, named = page.heading("Clips worth a look"), report_inputs.worst_used(table)
    if not named:
        return [heading, page.paragraph("No clip that is used lost frames, has flagged ones or an unsteady crop.")]
    words = (
        "Of the clips that are used, those that lost or had flagged the most frames, then those with the most unsteady crop."
    )
    if faces and not any(clip_id in inputs.views.clips for clip_id, _, _ in named):
        words += f" Without pictures: {inputs.views.no_data or 'these clips are not in the data set.'}"
    words += "" if faces else " Without pictures, as config.report.faces is False."
    cards = [_card(inputs, clip_id, f"person {person}: {amiss}") for clip_id, person, amiss in named]
    return [heading, page.paragraph(words, note=True), page.grid(cards, 240)]


def _card(inputs, clip_id, words) -> str:
    frames = inputs.views.clips.get(clip_id, ())
    shown = "".join(page.image(plots.frame_png(f, LARGEST_FRAME), f"frame of the clip {clip_id}") for f in frames)
    shown = f'<div class="frames">{shown}</div>' if shown else ""
    return f'<div class="clip">{shown}<b>{page.text(clip_id)}</b><br>{page.text(words)}</div>'


def doctor(inputs: Inputs) -> page.Section:
    """One row per finding, errors first, and what looking up a person's label would score."""
    title, name, table = "The data set's doctor", "doctor", inputs.doctor
    if table is None:
        words = "The data set was not examined: facedyn doctor writes doctor.csv, with the same options as the other stages."
        return page.section(name, title, page.paragraph(words))
    if len(table):
        rows, errors = [], []
        columns = ["severity", "kind", "what", "fix"]
        for _, own in table.groupby(columns, sort=False):
            severity, kind, what, fix = own[columns].iloc[0]
            items = list(dict.fromkeys(own["item"]))
            named = ", ".join(items[:NAMED_ITEMS]) + (f" and {len(items) - NAMED_ITEMS} more" * (len(items) > NAMED_ITEMS))
            errors += [len(rows)] if severity == "error" else []
            rows.append([(severity, kind.replace("_", " ")), (what, named), fix])
        words = "Findings; errors stand first. Every item is in doctor.csv."
        parts = [page.table(["", "what was found", "how to fix it"], rows, words, lead=errors)]
    else:
        parts = [page.paragraph("The doctor looked at manifest, files and data set, and found nothing.")]
    scored = inputs["doctor"]
    entries = tables.pivot_metrics(scored[scored["trait"] == "mean"])
    if entries:
        body = [
            [tables.describe(e["key"]), *(page.figure_cell(e.get(m)) for m in tables.METRICS), str(e["n"])] for e in entries
        ]
        words = "What is scored without looking at a frame, by a person's label in training or by the mean label."
        parts.append(page.table(["method", *tables.METRIC_HEADS, "people"], body, words, numbers=range(1, 7)))
    return page.section(name, title, *parts)


def settings(inputs: Inputs) -> page.Section:
    """What a reader needs to make this page again, and to see that it is the same."""
    title, name, stamps = "Settings and versions", "settings", inputs.stamps
    if not stamps:
        return page.section(name, title, page.paragraph("No stage has left its settings."))
    commands = list(dict.fromkeys(stamp["command"] for stamp in stamps.values()))
    parts = [page.heading("To reproduce"), page.code(commands)]
    parts.append(page.table(["", "value", ""], _hashes(inputs), "What the figures rest on.", code=(1,)))
    rows = []
    for stage, stamp in stamps.items():
        seed, started = str(stamp["config"].get("seed", "")), stamp["started"][:16].replace("T", " ")
        rows.append([stage, stamp["config_hash"], seed, started, _duration(stamp)])
    columns = ["stage", "config", "seed", "started (UTC)", "took"]
    parts.append(page.table(columns, rows, "The stages that were run; config: hash of the settings.", numbers=(4,), code=(1,)))
    versions = {}
    for stage, stamp in stamps.items():
        versions.setdefault(json.dumps(stamp["versions"]), []).append(stage)
    for text, stages in versions.items():
        listed = ", ".join(f"{library} {version}" for library, version in json.loads(text).items())
        listed = (f"{', '.join(stages)}: " if len(versions) > 1 else "Versions: ") + listed + "."
        parts.append(page.paragraph(listed, note=True))
    by_settings = {}
    for stage, stamp in stamps.items():
        by_settings.setdefault(json.dumps(stamp["config"], sort_keys=True), []).append(stage)
    for text, stages in by_settings.items():
        words = f"All settings of {', '.join(stages)}" if len(by_settings) > 1 else "All settings"
        flat = [[setting, json.dumps(value)] for setting, value in json.loads(text).items()]
        parts.append(page.details(words, page.table(["setting", "value"], flat, words, code=(0, 1))))
    return page.section(name, title, *parts)


def _hashes(inputs) -> list[list[str]]:
    rows, split = [], inputs.views.split
    fingerprints = [stamp.get("relevant", {}).get("dataset", "") for stamp in inputs.stamps.values()]
    if any(fingerprints):
        rows.append(["data set", [text for text in fingerprints if text][-1][:12], "clips, crops, splits and labels"])
    if split:
        people = ", ".join(f"{split.people[s]} people in {s}" for s in sorted(split.people))
        rows.append(["splits", split.hash, f"which clip of whom is in which split: {people}"])
    else:
        rows.append(["splits", "–", f"not known: {inputs.views.no_data}"])
    if inputs.folds is not None:
        text = "\n".join(sorted("\t".join(row) for row in inputs.folds.itertuples(index=False)))
        rows.append(["folds", hashlib.sha256(text.encode()).hexdigest()[:12], "who is in which fold, traits/folds.csv"])
    seeds = sorted({str(stamp["config"].get("seed", "")) for stamp in inputs.stamps.values()})
    rows.append(["seed", ", ".join(seeds), "config.seed"])
    return rows


def _duration(stamp) -> str:
    seconds = datetime.datetime.fromisoformat(stamp["finished"]) - datetime.datetime.fromisoformat(stamp["started"])
    minutes, rest = divmod(int(seconds.total_seconds()), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

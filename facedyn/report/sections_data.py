"""The section 'Is the data sound?', what prepare kept and what the doctor found; and the settings and versions of the run."""

import datetime
import hashlib
import json

from data_pipelines.doctor.defects import named
from data_pipelines.faces.quality import FLAGS, frames_seen
from data_pipelines.progress import counted
from facedyn.report import inputs as report_inputs
from facedyn.report import page, plots, tables
from facedyn.report.inputs import Inputs

# Clips that were left out are named one by one up to this many.
NAMED_CLIPS = 200
# Whole frames are drawn larger than crops.
LARGEST_FRAME = 144


def sound(inputs: Inputs, faces: bool) -> page.Section:
    """What prepare kept, the clips that are worth a look, those that were left out, and what the doctor found."""
    parts = [*_quality(inputs, faces), *_doctor(inputs)]
    missing = "There is no quality table: run the stage prepare."
    return page.Section("data", "Is the data sound?", "\n".join(filter(None, parts)), missing)


def _quality(inputs, faces) -> list[str]:
    table = inputs.quality
    if table is None or not len(table):
        return []
    ok = table["verdict"] == "ok"
    out, people = table[~ok], counted(table[ok]["person_id"].nunique(), "people")
    decoded, found, kept = (int(table[column].sum()) for column in ("n_decoded", "n_found", "n_kept"))
    looked_at = int(frames_seen(table).sum()) or 1
    rows = [
        ["frames decoded", decoded, ""],
        ["frames with the face found", found, f"{100 * found / looked_at:.1f} %"],
        ["frames kept", kept, f"{100 * kept / looked_at:.1f} %"],
        ["clips", len(table), f"{int(ok.sum())} used, {len(out)} left out"],
        ["people", int(table["person_id"].nunique()), f"{table[ok]['person_id'].nunique()} with a usable clip"],
        [
            "clips with fewer than 9 in 10 faces found",
            int((table["share_found"] < 0.9).sum()),
            "the frames without are left out",
        ],
        ["clips with more than one face", int((table["n_two_faces"] > 0).sum()), "the main person was followed"],
        ["clips with gaps", int((table["n_gaps"] > 0).sum()), "no window crosses a gap"],
    ]
    for flag, word in FLAGS.items():
        if number := int(table[f"n_{flag}"].sum()) if f"n_{flag}" in table else 0:
            rows.append([f"frames flagged: {word}", number, "kept, and flagged in quality.parquet"])
    used = f"{int(ok.sum()):,} of {counted(len(table), 'clips')} are used, {100 * kept / looked_at:.0f} % of frames, {people}."
    counts = page.table("quality", ["what", "number", "note"], rows, "What the stage prepare saw.", main=1)
    parts = [page.paragraph(used), page.details("Frames and clips in numbers", counts), *_worst(inputs, table, faces)]
    if len(out):
        parts.append(page.heading("Left out"))
        first = report_inputs.left_out(table) if faces else []
        parts.append(page.grid([_card(inputs, clip, why) for clip, _, why in first if clip in inputs.views.clips], 180))
        shown = out.head(NAMED_CLIPS)
        body = [list(map(str, row)) for row in zip(shown["clip_id"], shown["person_id"], shown["reason"])]
        listed = page.table("left_out", ["clip", "person", "reason"], body, "Clips that are not in the data set.")
        parts.append(listed if len(out) <= 12 else page.details(f"{len(out)} clips with their reasons", listed))
        if len(out) > len(shown):
            parts.append(page.paragraph(f"And {len(out) - len(shown)} more, see quality.parquet.", note=True))
    return parts


def _worst(inputs, table, faces) -> list[str]:
    """Cards of the worst clips that are used; a sentence where there is none."""
    heading, worst = page.heading("Clips worth a look"), report_inputs.worst_used(table)
    if not worst:
        return [heading, page.paragraph("No clip that is used lost frames, has flagged ones or an unsteady crop.")]
    words = (
        "Of the clips that are used, those that lost or had flagged the most frames, then those with the most unsteady crop."
    )
    if faces and not any(clip_id in inputs.views.clips for clip_id, _, _ in worst):
        words += f" Without pictures: {inputs.views.no_data or 'these clips are not in the data set.'}"
    words += "" if faces else " Without pictures, as config.report.faces is False."
    cards = [_card(inputs, clip_id, f"person {person}: {amiss}") for clip_id, person, amiss in worst]
    return [heading, page.paragraph(words, note=True), page.grid(cards, 240)]


def _card(inputs, clip_id, words) -> str:
    frames = inputs.views.clips.get(clip_id, ())
    shown = "".join(page.image(plots.frame_png(f, LARGEST_FRAME), f"frame of the clip {clip_id}") for f in frames)
    shown = f'<div class="frames">{shown}</div>' if shown else ""
    return f'<div class="clip">{shown}<b>{page.text(clip_id)}</b><br>{page.text(words)}</div>'


def _doctor(inputs) -> list[str]:
    """One row per finding, errors first, and what looking up a person's label would score."""
    table, heading = inputs.doctor, page.heading("What the doctor found")
    if table is None:
        words = "The data set was not examined: facedyn doctor writes doctor.csv, with the same options as the other stages."
        return [heading, page.paragraph(words)] if inputs.quality is not None else []
    rows = []
    for (severity, kind, what, fix), own in table.groupby(["severity", "kind", "what", "fix"], sort=False):
        rows.append([(severity, kind.replace("_", " ")), (what, named(dict.fromkeys(own["item"]))), fix])
    rows.sort(key=lambda row: row[0][0] != "error")
    lead = [row[0] for row in rows if row[0][0] == "error"]
    words = "Findings; errors, which would make a result wrong, stand first. Every item is in doctor.csv."
    parts = [heading, page.table("doctor", ["severity", "what was found", "how to fix it"], rows, words, lead=lead)]
    if not rows:
        parts.append(page.paragraph("The doctor looked at manifest, files and data set, and found nothing."))
    scored, shown = inputs["doctor"], inputs.trait_metrics
    body = tables.metric_rows(scored[scored["trait"] == "mean"], shown)
    words = "What is scored without looking at a frame, by a person's label in training or by the mean label."
    columns = ["method", *(tables.METRIC_NAMES[m] for m in shown), "people"]
    return [*parts, page.table("scored_without_frames", columns, body, words, main=1)]


def settings(inputs: Inputs) -> page.Section:
    """What a reader needs to make this page again, and to see that it is the same."""
    name, title, stamps = "settings", "Settings", inputs.stamps
    if not stamps:
        return page.Section(name, title, "", "No stage has left its settings.")
    commands = list(dict.fromkeys(stamp["command"] for stamp in stamps.values()))
    parts = [page.heading("To reproduce"), page.code(commands)]
    columns, kinds = ["what", "value", "note"], page.Cells(code=(1,))
    parts.append(page.table("hashes", columns, _hashes(inputs), "What the figures rest on.", cells=kinds))
    rows = []
    for stage, stamp in stamps.items():
        seed, started = str(stamp["config"].get("seed", "")), stamp["started"][:16].replace("T", " ")
        rows.append([stage, stamp["config_hash"], seed, started, _duration(stamp)])
    columns = ["stage", "config", "seed", "started (UTC)", "took"]
    parts.append(page.table("stages", columns, rows, "The stages that were run; config: hash of the settings.", cells=kinds))
    for found, stages in _grouped(stamps, "versions").items():
        listed = ", ".join(f"{library} {version}" for library, version in json.loads(found).items())
        parts.append(page.paragraph(f"Versions of {', '.join(stages)}: {listed}.", note=True))
    for number, (found, stages) in enumerate(_grouped(stamps, "config").items(), 1):
        words = f"All settings of {', '.join(stages)}"
        flat = [[setting, json.dumps(value)] for setting, value in sorted(json.loads(found).items())]
        table = page.table(f"settings{number}", ["setting", "value"], flat, words, cells=page.Cells(code=(0, 1)))
        parts.append(page.details(words, table))
    return page.Section(name, title, "\n".join(parts))


def _grouped(stamps, part) -> dict[str, list[str]]:
    """{what the stamps say there, as JSON: the stages that say so}."""
    found = {}
    for stage, stamp in stamps.items():
        found.setdefault(json.dumps(stamp[part], sort_keys=part == "config"), []).append(stage)
    return found


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

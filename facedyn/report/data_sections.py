"""Sections on the data: what prepare kept and left out, the worst clips, and what the doctor found."""

import numpy as np

from data_pipelines.faces.quality import frames_seen
from facedyn.report import page, pictures, plots, worst_clips
from facedyn.report.inputs import Inputs
from facedyn.report.rows import METRIC_HEADS, METRICS, cell
from facedyn.store.scores import describe, pivot_metrics

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
    for column, word in worst_clips.FLAGS.items():
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
                for clip_id, _, reason in worst_clips.left_out(table)
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
    heading, named = page.heading("Clips worth a look"), worst_clips.worst_used(table)
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
    shown = "".join(page.image(pictures.frame_png(f, LARGEST_FRAME), f"frame of the clip {clip_id}") for f in frames)
    shown = f'<div class="frames">{shown}</div>' if shown else ""
    return f'<div class="clip">{shown}<b>{page.text(clip_id)}</b><br>{page.text(words)}</div>'


def doctor(inputs: Inputs) -> page.Section:
    """A row a finding, errors first, and what looking up a person's label would score."""
    title, name, table = "The data set's doctor", "doctor", inputs.doctor
    if table is None:
        words = "The data set was not examined: facedyn doctor writes doctor.csv, with the same options as the other stages."
        return page.section(name, title, page.paragraph(words))
    if len(table):
        rows, spoiling = [], []
        for (severity, kind, what, fix), own in table.groupby(["severity", "kind", "what", "fix"], sort=False):
            items = list(dict.fromkeys(own["item"]))
            named = ", ".join(items[:NAMED_ITEMS]) + (f" and {len(items) - NAMED_ITEMS} more" * (len(items) > NAMED_ITEMS))
            spoiling += [len(rows)] if severity == "error" else []
            rows.append([(severity, kind.replace("_", " ")), (what, named), fix])
        words = "Findings; errors stand first. Every item is in doctor.csv."
        parts = [page.table(["", "what was found", "how to fix it"], rows, words, lead=spoiling)]
    else:
        parts = [page.paragraph("The doctor looked at manifest, files and data set, and found nothing.")]
    scored = inputs["doctor"]
    entries = pivot_metrics(scored[scored["trait"] == "mean"])
    if entries:
        body = [[describe(e["method"], e["setting"]), *(cell(e.get(m)) for m in METRICS), str(e["n"])] for e in entries]
        words = "What is scored without looking at a frame, by a person's label in training or by the mean label."
        parts.append(page.table(["method", *METRIC_HEADS, "clips"], body, words, numbers=range(1, 7)))
    return page.section(name, title, *parts)

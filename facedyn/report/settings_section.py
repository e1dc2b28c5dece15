"""Section of settings: the command to reproduce, hashes of data and splits, seed, versions and every setting."""

import datetime
import hashlib
import json

from facedyn.report import page
from facedyn.report.inputs import Inputs


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

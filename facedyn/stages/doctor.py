"""Stage `doctor`: manifest, files and dataset -> a list of defects, on the terminal and in WORKDIR/doctor.csv.

Only looks: nothing that another stage reads is changed but the doctor's own rows of scores.csv. Needs no JAX.
"""

import pathlib
import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines import bounded
from data_pipelines.doctor import ERROR, examine
from data_pipelines.doctor.defects import counted
from data_pipelines.errors import InputError
from data_pipelines.files import write_rows
from data_pipelines.manifest import read_manifest
from facedyn.stages.runtime import data_settings, messages
from facedyn.store import lock
from facedyn.store.scores import replace_scores, scores_path

COLUMNS = ("severity", "kind", "item", "detail", "what", "fix")


def run(config, workdir) -> dict:
    """Prints the defects, writes doctor.csv (one row per clip, person or trait that has one) and the baselines' scores.

    Returns: summary with `exit_code`, 1 when there is an error, else 0.
    Raises InputError where there is no manifest to look at, or it cannot be read.
    """
    workdir, traits = pathlib.Path(workdir), tuple(config.data.traits)
    manifest = _manifest(config, workdir)
    entries = read_manifest(manifest, traits)
    pool = read_manifest(config.data.pretrain_manifest) if config.data.pretrain_manifest else None
    data_settings.check_splits(config, entries, pool)
    findings = examine(
        entries,
        data_settings.prepare_settings(config, traits, min(config.rank_loss.scales, default=1)),
        data_dir=data_settings.data_dir(config, workdir),
        quality_path=workdir / "quality.parquet",
        train_splits=tuple(config.pretrain.splits),
        pool=pool,
        listing=_listing(manifest, workdir),
    )
    rows = [(d.severity, d.kind, item, detail, d.what, d.fix) for d in findings.defects for item, detail in d.items]
    write_rows(workdir / "doctor.csv", [COLUMNS, *rows])
    if findings.scores or scores_path(workdir).is_file():
        _keep_scores(workdir, findings.scores)
    errors = sum(d.severity == ERROR for d in findings.defects)
    _show(findings.defects, findings.baseline)
    people = len({entry.person_id for entry in entries})
    print(
        f"doctor: {len(entries)} clips of {people} people, {counted(errors, 'error')}, "
        f"{counted(len(findings.defects) - errors, 'warning')}; every item: {workdir / 'doctor.csv'}"
    )
    return {"errors": errors, "warnings": len(findings.defects) - errors, "exit_code": int(errors > 0)}


def _keep_scores(workdir, rows):
    """Not beside a run that writes rows of its own: one of the two would lose them."""
    try:
        with lock.held(workdir):
            replace_scores(workdir, "doctor", rows)
    except InputError as error:
        messages.warning(f"doctor: the baselines' scores were not added to scores.csv: {error}")


def _manifest(config, workdir) -> pathlib.Path:
    """The manifest that prepare would take; a source is listed where it was not yet. Raises InputError where there is none."""
    dataset, place = config.data.dataset, data_settings.manifest_place(config, workdir)
    if dataset == "manifest":
        return data_settings.manifest_of_user(config)
    if dataset == "synthetic" and not place.is_file():
        raise InputError(f"There is no {place} yet, which the stage prepare makes; run prepare first.")
    return place if place.is_file() else data_settings.list_source(config, workdir)


def _listing(manifest, workdir) -> dict:
    """What was noted when a source was listed into WORKDIR/manifest.csv; {} for a manifest of the user's own."""
    path = workdir / "manifest.json"
    if manifest != workdir / "manifest.csv" or not path.is_file():
        return {}
    try:
        return dict(bounded.read_json(path))
    except ValueError as error:
        raise InputError(f"{path} is not what prepare writes there ({error}); remove it and run prepare again.") from error


def _show(defects, baseline):
    """A table on a terminal, else one line per defect that grep can find; the baselines where no defect has said them."""
    if not sys.stdout.isatty():
        for d in defects:
            print(f"{d.severity} {d.kind} [{d.subject}]: {d.what} Fix: {d.fix}")
    elif defects:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in ("", "kind"):
            table.add_column(name, no_wrap=True)
        table.add_column("what is wrong, in what, and how to fix it")
        for d in defects:
            # Text, as an id may hold what rich takes for markup.
            words = Text.assemble(d.what, (f" [{d.subject}]", "dim"), "\n", (d.fix, "italic"))
            table.add_row(Text(d.severity, "red" if d.severity == ERROR else ""), d.kind, words, end_section=True)
        Console().print(table)
    if baseline and not any(baseline in d.what for d in defects):
        print(baseline)

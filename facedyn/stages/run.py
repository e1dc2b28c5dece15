"""Runs one stage, or all of them in order; keeps the stamps by which done and unchanged work is recognised."""

import importlib
import pathlib

from facedyn.config import config_hash
from facedyn.stages import common
from facedyn.store import stamps

ORDER = ("prepare", "pretrain", "fit", "traits", "report")
# What a stage leaves behind: without it a stamp counts for nothing.
RESULT = {"pretrain": "generic", "fit": "representations", "traits": "scores.csv", "report": "report/index.html"}
# Stages whose result is costly and must not be mixed over two configs; the others are simply done again.
GUARDED = ("pretrain", "fit")


def run_stages(stage: str, config, workdir) -> None:
    """Runs `stage`; 'run' stands for all of them. Raises InputError where the input or WORKDIR cannot be used."""
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    for name in ORDER if stage == "run" else (stage,):
        run_one(name, config, workdir, skip=stage == "run")
    if stage in ("run", "traits"):
        from facedyn.store.scores import load_scores, score_table

        print("\n" + score_table(load_scores(workdir)))
    if stage in ("run", "report"):
        print(f"\nReport: {workdir / 'report' / 'index.html'}")


def run_one(name: str, config, workdir: pathlib.Path, skip: bool) -> None:
    """One stage with its stamps; `skip` leaves it out when it is done and nothing that it depends on has changed."""
    now = stamps.relevant(config, name, common.dataset_fingerprint(config, workdir) if name != "prepare" else "")
    if not (workdir / RESULT.get(name, "")).exists():
        stamps.remove_stamps(workdir, name)
    if name in GUARDED:
        stamps.refuse_change(workdir, name, now, RESULT[name])
    done = stamps.read_stamp(workdir, name)
    # `prepare` looks at the videos themselves to see whether anything has changed.
    if skip and name != "prepare" and done and not stamps.changes(done, now):
        print(f"{name}: done before, unchanged")
        return
    started = stamps.now()
    if name in GUARDED:
        stamps.write_stamp(config, workdir, f"{name}.started", now, started, {})
    print(f"{name}: config {config_hash(config)}, seed {config.seed}")
    summary = importlib.import_module(f"facedyn.stages.{name}").run(config, workdir)
    stamps.write_stamp(config, workdir, name, now, started, summary)

"""Runs one stage, or all of them in order; keeps the stamps by which done and unchanged work is recognised.

Of several processes the first one decides, stamps and reports; `pretrain` and `fit` are done by all of them together,
the other stages by the first one while the others wait.
"""

import contextlib
import importlib
import os
import pathlib
import time

import jax

from data_pipelines.errors import InputError
from data_pipelines.files import sweep
from data_pipelines.progress import prefix, within
from facedyn.config import config_hash
from facedyn.stages import shards
from facedyn.stages.runtime import common, compilation_cache, messages, processes
from facedyn.store import lock, stamps
from facedyn.store.metrics_log import MetricsLog

ORDER = ("prepare", "pretrain", "fit", "traits", "report")
# Stages that have a room of their own; the others are the module of their name.
MODULES = {"fit": "fit.fit_stage", "traits": "traits.traits_stage"}
# What a stage leaves behind: without it a stamp counts for nothing.
RESULT = {"pretrain": "generic", "fit": "representations", "traits": "scores.csv", "report": "report/index.html"}
# Stages that can do nothing in a new folder.
ON_EARLIER = ("fit", "traits", "report")
# Stages whose result is costly and must not be mixed over two configs; the others are simply done again.
GUARDED = ("pretrain", "fit")
# Stages that several processes share.
SHARED = ("pretrain", "fit")
# Folders that are written to file by file, beside those of representations: a kill may leave an unfinished one.
WRITTEN = ("", "stages", "traits", "report")


def run_stages(stage: str, config, workdir, read_only: bool = False, out: str = "", shard: str = "") -> None:
    """Runs `stage`; 'run' stands for all of them. Raises InputError where the input or WORKDIR cannot be used.

    read_only, out: as of the stage report, which alone has them; it then takes no lock and so works beside a run.
    shard: 'I/N' of the stage fit.
    """
    workdir = pathlib.Path(workdir)
    if (read_only or out) and (stage != "report" or not read_only):
        raise InputError("--read-only and --out=FILE.html are options of the stage report: facedyn report --read-only.")
    if stage in ON_EARLIER and not workdir.is_dir():
        raise InputError(f"There is no folder {workdir}: run the stage prepare first, or name the --workdir of an earlier run.")
    compilation_cache.switch_on(config.compilation_cache)
    if read_only:
        from facedyn.stages import report

        print(f"Report: {report.run(config, workdir, read_only=True, out=out)['path']}")
        return
    if shard:
        _run_shard(shards.read(shard), config, workdir)
        return
    with processes.session(config.distributed):
        if len({*map(tuple, processes.gather([stage, config_hash(config)]))}) > 1:
            raise InputError("The processes of config.distributed have different stages or settings; give all the same.")
        _check_devices(stage, config, workdir)
        # Process 0 has the workdir for all; where it may not, the others get to know at the first wait.
        with lock.held(workdir) if processes.is_first() else contextlib.nullcontext():
            processes.on_main_process(lambda: shards.refuse_running(workdir))
            processes.on_main_process(lambda: _tidy(workdir))
            if stage == "run":
                processes.on_main_process(lambda: _refuse_settings(config, workdir))
            for number, name in enumerate(ORDER if stage == "run" else (stage,), 1):
                with within(f"stage {number} of {len(ORDER)}" if stage == "run" else ""):
                    run_one(name, config, workdir, skip=stage == "run")
        if processes.is_first():
            _tell(stage, workdir)


def _run_shard(shard, config, workdir) -> None:
    """A share of the fit, which another run of `fit` ends. Raises InputError beside config.distributed."""
    if config.distributed.coordinator:
        raise InputError("--shard takes the place of config.distributed: leave one of them out.")
    from facedyn.stages.fit import fit_stage

    with shards.held(workdir, shard, lambda: _begin("fit", config, workdir, skip=False)):
        fit_stage.run(config, workdir)


def _tell(stage: str, workdir) -> None:
    """Prints what came of it: a summary, with the long tables for those who ask for details."""
    if stage in ("run", "traits"):
        from facedyn.report.summary import summary
        from facedyn.report.tables import score_table
        from facedyn.store.scores import load_scores

        if messages.verbose():
            print(score_table(load_scores(workdir)) + "\n")
        print(summary(workdir))
    elif stage == "report":
        print(f"Report: {workdir / 'report' / 'index.html'}")


def _check_devices(stage: str, config, workdir) -> None:
    """Raises InputError now where pretrain, to come or to be done, would find that its batches do not fit the devices."""
    devices, size = jax.device_count(), config.pretrain.batch_size
    if stage in ("run", "pretrain") and size % devices and not stamps.read_stamp(workdir, "pretrain"):
        raise InputError(
            f"config.pretrain.batch_size is {size}; it must be a multiple of the {devices} devices, for example "
            f"{-(-size // devices) * devices}."
        )


def _refuse_settings(config, workdir) -> None:
    """Raises InputError where pretrain or fit would refuse the settings: before prepare has replaced a dataset by them."""
    for name in GUARDED:
        stamp = stamps.read_stamp(workdir, f"{name}.started")
        if stamp and (workdir / RESULT[name]).exists():
            now = stamps.relevant(config, name, stamp["relevant"].get("dataset", ""))
            stamps.refuse_change(workdir, name, now, RESULT[name])


def run_one(name: str, config, workdir: pathlib.Path, skip: bool) -> None:
    """One stage with its stamps; `skip` leaves it out when it is done and nothing that it depends on has changed."""
    begun = processes.on_main_process(lambda: _begin(name, config, workdir, skip))
    if not begun:
        return
    stage, start = importlib.import_module(f"facedyn.stages.{MODULES.get(name, name)}"), time.monotonic()
    if name in SHARED:
        summary = stage.run(config, workdir)
    else:
        summary = processes.on_main_process(lambda: stage.run(config, workdir))
    processes.on_main_process(lambda: _end(name, config, workdir, begun, summary, time.monotonic() - start))


def _begin(name: str, config, workdir: pathlib.Path, skip: bool) -> list:
    """[what the stage depends on, the time it begins]; [] when it need not be run. Raises InputError for changed settings."""
    now = stamps.relevant(config, name, _fingerprint(name, config, workdir))
    if not (workdir / RESULT.get(name, "")).exists():
        stamps.remove_stamps(workdir, name)
    if name in GUARDED:
        stamps.refuse_change(workdir, name, now, RESULT[name])
    done = stamps.read_stamp(workdir, name)
    # `prepare` looks at the videos themselves to see whether anything has changed.
    if skip and name != "prepare" and done and not stamps.changes(done, now):
        messages.info(f"{prefix()}{name}: done before, unchanged")
        return []
    started = stamps.now()
    if name in GUARDED:
        stamps.write_stamp(config, workdir, f"{name}.started", now, started, {})
    messages.info(f"{prefix()}{name}: config {config_hash(config)}, seed {config.seed}")
    return [now, started]


def _end(name: str, config, workdir: pathlib.Path, begun: list, summary: dict, seconds: float) -> None:
    """The stamp, and a line of metrics.jsonl with the numbers of the summary."""
    numbers = {k: v for k, v in summary.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    log = MetricsLog(workdir, stage=name)
    log.write(0, **numbers | {"seconds": round(seconds, 2)})
    log.close()
    now, started = begun
    stamps.write_stamp(config, workdir, name, now, started, summary)


def _fingerprint(name: str, config, workdir: pathlib.Path) -> str:
    """Of the data set that the stage reads; '' where there is none yet, or, for a page of what is left, none any more."""
    if name == "prepare":
        return ""
    try:
        return common.dataset_fingerprint(config, workdir)
    except InputError:
        if name == "report":
            return ""
        raise


def _tidy(workdir: pathlib.Path) -> None:
    for folder in (*(workdir / name for name in WRITTEN), *(path for path, *_ in os.walk(workdir / "representations"))):
        sweep(folder)

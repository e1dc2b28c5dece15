"""The command line: flags -> stage. Nothing here imports JAX before a stage starts."""

import contextlib
import errno
import importlib
import sys

from data_pipelines.errors import InputError
from facedyn.settings_help import of_stage
from facedyn.stages.runtime.stopping import Stopped, on_sigterm

STAGES = {
    "prepare": "videos of a manifest or of a known data set -> dataset of aligned face clips, quality.parquet",
    "pretrain": "dataset -> generic model of every scale, by the rank loss",
    "fit": "generic model, every person -> person filters: the table of representations",
    "traits": "table and labels -> cross-validated trait predictions, metrics, baselines",
    "report": "all of it -> report/index.html",
    "run": "the five above in order, skipping what is done and unchanged",
    "doctor": "manifest, files, dataset -> what is wrong with them and how to fix it; exit code 1 for errors",
}
# These take their settings from a trained WORKDIR.
ON_TRAINED = {
    "embed": "videos of new people (a folder or a manifest) -> table of representations, and traits where there are heads",
    "export": "the generic model of all scales -> one file, for config.pretrain.init_from",
    "forget": "takes a person out of all that lies in WORKDIR; says which models must be trained again; --dry-run only lists",
}
# {stage: options that it may be given, which have no value}
FLAGS = {"forget": ("dry-run",)}
# {stage: {option it needs: example}}
NEEDS = {
    "embed": {"videos": "DIR", "workdir": "TRAINED", "out": "table.parquet"},
    "export": {"workdir": "TRAINED", "out": "model.safetensors"},
    "forget": {"workdir": "DIR", "person": "ID"},
}

USAGE = """usage: facedyn STAGE --config=FILE.py[:arg] --workdir=DIR [--config.NAME=VALUE ...]
{commands}

Learns how a person's face moves, from videos, and predicts traits from it.

stages:
{stages}

options:
  --config=FILE.py[:arg]   settings, for example configs/demo.py; those of a stage: facedyn STAGE --help
  --config.NAME=VALUE      changes one setting, for example --config.fit.steps=50
  --workdir=DIR            where everything is written; a broken-off run goes on where it stopped
"""


def usage(stage: str | None = None) -> str:
    """Help for all stages, or for one."""
    every = STAGES | ON_TRAINED
    chosen = {stage: every[stage]} if stage in every else every
    flags = {name: [f"[--{flag}]" for flag in FLAGS.get(name, ())] for name in NEEDS}
    commands = (
        " ".join([f"       facedyn {name}", *map("--{}={}".format, o, o.values()), *flags[name]]) for name, o in NEEDS.items()
    )
    stages = "\n".join(f"  {name:<10} {text}" for name, text in chosen.items())
    settings = of_stage(stage) if stage else ""
    return USAGE.format(commands="\n".join(commands), stages=stages) + f"\nsettings:\n{settings}\n" * bool(settings)


def main(argv: list[str] | None = None) -> int:
    """Runs one stage; returns the exit code, of which one sentence on stderr gives the reason.

    0, or 1 when `doctor` found errors, 2 when the input cannot be used, 130 after Ctrl-C, 143 after SIGTERM (the
    part in hand is finished first).
    """
    args = sys.argv[1:] if argv is None else argv
    if not args or "--help" in args or "-h" in args or args == ["help"]:
        with contextlib.suppress(BrokenPipeError):  # of a reader such as `head`, which has seen enough
            print(usage(args[0] if args else None), flush=True)
        return 0
    try:
        with on_sigterm():
            return _run(args)
    except InputError as error:
        print(f"facedyn: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"facedyn: {error.strerror}{where}: free or allow the space, then run the same command again.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("facedyn: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    except Stopped:
        print("facedyn: stopped by SIGTERM; the same command goes on from here.", file=sys.stderr)
        return 143


def _run(args: list[str]) -> int:
    from facedyn.command_line import parse, parse_on_trained
    from facedyn.config import check

    if args[0] in NEEDS:
        options, overrides = parse_on_trained(args, NEEDS[args[0]], FLAGS.get(args[0], ()))
        importlib.import_module(f"facedyn.stages.{args[0]}").run(**options, overrides=overrides)
        return 0
    stage, config, workdir = parse(args, STAGES | ON_TRAINED)
    check(config, stage)
    if stage == "doctor":  # looks only: no stamp, no JAX
        return importlib.import_module("facedyn.stages.doctor").run(config, workdir)["exit_code"]
    importlib.import_module("facedyn.stages.run").run_stages(stage, config, workdir)
    return 0


if __name__ == "__main__":
    sys.exit(main())

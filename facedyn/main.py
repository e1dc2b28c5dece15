# PYTHON_ARGCOMPLETE_OK
"""The command line: words -> stage -> exit code. Nothing here imports JAX before a stage starts."""

import contextlib
import errno
import importlib
import os
import sys

from data_pipelines.errors import InputError
from facedyn.stages.runtime import messages
from facedyn.stages.runtime.stopping import Stopped, on_sigterm

HELP, ANSWERS = ("--help", "-h", "--version"), ("help", "configs")


def main(argv: list[str] | None = None) -> int:
    """Runs one stage; returns the exit code, of which one sentence on stderr gives the reason.

    0, or 1 when `doctor` found errors, 2 when the input cannot be used, 130 after Ctrl-C, 143 after SIGTERM (the
    current batch is finished first).
    """
    args = sys.argv[1:] if argv is None else argv
    if "_ARGCOMPLETE" in os.environ:
        from facedyn.command_line import complete

        complete()
    try:
        with on_sigterm():
            return _answer(args) if not args or args[0] in ANSWERS or {*args} & {*HELP} else _run(args)
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
        print("facedyn: interrupted; the same command continues from here.", file=sys.stderr)
        return 130
    except Stopped:
        print("facedyn: stopped by SIGTERM; the same command continues from here.", file=sys.stderr)
        return 143


def _answer(args: list[str]) -> int:
    """Help, the version or the names of the configs; only printed."""
    from facedyn import __version__, command_line, config_files

    if "--version" in args:
        text = f"facedyn {__version__}"
    elif args[:1] == ["configs"]:
        text = "\n".join(f"  {name:<28} {what}" for name, what in config_files.ours().items())
    else:
        named = [word for word in args if word not in (*HELP, *ANSWERS)]
        text = command_line.usage(command_line.stage_named(named[0]) if named else None)
    with contextlib.suppress(BrokenPipeError):  # of a reader such as `head`, which has seen enough
        print(text, flush=True)
    return 0


def _run(args: list[str]) -> int:
    from facedyn import command_line

    call = command_line.read(args)
    level = messages.QUIET if call.options["quiet"] else messages.VERBOSE if call.options["verbose"] else messages.NORMAL
    with messages.on_command_line(level, progress=not call.options["no_progress"]):
        return _stage(call)


def _stage(call) -> int:
    from facedyn import command_line
    from facedyn.config import check

    if call.stage in command_line.ON_TRAINED:
        importlib.import_module(f"facedyn.stages.{call.stage}").run(**command_line.on_trained(call))
        return 0
    stage, config, workdir = command_line.settled(call)
    check(config, stage)
    if stage == "doctor":  # looks only: no stamp, no JAX
        return importlib.import_module("facedyn.stages.doctor").run(config, workdir)["exit_code"]
    if stage == "plan":  # writes nothing
        how_much = {name: call.options.get(name) for name in ("people", "seconds", "device")}
        importlib.import_module("facedyn.stages.plan").run(config, **how_much)
        return 0
    more = {name: call.options[name] for name in ("read_only", "out", "shard") if call.options.get(name)}
    importlib.import_module("facedyn.stages.run").run_stages(stage, config, workdir, **more)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line as argparse has it: stages, their options, help, and what a call means. Imports no JAX.

`facedyn STAGE --config=NAME --workdir=DIR [--config.a.b=value ...]`. Every refusal is an InputError of one sentence.
"""

import argparse
import dataclasses
import os
import pathlib

from ml_collections import ConfigDict

from data_pipelines.errors import InputError
from data_pipelines.setting import nearest_of
from facedyn.config import check, expand_home, nearest, with_home
from facedyn.config_files import load_config, ours, override
from facedyn.settings_help import of_stage
from facedyn.settings_schema import SETTINGS


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage: what it does, the options that it needs and those that it may be given beside."""

    help: str
    needs: tuple[str, ...] = ("config", "workdir")
    may: tuple[str, ...] = ()
    positional: str = ""  # the option that a word without dashes stands for


STAGES = {
    "prepare": Stage("videos of a manifest or of a known data set -> dataset of aligned face clips, quality.parquet"),
    "pretrain": Stage("dataset -> generic model of every scale, by the rank loss"),
    "fit": Stage("generic model, every person -> person filters: the table of representations", may=("shard",)),
    "traits": Stage("table and labels -> cross-validated trait predictions, metrics, baselines"),
    "report": Stage("results of all stages -> report/index.html", may=("read-only", "out")),
    "run": Stage("the five above in order, skipping what is done and unchanged"),
    "doctor": Stage("manifest, files, dataset -> what is wrong with them and how to fix it; exit code 1 for errors"),
    "plan": Stage(
        "settings, people and seconds of video -> time, FLOP and memory of every stage, before anything runs",
        ("config",),
        ("people", "seconds", "device", "workdir"),
    ),
}
EXPORT = ("workdir", "out"), ("note",)
# These take their settings from a trained model or WORKDIR.
ON_TRAINED = {
    "embed": Stage(
        "videos (a folder, a manifest, a file) -> table of features, with the model in the package or your own",
        ("videos", "out"),
        ("model", "workdir", "level", "overwrite", "no-states"),
        "videos",
    ),
    "add": Stage(
        "new clips -> added to a table of `embed`, as if all clips had been embedded together; also takes clips out",
        ("to",),
        ("videos", "remove", "remove-person", "model", "workdir", "level"),
        "videos",
    ),
    "export": Stage("the generic model of all scales -> one file, for --model and config.pretrain.init_from", *EXPORT),
    "forget": Stage(
        "removes a person from everything in WORKDIR, and says which models must be retrained",
        ("workdir", "person"),
        ("dry-run",),
    ),
}
ALL = STAGES | ON_TRAINED
# {option: (placeholder, '' for one without a value; help; example)}
OPTIONS = {
    "config": ("NAME", "settings: a name that `facedyn configs` lists, or FILE.py; with :ARG where the file takes one", "demo"),
    "workdir": ("DIR", "where everything is written; an interrupted run continues where it stopped", "runs/demo"),
    "videos": ("DIR", "a folder, a manifest (CSV) or a video", "new_videos"),
    "out": ("FILE", "the file that is written", "features.parquet"),
    "model": ("MODEL", "the model: a workdir or a file of `facedyn export`; without it the one in the package", "runs/demo"),
    "level": ("LEVEL", "what one row describes: person, session or clip", "session"),
    "to": ("TABLE", "the table of features that `facedyn embed` wrote", "features.parquet"),
    "remove": ("CLIP_ID", "takes this clip out of the table (its column clip_id in TABLE.videos)", "anna/monday"),
    "remove-person": ("ID", "takes all clips of this person out of the table", "anna"),
    "no-states": ("", "does not keep what `facedyn add` needs: less disk, faster for hours of video", ""),
    "note": ("TEXT", "attribution of the data that the model was trained on; stands in the file", "'Data: ...'"),
    "person": ("ID", "the person's id, as in the manifest", "p07"),
    "shard": ("I/N", "the share I of N, from 0, of processes without a coordinator; fit without it ends the work", "0/4"),
    "people": ("N", "how many people; without it those of the manifest or of the synthetic faces", "200"),
    "seconds": ("S", "of video of each person", "30"),
    "device": ("NAME", "what computes: cpu, which is measured, or h100, tpu-v5e, ... as tabulated", "h100"),
    "dry-run": ("", "only lists what would be removed", ""),
    "overwrite": ("", "replaces an existing table of other videos or settings", ""),
    "read-only": ("", "writes the page to --out=FILE.html and nothing into WORKDIR", ""),
}
OF_TRAINED = "the folder of a finished run"
# For every stage: {option: (short form, help)}.
FOR_ALL = {
    "quiet": ("q", "only warnings and results"),
    "verbose": ("v", "also details, and the long tables at the end of a run"),
    "no-progress": ("", "shows no progress"),
}
USAGE = """usage: facedyn STAGE --config=NAME --workdir=DIR [--config.SETTING=VALUE ...]
       facedyn embed VIDEOS --out=FILE [--model=MODEL]
       facedyn add VIDEOS --to=FILE | facedyn add --to=FILE --remove=CLIP_ID
       facedyn help STAGE | configs | --version

stages:
{stages}

options:
{options}
"""


class _Parser(argparse.ArgumentParser):
    """argparse, of which each error is an InputError."""

    def error(self, message):
        raise InputError(f"{self.prog}: {message}.")


def parser(stage: str) -> argparse.ArgumentParser:
    """The options of a stage, with --config.NAME for each setting."""
    made = _Parser(f"facedyn {stage}", add_help=False, allow_abbrev=False, exit_on_error=False)
    _add_options(made, stage)
    return made


def complete() -> None:
    """Answers the shell's completion, where `argcomplete` asks for it (docs/launching.md says how to switch it on)."""
    import argcomplete  # pyright: ignore[reportMissingImports]

    every = _Parser("facedyn", allow_abbrev=False)
    stages = every.add_subparsers()
    for name, stage in ALL.items():
        _add_options(stages.add_parser(name, help=stage.help, add_help=False), name)
    for name in ("help", "configs"):
        stages.add_parser(name, add_help=False)
    word = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", 0))].rpartition(" ")[2]
    # Nearly two hundred settings are offered to those only who have begun to write one.
    argcomplete.autocomplete(every, print_suppressed=word.startswith("--config."))


def _add_options(to, stage: str) -> None:
    for name in (*ALL[stage].needs, *ALL[stage].may):
        placeholder, text, _ = OPTIONS[name]
        kind = dict(metavar=placeholder) if placeholder else dict(action="store_true")
        added = to.add_argument(f"--{name}", help=text, **kind)
        if name == "config":
            added.completer = lambda **_: tuple(ours())
    for name, (short, text) in FOR_ALL.items():
        to.add_argument(*([f"-{short}"] if short else []), f"--{name}", help=text, action="store_true")
    for name in SETTINGS:
        to.add_argument(f"--config.{name}", metavar="VALUE", help=argparse.SUPPRESS)


def usage(stage: str | None = None) -> str:
    """Help for all stages, or for one: its options and its own settings."""
    if stage not in ALL:
        stages = "\n".join(f"  {name:<10} {one.help}" for name, one in ALL.items())
        return USAGE.format(stages=stages, options=_options_help(("config", "workdir")))
    needs, may, positional = ALL[stage].needs, ALL[stage].may, ALL[stage].positional
    word = f"[{positional.upper()}]" if positional in may else positional.upper()
    call = [word] * bool(positional) + [f"--{name}={OPTIONS[name][0]}" for name in needs if name != positional]
    call += [f"[--{name}{'=' * bool(OPTIONS[name][0])}{OPTIONS[name][0]}]" for name in may if name != positional]
    text = f"usage: facedyn {stage} {' '.join(call)} [--config.SETTING=VALUE ...]\n\n{ALL[stage].help}\n\n"
    settings = of_stage(stage)
    options = _options_help((*needs, *may))
    if stage in ON_TRAINED:
        options = options.replace(OPTIONS["workdir"][1], OF_TRAINED)
    return text + f"options:\n{options}\n" + f"\nsettings:\n{settings}\n" * bool(settings)


def _options_help(names) -> str:
    lines = [(f"--{n}={OPTIONS[n][0]}" if OPTIONS[n][0] else f"--{n}", OPTIONS[n][1]) for n in names]
    lines += [("--config.SETTING=VALUE", "changes one setting, for example --config.fit.max_frames=1000")]
    lines += [(f"-{short}, --{name}" if short else f"--{name}", text) for name, (short, text) in FOR_ALL.items()]
    return "\n".join(f"  {option:<24} {text}" for option, text in lines)


def stage_named(name: str) -> str:
    """The stage itself. Raises InputError with the nearest one where there is none of that name."""
    if name.startswith("-"):
        raise InputError(
            f"Name a stage first: facedyn STAGE --config=NAME --workdir=DIR; stages are {', '.join(ALL)} (`facedyn help`)."
        )
    if name not in ALL:
        others = {**dict.fromkeys(ALL), "help": None, "configs": None, "version": None}
        near = nearest_of(name.lower(), others).replace("version", "--version")
        raise InputError(f"There is no stage {name!r}, did you mean {near!r}? Stages are {', '.join(ALL)}.")
    return name


@dataclasses.dataclass(frozen=True)
class Call:
    """What a command asks for: options by name without dashes ({'dry_run': True}), settings {name: text}."""

    stage: str
    options: dict
    settings: dict[str, str]


def read(args: list[str]) -> Call:
    """The call that the words are. Raises InputError for an option or setting that is not there, or lacks its value."""
    stage, words = stage_named(args[0] if args else "-"), args[1:]
    if ALL[stage].positional and words and not words[0].startswith("-"):
        words = [f"--{ALL[stage].positional}={words[0]}", *words[1:]]
    try:
        given, rest = parser(stage).parse_known_args(words)
    except argparse.ArgumentError as error:
        wants = "needs a value" if "expected" in error.message else error.message
        raise InputError(f"{error.argument_name} {wants}: {error.argument_name}=VALUE.") from error
    if rest:
        raise InputError(_not_understood(stage, next((word for word in rest if word.startswith("-")), rest[0])))
    values = {name: value for name, value in vars(given).items() if value is not None}
    settings = {name.removeprefix("config."): values.pop(name) for name in list(values) if name.startswith("config.")}
    for name in ALL[stage].needs:
        if not values.get(name) and name == ALL[stage].positional:
            raise InputError(f"{name.upper()} is missing, for example facedyn {stage} {OPTIONS[name][2]}.")
        if not values.get(name):
            raise InputError(f"--{name} is missing, for example --{name}={OPTIONS[name][2]}.")
    for name in values.keys() & {"workdir", "videos", "out", "model", "to"}:
        if "\0" in values[name]:
            raise InputError(f"--{name} contains a NUL character, which a path must not.")
        values[name] = with_home(values[name], f"--{name}")
    return Call(stage, values, settings)


def _not_understood(stage: str, word: str) -> str:
    name = word.partition("=")[0]
    if not word.startswith("-"):
        return f"{word!r} is not understood; options look like --name=value."
    if name.startswith("--config."):
        name = name.removeprefix("--config.")
        return f"The config has no setting {name!r}; the nearest one is {nearest(name, SETTINGS)!r}."
    if stage in ON_TRAINED and name == "--config":
        return f"{stage} takes the settings that the workdir was made with: leave --config out."
    names = [f"--{option}" for option in (*ALL[stage].needs, *ALL[stage].may)]
    return f"There is no option {name} for {stage}; options are {', '.join(names)} and --config.SETTING."


def parse(args: list[str]) -> tuple[str, ConfigDict, pathlib.Path]:
    """(stage, config, workdir) of a call with --config. Raises InputError for an option or a setting that cannot be.

    Whether the files are there that the config names is for `config.check`.
    """
    return settled(read(args))


def settled(call: Call) -> tuple[str, ConfigDict, pathlib.Path]:
    """(stage, config, workdir) of a call with --config; as `parse`."""
    config = load_config(call.options["config"])
    for name, text in call.settings.items():
        override(config, name, text)
    workdir = pathlib.Path(call.options.get("workdir", ".")).absolute()
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={call.options['workdir']} is a file; name a folder.")
    return call.stage, check(expand_home(config), call.stage, files=False), workdir


def on_trained(call: Call) -> dict:
    """Arguments of the stage's `run`, for a call on a trained WORKDIR. Raises InputError where that folder does not exist."""
    workdir = call.options.get("workdir")
    if workdir and not pathlib.Path(workdir).is_dir():
        raise InputError(f"There is no folder --workdir={workdir}; name the one of an earlier run.")
    names = (*ALL[call.stage].needs, *ALL[call.stage].may)
    return {n.replace("-", "_"): call.options.get(n.replace("-", "_")) for n in names} | {"overrides": call.settings}

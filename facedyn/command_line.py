"""`facedyn STAGE --config=FILE.py[:arg] --workdir=DIR [--config.a.b=value ...]` -> stage, config, workdir.

Loads an ml_collections config file and applies overrides typed as the settings are (`settings_schema`). Imports no JAX, so that
help and refusals come at once. Every refusal is an InputError of one sentence.
"""

import importlib.util
import pathlib

from ml_collections import ConfigDict

from data_pipelines.errors import InputError
from facedyn.config import check, default_config, expand_home, flatten, nearest, with_home
from facedyn.setting import nearest_of
from facedyn.settings_schema import SETTINGS


def parse(args: list[str], stages) -> tuple[str, object, pathlib.Path]:
    """(stage, config, workdir). Raises InputError for anything that is not as the usage line says, or a setting that cannot be.

    Whether the files are there that the config names is for `config.check`.
    """
    if not args or args[0].startswith("-"):
        raise InputError(f"Name a stage first: facedyn STAGE --config=FILE.py --workdir=DIR; stages are {', '.join(stages)}.")
    stage, options = args[0], _options(args[1:])
    if stage not in stages:
        near = nearest_of(stage, stages)
        raise InputError(f"There is no stage {stage!r}, did you mean {near!r}? Stages are {', '.join(stages)}.")
    overrides = {name.removeprefix("config."): text for name, text in options.items() if name.startswith("config.")}
    for name in options:
        if name not in ("config", "workdir") and not name.startswith("config."):
            raise InputError(f"There is no option --{name}; options are --config, --config.NAME and --workdir.")
    for name in ("config", "workdir"):
        if not options.get(name):
            example = {"config": "--config=configs/demo.py", "workdir": "--workdir=runs/demo"}[name]
            raise InputError(f"--{name} is missing, for example {example}.")
    config = load_config(options["config"])
    for name, text in overrides.items():
        override(config, name, text)
    return stage, check(expand_home(config), stage, files=False), _workdir(options["workdir"])


def _workdir(text: str) -> pathlib.Path:
    workdir = pathlib.Path(with_home(text, "--workdir")).absolute()
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={text} is a file; name a folder.")
    return workdir


def parse_on_trained(args: list[str], needs: dict[str, str], flags=()) -> tuple[dict, dict[str, str]]:
    """(options, {setting: text}) of a stage that takes its settings from a trained WORKDIR.

    needs: {option: example}; all of them are needed. flags: options without a value, True where given. Raises InputError.
    """
    given = {flag: f"--{flag}" in args for flag in flags}
    options = _options([arg for arg in args[1:] if arg not in map("--{}".format, flags)])
    call = " ".join([f"facedyn {args[0]}", *map("--{}={}".format, needs, needs.values())])
    if "config" in options:
        raise InputError(f"{args[0]} takes the settings that the workdir was made with: leave --config out ({call}).")
    overrides = {name.removeprefix("config."): options.pop(name) for name in list(options) if name.startswith("config.")}
    for name in options:
        if name not in needs:
            raise InputError(f"There is no option --{name}; write {call}.")
    for name in needs:
        if not options.get(name):
            raise InputError(f"--{name} is missing; write {call}.")
    options |= {name: with_home(options[name], f"--{name}") for name in ("workdir", "videos", "out") if name in options}
    if not pathlib.Path(options["workdir"]).is_dir():
        raise InputError(f"There is no folder --workdir={options['workdir']}; name the one of an earlier run.")
    return options | {flag.replace("-", "_"): there for flag, there in given.items()}, overrides


def _options(args: list[str]) -> dict[str, str]:
    """--name=value and --name value -> {name: value}."""
    options, i = {}, 0
    while i < len(args):
        if not args[i].startswith("--"):
            raise InputError(f"{args[i]!r} is not understood; options look like --name=value.")
        name, equals, value = args[i][2:].partition("=")
        if not equals:
            if i + 1 == len(args) or args[i + 1].startswith("--"):
                raise InputError(f"--{name} needs a value: --{name}=VALUE.")
            i += 1
            value = args[i]
        options[name] = value
        i += 1
    return options


def load_config(spec: str):
    """The config of 'FILE.py' or 'FILE.py:arg', from the file's get_config(). Raises InputError for any error in it."""
    name, _, argument = with_home(spec, "--config").partition(".py:")
    path = pathlib.Path(name if name.endswith(".py") else name + ".py" if argument else name)
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise InputError(
            f"There is no config file {path}"
            + (f"; {path.parent} has {', '.join(beside)}." if beside else "; name a Python file.")
        )
    module_spec = importlib.util.spec_from_file_location(f"facedyn_config_{path.stem}", path)
    if module_spec is None:
        raise InputError(f"{path} is not a Python file; a config is a file such as configs/demo.py.")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise InputError(f"{path} has no function get_config(); see configs/default.py for an example.")
        config = module.get_config(argument) if argument else module.get_config()
    except InputError:
        raise
    except KeyError as error:  # how a locked ConfigDict refuses a key
        raise InputError(f"{path} sets a config key that does not exist: {_first_line(error)}") from error
    except AttributeError as error:
        raise InputError(_unknown_attribute(path, error)) from error
    except Exception as error:  # the file is the user's own code: any error in it is one of the input
        raise InputError(f"The config file {path} cannot be used: {type(error).__name__}: {_first_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config() of {path} returns {type(config).__name__}, not the config; end it with `return config`."
        )
    return config


def _first_line(error) -> str:
    return (str(error.args[0] if error.args else error).strip() or "no reason given").splitlines()[0]


def _unknown_attribute(path, error) -> str:
    """ConfigDict names the wrong key in quotes; find the valid one that is nearest."""
    name = getattr(error, "name", None) or (str(error).split('"') + [""])[1] or _first_line(error)
    return f"{path} sets {name!r}, which is no setting; the nearest one is {nearest(name, flatten(default_config()))!r}."


def override(config, name: str, text: str) -> None:
    """Sets config.NAME from the text of a flag, typed as the setting is. Raises InputError.

    >>> config = default_config()
    >>> override(config, "rank_loss.scales", "1,8")
    >>> config.rank_loss.scales
    (1, 8)
    """
    setting, flat = SETTINGS.get(name), flatten(config)
    if setting is None or name not in flat:
        raise InputError(f"The config has no setting {name!r}; the nearest one is {nearest(name, SETTINGS)!r}.")
    try:
        value = _typed(text, setting)
    except (ValueError, KeyError) as error:
        of_type = f"of type {setting.kind.__name__}: " * (setting.of is None)
        raise InputError(f"--config.{name}={text} must be {of_type}{setting.allowed()}.") from error
    *sections, leaf = name.split(".")
    for section in sections:
        config = config[section]
    config[leaf] = value


def _typed(text: str, setting):
    if setting.of is not None:
        inner = text.strip().strip("()[]")
        return tuple(READ[setting.of](item.strip()) for item in inner.split(",") if item.strip())
    return text if setting.kind is str else READ[setting.kind](text.strip())


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


# How the text of a flag, or of an item of a list, is read.
READ = {
    bool: lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
    int: lambda text: int(text.replace("_", "")),
    float: float,
    str: _unquoted,
}

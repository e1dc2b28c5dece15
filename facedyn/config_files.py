"""Config files: the config of a file or of one of ours by name, and settings changed by text. Every refusal is one sentence."""

import importlib.util
import pathlib

from ml_collections import ConfigDict

from data_pipelines.errors import InputError
from data_pipelines.setting import nearest_of
from facedyn.config import default_config, flatten, nearest, with_home
from facedyn.settings_schema import SETTINGS

PACKAGE = pathlib.Path(__file__).parent
# In an installed package, and beside it in a checkout.
FOLDER = next((place for place in (PACKAGE / "configs", PACKAGE.parent / "configs") if place.is_dir()), PACKAGE / "configs")


def ours() -> dict[str, str]:
    """{name: first line of its docstring} of the configs that come with the package."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "def get_config(" in text:
            found[path.stem] = text.split('"""')[1].partition("\n")[0]
    return found


def load_config(spec: str) -> ConfigDict:
    """The config of 'NAME', 'FILE.py' or either with ':ARG', from the file's get_config().

    NAME is one of `ours`. The file is Python code and is run. Raises InputError for any error in it.
    """
    path, argument = _path_and_argument(spec)
    module_spec = importlib.util.spec_from_file_location(f"facedyn_config_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
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
    except AttributeError as error:  # in whose text ConfigDict quotes the wrong key
        name = getattr(error, "name", None) or (str(error).split('"') + [""])[1] or _first_line(error)
        near = nearest(name, flatten(default_config()))
        raise InputError(f"{path} sets {name!r}, which is not a setting; the nearest one is {near!r}.") from error
    except Exception as error:  # the file is the user's own code: any error in it is one of the input
        raise InputError(f"The config file {path} cannot be used: {type(error).__name__}: {_first_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config() of {path} returns {type(config).__name__}, not the config; end it with `return config`."
        )
    return config


def _path_and_argument(spec: str) -> tuple[pathlib.Path, str]:
    spec = with_home(spec, "--config")
    name, _, argument = spec.partition(".py:")
    if name != spec:
        path = pathlib.Path(f"{name}.py")
    elif spec.partition(":")[0] in ours() and not pathlib.Path(spec).exists():
        name, _, argument = spec.partition(":")
        path = FOLDER / f"{name}.py"
    else:
        path = pathlib.Path(spec)
    if not path.is_file():
        if path.parent == pathlib.Path() and not path.suffix:
            near = nearest_of(path.name, ours()) if ours() else ""
            raise InputError(f"There is no config named {spec!r}, did you mean {near!r}? `facedyn configs` lists them.")
        beside = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise InputError(
            f"There is no config file {path}"
            + (f"; {path.parent} has {', '.join(beside)}." if beside else "; name a Python file.")
        )
    return path, argument


def _first_line(error) -> str:
    return (str(error.args[0] if error.args else error).strip() or "no reason given").splitlines()[0]


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


BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
# How the text of a flag, or of an item of a list, is read.
READ = {
    bool: lambda text: BOOLEANS[text.lower()],
    int: lambda text: int(text.replace("_", "")),
    float: float,
    str: _unquoted,
}

"""The config that all settings make together: its defaults, its checks, its hash.

What each setting is stands in `settings_schema`. A file in `configs/` starts from `default_config()` and changes values; it
cannot add a key, so a misspelt name is an error and never a setting that is silently ignored.
"""

import hashlib
import json
import os

from ml_collections import ConfigDict

from data_pipelines.errors import InputError
from data_pipelines.setting import nearest_of
from facedyn import settings_rules
from facedyn.settings_schema import SETTINGS


def default_config() -> ConfigDict:
    """The reference settings: 112x112 RGB faces, U-net of 32/64/128/256 channels, scales 1, 2 and 4, filters in closed form."""
    nested = {}
    for name, setting in SETTINGS.items():
        *sections, leaf = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = setting.default
    config = ConfigDict(nested)
    config.lock()
    return config


# These change how a result is come by, never what it is: no stamp compares them and no hash names them.
WITHOUT_EFFECT = tuple(name for name, setting in SETTINGS.items() if not setting.effect)
# Last part of a setting's name in version 0.1, and the setting that it is now.
RENAMED = {"damping": "fit.ridge", "co_movement": "fit.blocks", "innovations": "fit.blocks", "step_correlations": "fit.blocks"}
# Files that may lie anywhere: what is in them is compared (the dataset's fingerprint, `stamps.relevant`), not where they are.
BY_CONTENT = tuple(name for name, setting in SETTINGS.items() if setting.path and setting.effect)


def effective(config) -> dict:
    """The settings that a result can depend on, flat: all but WITHOUT_EFFECT and BY_CONTENT."""
    return {name: value for name, value in flatten(config).items() if name not in WITHOUT_EFFECT + BY_CONTENT}


def flatten(config, prefix="") -> dict:
    """{'data.image_size': 112, ...} from nested settings."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def from_flat(flat: dict) -> tuple[ConfigDict, list[str]]:
    """(config, names that are no settings of this version) from flat settings, as JSON gives them back."""
    config = default_config()
    known = flatten(config).keys()
    config.update_from_flattened_dict(
        {name: tuple(value) if isinstance(value, list) else value for name, value in flat.items() if name in known}
    )
    return config, sorted(flat.keys() - known)


def nearest(name: str, valid) -> str:
    """The valid key that `name` most likely stands for.

    >>> nearest("steps_per_cal", ["fit.steps", "fit.steps_per_call"])
    'fit.steps_per_call'
    """
    leaf = name.rsplit(".", 1)[-1]
    if leaf in RENAMED and RENAMED[leaf] in valid:
        return RENAMED[leaf]
    by_leaf = [v for v in valid if v.rsplit(".", 1)[-1] == leaf]
    return by_leaf[0] if by_leaf else nearest_of(name, valid)


def check(config: ConfigDict, stage: str | None = None, files: bool = True) -> ConfigDict:
    """Returns the config; raises InputError, one sentence, for the first setting under which `stage` cannot do its work.

    Looks at no data. `files` False leaves out whether the files, packages and processes that are asked for are there; else only
    those that `stage` does not need are left out, none for None.
    """
    given = flatten(config)
    for name in given:
        if name not in SETTINGS:
            raise InputError(f"The config has no setting {name!r}; the nearest one is {nearest(name, SETTINGS)!r}.")
    for name, setting in SETTINGS.items():
        if name not in given:
            raise InputError(f"The config lacks {name!r}; start it from facedyn.config.default_config().")
        fault = setting.fault(given[name])
        if fault:
            raise InputError(f"config.{name} {fault}.")
    for fault in settings_rules.faults(config, stage):
        raise InputError(fault)
    for fault in settings_rules.missing(config, stage) if files else ():
        raise InputError(fault)
    return config


def expand_home(config: ConfigDict) -> ConfigDict:
    """Returns the config, in which a leading ~ of every path has become the home folder. Raises InputError for ~nobody."""
    given = flatten(config)
    for name in (name for name, setting in SETTINGS.items() if setting.path and isinstance(given.get(name), str)):
        if given[name].startswith("~"):
            config.update_from_flattened_dict({name: with_home(given[name], f"config.{name}")})
    return config


def with_home(path: str, name: str) -> str:
    """The path, its leading ~ or ~user replaced by that home folder. Raises InputError, which says `name`, where there is none.

    >>> with_home("~/runs", "--workdir") == os.path.expanduser("~") + "/runs"
    True
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise InputError(
            f"{name}={path} names the home folder of a user that does not exist; write ./{path} for a folder here."
        )
    return expanded


def config_hash(config, sections=None) -> str:
    """Twelve hexadecimal digits that name the settings with an effect; `sections` restricts it to some top-level keys."""
    flat = {k: v for k, v in effective(config).items() if sections is None or k.split(".")[0] in sections}
    return hashlib.sha256(json.dumps(flat, sort_keys=True, default=list).encode()).hexdigest()[:12]

"""What a stage was run with: config, its hash, seed, versions and command, in WORKDIR/stages/<stage>.json.

The stamp is written last, so a stage without one did not finish. A stage whose settings changed since is refused by
name of the setting: results of two configs in one WORKDIR would silently mix.
"""

import datetime
import importlib.metadata
import json
import logging
import pathlib
import platform
import re
import shlex
import subprocess
import sys
from typing import Any

import facedyn
from data_pipelines import bounded, content
from data_pipelines.errors import InputError
from data_pipelines.files import write_text
from facedyn.config import BY_CONTENT, config_hash, default_config, effective, flatten, from_flat

# The settings that each stage's result depends on; a trailing dot stands for a whole section.
DEPENDS = {
    "prepare": ("seed", "data."),
    "pretrain": ("seed", "data.", "model.", "rank_loss.", "pretrain."),
    "fit": ("seed", "data.", "model.", "rank_loss.", "pretrain.", "fit."),
    "traits": ("seed", "data.", "model.", "rank_loss.", "pretrain.", "fit.", "traits."),
    "report": ("",),
}
# Of what lies in a WORKDIR: raised when tables, settings or files of learnt state get other names or meanings.
FORMAT = 2
# Settings that only add to a stage's result: it need not be made again, nor in another WORKDIR.
ADDS = ("fit.controls", "fit.video_seconds")
# What a stamp of this format holds, beside the name of its stage.
HOLDS = {"config": dict, "relevant": dict, "versions": dict, "summary": dict, "config_hash": str, "command": str}
HOLDS |= {"started": str, "finished": str}
INIT_FROM, LANDMARKS, CONTENT = "pretrain.init_from", "data.landmarks", r"([0-9a-f]{32})?"


def stamp_path(workdir, stage: str) -> pathlib.Path:
    """Where a stage's stamp lies."""
    return pathlib.Path(workdir) / "stages" / f"{stage}.json"


def read_stamp(workdir, stage: str) -> dict | None:
    """The stamp of a finished stage, or None. Raises InputError where a version of other names or formats wrote it."""
    path = stamp_path(workdir, stage)
    if not path.is_file():
        return None
    fix = "delete it, and the stage is run again"
    stamp = bounded.read_json(path, fix=fix)
    if not isinstance(stamp, dict):
        raise InputError(f"{path} is damaged (it holds no settings): {fix}.")
    if stamp.get("format", 1) != FORMAT:
        versions_there = stamp.get("versions")
        made_by = dict(versions_there if isinstance(versions_there, dict) else {}).get("facedyn", "an unknown version")
        raise InputError(
            f"{workdir} was made by facedyn {made_by}, whose files facedyn {facedyn.__version__} does not read: "
            "use another --workdir, or that version."
        )
    for name, kind in HOLDS.items():
        if not isinstance(stamp.get(name), kind):
            raise InputError(f"{path} is damaged ({name!r} is missing or of another kind): {fix}.")
    return stamp


def summary(workdir, stage: str) -> dict:
    """What a finished stage has found; {} where it is not finished."""
    return (read_stamp(workdir, stage) or {"summary": {}})["summary"]


# Any, not ConfigDict: by that one's annotations every section may be a number, a text or None as well.
def stamped_config(workdir, *stages: str) -> Any:
    """The config that the first of the stages which has finished in WORKDIR was run with. Raises InputError when none has."""
    for stage in stages:
        stamp = read_stamp(workdir, stage)
        if stamp:
            config, unknown = from_flat(stamp["config"])
            if unknown:
                logging.getLogger("facedyn").warning(
                    f"The settings {', '.join(unknown)} of {workdir} are unknown to this version and have no effect."
                )
            return config
    raise InputError(f"The stage {stages[-1]} has not been finished in {workdir}; run it there first.")


def relevant(config, stage: str, dataset: str) -> dict:
    """What the stage's result depends on, flat, as JSON would give it back: settings, and the dataset's fingerprint.

    Where files lie is no part of it: those of the data are named by the fingerprint, the generic model to start from by its
    content, which is left out where the file is gone.
    """
    kept = {k: v for k, v in effective(config).items() if k.startswith(DEPENDS[stage])} | {"dataset": dataset}
    if INIT_FROM.startswith(DEPENDS[stage]):
        place = config.pretrain.init_from
        name = content.of_place(pathlib.Path(place).expanduser()) if place else ""
        kept |= {INIT_FROM: name} if name or not place else {}
    if stage == "traits":
        place = config.data.landmarks
        kept |= {LANDMARKS: content.of_place(pathlib.Path(place).expanduser()) if place else ""}
    return json.loads(json.dumps(kept, default=list))


def changes(stamp: dict, now: dict) -> list[str]:
    """One phrase a difference, 'fit.steps was 100, is 50'. A setting younger than the stamp had what is now its default."""
    younger = {k: v for k, v in flatten(default_config()).items() if k in now and k not in stamp["relevant"]}
    before = json.loads(json.dumps(younger, default=list)) | stamp["relevant"]
    names = (before.keys() | now.keys()) - set(BY_CONTENT)
    named = [name for name in (INIT_FROM, LANDMARKS) if name in now and re.fullmatch(CONTENT, before.get(name, ""))]
    names = sorted(names | {*named})
    return [f"{n} was {before.get(n)!r}, is {now.get(n)!r}" for n in names if before.get(n) != now.get(n)]


def refuse_change(workdir, stage: str, now: dict, place: str) -> None:
    """Raises InputError when WORKDIR/place was made by the stage with something else than `now`."""
    stamp = read_stamp(workdir, f"{stage}.started")
    found = [change for change in changes(stamp, now) if not change.startswith(ADDS)] if stamp else []
    if found:
        shown = "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")
        raise InputError(
            f"{pathlib.Path(workdir) / place} was made by `{stage}` with other settings ({shown}): "
            f"use another --workdir, or delete that folder and run again."
        )


def remove_stamps(workdir, stage: str) -> None:
    """Forgets that the stage was run."""
    for name in (stage, f"{stage}.started"):
        stamp_path(workdir, name).unlink(missing_ok=True)


def code_version() -> str:
    """The package's version, with the git commit where the code lies in a checkout."""
    root = pathlib.Path(facedyn.__file__).parent.parent
    if (root / ".git").exists():
        commit = subprocess.run(
            ["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        )
        dirty = subprocess.run(["git", "-C", root, "status", "--porcelain"], capture_output=True, text=True, check=False)
        if commit.returncode == 0:
            return f"{facedyn.__version__}+{commit.stdout.strip()}{'.changed' if dirty.stdout.strip() else ''}"
    return facedyn.__version__


def versions() -> dict:
    """Of the code, Python and the libraries that a result depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "opencv-python-headless", "tensorflow-datasets")
    found = {"facedyn": code_version(), "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def now() -> str:
    """This second, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_stamp(config, workdir, stage: str, relevant: dict, started: str, summary: dict) -> None:
    """Marks the stage as finished (or '<stage>.started' as begun) with these settings and inputs."""
    stamp = {
        "stage": stage,
        "format": FORMAT,
        "config_hash": config_hash(config),
        "config": json.loads(json.dumps(flatten(config), default=list)),
        "relevant": relevant,
        "versions": versions(),
        "command": shlex.join(["facedyn", *sys.argv[1:]]),
        "started": started,
        "finished": now(),
        "summary": summary,
    }
    write_text(stamp_path(workdir, stage), json.dumps(stamp, indent=1) + "\n")

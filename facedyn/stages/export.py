"""The generic model of a trained workdir -> one portable file.

`config.pretrain.init_from` takes it. Where the workdir's fit is done, it also holds what `fit` has learnt for everyone, and so
embeds new videos: `facedyn embed --model=FILE`.
"""

import pathlib

from data_pipelines.errors import InputError
from facedyn.stages import embed_model, forgotten
from facedyn.stages.fit.learning import people_of
from facedyn.stages.pretrain import load_generic
from facedyn.stages.runtime import common
from facedyn.store import hashed_ids, portable, stamps


def run(workdir: str, out: str | pathlib.Path, overrides: dict, note: str | None = None) -> dict:
    """Writes `out`; returns a summary. Raises InputError when there is no finished generic model.

    note: who is to be named for the data that the model was trained on.
    """
    if overrides:
        raise InputError(f"export changes no setting: leave --config.{next(iter(overrides))} out.")
    out = pathlib.Path(out).absolute()
    if out.suffix != portable.SUFFIX:
        raise InputError(f"--out={out.name} must end with {portable.SUFFIX}, the format it is written in.")
    config = stamps.stamped_config(workdir, "pretrain")
    whole = stamps.read_stamp(workdir, "fit") is not None
    if whole:
        model = embed_model.from_workdir(workdir)
        generic, learnt, described = embed_model.exported(model, note or "")
        config = model.config
    else:
        generic = {scale: load_generic(config, workdir, scale) for scale in common.scales(config)}
        learnt, described = {}, {}
    stopped_by = stamps.summary(workdir, "pretrain").get("validation_people", ())
    people = {"people": hashed_ids.hashed({*people_of(workdir), *stopped_by}), "forgotten": forgotten.in_model(workdir)}
    portable.write_generic(out, generic, config, learnt, described | people | ({"note": note} if note else {}))
    scales, size = ", ".join(map(str, generic)), out.stat().st_size
    print(f"export: the generic model of the scales {scales}, {size:,} bytes, in {out}; it holds no video and no person's id")
    if whole:
        print(f"export: features of new videos: facedyn embed VIDEOS --model={out.name} --out=features.parquet")
    print(f"export: in another run: --config.pretrain.init_from={out.name}, with --config.pretrain.steps=0 to use it unchanged")
    return {"scales": list(generic), "bytes": size, "embeds": whole}


def was_trained_on(model: str | pathlib.Path, person_id: str) -> bool:
    """Whether something in an exported model was learnt from the person, by the hashes of ids that it lists.

    Raises InputError for a file that is none, or lists nobody as an older version wrote it.
    """
    lists = [portable.describe(model).get(name, {}) for name in ("people", "forgotten")]  # those who were forgotten since, too
    if not all(isinstance(people, dict) for people in lists) or not {"salt", "people"} <= lists[0].keys():
        raise InputError(f"{model} does not list whom it was trained on: export it with this version.")
    return any(people and hashed_ids.is_among(people, person_id) for people in lists)

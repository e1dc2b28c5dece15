"""The generic model of a trained workdir -> one portable file.

`config.pretrain.init_from` takes it. Where the workdir's fit is done, it also holds what `fit` has learnt for everyone, and so
embeds new videos: `facedyn embed --model=FILE`.
"""

import pathlib

from data_pipelines.errors import InputError
from facedyn.stages import embed_model
from facedyn.stages.pretrain import load_generic
from facedyn.stages.runtime import common
from facedyn.store import portable, stamps


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
    portable.write_generic(out, generic, config, learnt, described | ({"note": note} if note else {}))
    scales, size = ", ".join(map(str, generic)), out.stat().st_size
    print(f"export: the generic model of the scales {scales}, {size:,} bytes, in {out}; it holds no video and no person's id")
    if whole:
        print(f"export: features of new videos by it: facedyn embed VIDEOS --model={out.name} --out=features.parquet")
    print(f"export: elsewhere: --config.pretrain.init_from={out.name}, and --config.pretrain.steps=0 to take it as it is")
    return {"scales": list(generic), "bytes": size, "embeds": whole}

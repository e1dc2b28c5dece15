"""The generic model of a trained workdir -> one portable file, which `config.pretrain.init_from` takes."""

import pathlib

from data_pipelines.errors import InputError
from facedyn.stages.pretrain import load_generic
from facedyn.stages.runtime import common
from facedyn.store import portable, stamps


def run(workdir: str, out: str, overrides: dict) -> dict:
    """Writes `out`; returns a summary. Raises InputError when there is no finished generic model."""
    if overrides:
        raise InputError(f"export changes no setting: leave --config.{next(iter(overrides))} out.")
    out = pathlib.Path(out).absolute()
    if out.suffix != portable.SUFFIX:
        raise InputError(f"--out={out.name} must end with {portable.SUFFIX}, the format it is written in.")
    config = stamps.stamped_config(workdir, "pretrain")
    generic = {scale: load_generic(config, workdir, scale) for scale in common.scales(config)}
    portable.write_generic(out, generic, config)
    scales, size = ", ".join(map(str, generic)), out.stat().st_size
    print(f"export: the generic model of the scales {scales}, {size:,} bytes, in {out}; it holds no video and no person's id")
    print(f"export: elsewhere: --config.pretrain.init_from={out.name}, and --config.pretrain.steps=0 to take it as it is")
    return {"scales": list(generic), "bytes": size}

"""The reference settings on an accelerator: `configs/launch.py:NAME`, NAME one of gpu, tpu, tpu_pod, slurm.

  facedyn run --config=configs/launch.py:gpu --config.data.manifest=clips.csv --workdir=runs/gpu

docs/launching.md says what each is for, its commands and its environment. None has been run on the hardware that it names, so
no time and no score are given here.
"""

import pathlib

from facedyn.config_files import load_config

# Activations and kept features at half the memory; parameters, losses and filters stay float32.
HALF = {"model.dtype": "bfloat16", "fit.feature_dtype": "bfloat16"}
CHANGES = {
    "gpu": HALF,  # one process, all GPUs of the machine
    "tpu": HALF,  # one process, all chips of the host
    "tpu_pod": HALF | {"distributed.coordinator": "auto"},  # a process on every host of the slice
    "slurm": HALF | {"distributed.coordinator": "auto"},  # one process per task, told by srun
}


def get_config(name="gpu"):
    if name not in CHANGES:
        raise ValueError(f"{name!r} is an unknown variant; the variants are {', '.join(CHANGES)}.")
    config = load_config(str(pathlib.Path(__file__).with_name("default.py")))
    config.update_from_flattened_dict(CHANGES[name])
    return config

"""What docs/launching.md promises: processes that meet by what SLURM tells them, configs and sweeps that are understood."""

import importlib.util
import os
import subprocess
import sys

import pytest

from facedyn.config import check, flatten
from facedyn.config_files import load_config, override

MEETING = """
from facedyn.config_files import load_config
from facedyn.stages.runtime import processes

with processes.session(load_config("configs/launch.py:slurm").distributed):
    print(processes.gather(f"met {len(processes.gather(0))}"))
"""


def test_slurm_s_variables_are_enough(root):
    """Two tasks of a step, as srun starts them; the port follows from the job's number."""
    told = dict(SLURM_JOB_ID=str(os.getpid()), SLURM_STEP_NODELIST="localhost", SLURM_NTASKS="2", SLURM_STEP_NUM_NODES="1")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING],
            cwd=root,
            env=ours | told | dict(SLURM_PROCID=str(task), SLURM_LOCALID=str(task), JAX_PLATFORMS="cpu", PYTHONPATH=str(root)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for task in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    assert all("['met 2', 'met 2']" in text for text in said), said


@pytest.mark.parametrize("name", ["gpu", "tpu", "tpu_pod", "slurm"])
def test_configs_for_accelerators(root, name):
    config = check(load_config(f"{root}/configs/launch.py:{name}"))
    assert config.model.dtype == "bfloat16"
    assert config.distributed.coordinator == ("auto" if name in ("tpu_pod", "slurm") else "")


@pytest.fixture(scope="module")
def sweep(root):
    spec = importlib.util.spec_from_file_location("sweep", root / "configs" / "sweep.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_run_of_the_sweep_is_a_config(root, sweep):
    runs = list(sweep.get_sweep())
    assert len(runs) == 16 == len({tuple(settings.items()) for settings in runs})
    for settings in runs:
        config = load_config(f"{root}/configs/default.py")
        for name, value in settings.items():
            override(config, name, str(value))
        assert flatten(check(config)) | settings == flatten(config)


def test_the_sweep_prints_commands_with_workdirs_of_their_own(sweep):
    lines = list(sweep.commands(["--config=configs/default.py", "--workdir=a b"]))
    assert len(set(lines)) == 16
    assert lines[3].startswith("facedyn run --config=configs/default.py --config.rank_loss.kind=hinge")
    assert lines[3].endswith("'--workdir=a b/003'")
    with pytest.raises(SystemExit, match="--workdir=DIR is missing"):
        list(sweep.commands([]))

"""prepare with worker processes, stopped or killed in the midst of clips: no worker lives on, no finished clip is lost."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, drifting_blob, write_video

from facedyn.main import main

SECONDS = 120  # after which a process that hangs is ended
SOON = 10  # seconds in which a stopped run must have ended, on a busy machine
SHORT, LONG = 3, 3


@pytest.fixture(scope="module")
def flags(root, tmp_path_factory):
    """Flags of prepare in a workdir: some clips that are done at once, then some that would take minutes."""
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "short.avi", drifting_blob(20, 0))
    write_video(folder / "long.avi", np.tile(drifting_blob(50, 1), (600, 1, 1, 1)))
    rows = [f"s{i},p{i},short.avi,true" for i in range(SHORT)] + [f"l{i},q{i},long.avi,true" for i in range(LONG)]
    (folder / "clips.csv").write_text("clip_id,person_id,path,aligned\n" + "\n".join(rows) + "\n")
    settings = TINY | {"data.manifest": folder / "clips.csv", "data.traits": "", "data.workers": 2, "data.shard_mb": 256}

    def make(workdir):
        more = [f"--config.{name}={value}" for name, value in settings.items()]
        return ["prepare", f"--config={root}/configs/videos.py", f"--workdir={workdir}", *more]

    make.folder = folder
    return make


def children(pid) -> set[int]:
    """Ids of the processes that this one started and that live."""
    return {
        int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


def alive(pid) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(found, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_no_worker_and_loses_no_finished_clip(flags, root, tmp_path, number, hear):
    workdir = tmp_path / "w"
    crops, said = workdir / "data" / "crops", tmp_path / "said.txt"
    with open(said, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "facedyn.main", *flags(workdir)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
    try:
        # All short clips are done, and both workers are in the midst of a long one.
        until(lambda: process.poll() is not None or (len([*crops.glob("s*.json")]), len([*crops.glob(".l*")])) == (SHORT, 2))
        assert process.poll() is None, said.read_text()
        workers = children(process.pid)
        assert len(workers) >= 2
        process.send_signal(number)
        code = process.wait(SOON)
    finally:
        process.kill()
        process.wait()
    until(lambda: not any(map(alive, workers)), SOON)
    if number == signal.SIGTERM:
        assert code == 143
        assert said.read_text().splitlines()[-1] == "facedyn: stopped by SIGTERM; the same command continues from here."
        assert "Traceback" not in said.read_text()
        assert list(crops.glob(".*")) == []
    done = len(list(crops.glob("*.json")))
    assert SHORT <= done < SHORT + LONG

    # The rest are short now, so that the test ends soon.
    (flags.folder / "long.avi").replace(flags.folder / "kept.avi")
    try:
        (flags.folder / "long.avi").write_bytes((flags.folder / "short.avi").read_bytes())
        assert main(flags(workdir)) == 0
    finally:
        (flags.folder / "kept.avi").replace(flags.folder / "long.avi")
    assert f"{SHORT} of {SHORT + LONG} clips were processed before" in hear()
    assert (pd.read_parquet(workdir / "quality.parquet").verdict == "ok").all()
    assert not crops.exists()

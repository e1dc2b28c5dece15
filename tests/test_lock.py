"""One run at a time in a workdir: who has it is said, who died is recognised, and two runs at once lose and double nothing."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

from data_pipelines.errors import InputError
from facedyn.main import main
from facedyn.store import lock, representations
from facedyn.store.scores import ScoreKey

SECONDS = 120  # after which a process that hangs is ended
HOLD = """
import sys, time
from facedyn.store import lock

with lock.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold(root, tmp_path):
    """Starts a process that has the folder until it is killed."""
    started = []

    def start(folder):
        command = [sys.executable, "-c", HOLD, str(folder), "--person=secret-id"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)})
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_second_run_says_who_has_the_workdir(hold, arguments, tmp_path, capsys, hear):
    workdir = tmp_path / "w"
    process = hold(workdir)
    assert main(arguments("prepare", workdir)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{workdir} is in use by process {process.pid} on " in said
    assert "secret-id" not in (workdir / "lock").read_text()
    assert [path.name for path in workdir.iterdir()] == ["lock"]
    assert main(arguments("doctor", workdir)) == 0  # which only looks
    assert "secret-id" not in hear()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(arguments("prepare", workdir)) == 0
    assert f"{process.pid} on" in hear()
    assert not (workdir / "lock").exists()


@pytest.mark.slow
def test_a_run_that_may_wait_waits(hold, tmp_path):
    process, said = hold(tmp_path), []
    threading.Timer(2, process.kill).start()
    with lock.held(tmp_path, wait=True, note=said.append):
        assert process.wait(SECONDS) != 0
    assert f"in use by process {process.pid}" in said[0]


def other_hosts_lock(folder, **changes):
    text = dict(pid=1, host="another-machine", command="facedyn run", time="2026-01-01T00:00:00+00:00") | changes
    (folder / "lock").write_text(json.dumps(text))


@pytest.mark.slow
def test_another_machines_lock_counts_as_long_as_it_shows_signs_of_life(tmp_path, monkeypatch):
    """As on a network file system that does not share locks."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.2)
    other_hosts_lock(tmp_path)
    ended = threading.Event()

    def beat():
        while not ended.wait(0.1):
            os.utime(tmp_path / "lock")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(InputError, match=r"in use by process 1 on another-machine \(facedyn run"), lock.held(tmp_path):
            pass
    finally:
        ended.set()
        thread.join()
    said = []
    with lock.held(tmp_path, note=said.append):
        assert lock.holder(tmp_path).pid == os.getpid()
        before = lock._beat(tmp_path / "lock")
        time.sleep(0.6)
        assert lock._beat(tmp_path / "lock") > before
    assert "was ended" in said[0]


def test_without_locks_of_the_system_the_text_is_believed(tmp_path, monkeypatch):
    def none(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", none)
    here = lock.socket.gethostname()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        other_hosts_lock(tmp_path, pid=living.pid, host=here)
        with pytest.raises(InputError, match=f"process {living.pid} on"), lock.held(tmp_path):
            pass
    finally:
        living.kill()
        living.communicate()
    with lock.held(tmp_path):
        assert lock.holder(tmp_path).pid == os.getpid()
    assert not (tmp_path / "lock").exists()


def test_names_of_people_are_not_kept():
    kept = lock.command(["forget", "--person=anna", "--workdir=w", "--person", "ben"])
    assert kept == "facedyn forget --person=... --workdir=w --person ..."


@pytest.mark.slow
def test_two_runs_at_once_lose_and_double_nothing(root, arguments, workdir, tmp_path):
    """Started at random distances; FACEDYN_DOUBLE_STARTS says how often."""
    draw = random.Random(0)
    for number in range(int(os.environ.get("FACEDYN_DOUBLE_STARTS", "2"))):
        place, distance = tmp_path / str(number), draw.choice([0, draw.uniform(0, 1), draw.uniform(0, 12)])
        command = [sys.executable, "-m", "facedyn.main", *arguments("run", place)]
        environment = os.environ | {"PYTHONPATH": str(root)}
        running = []
        try:
            for wait in (distance, 0):
                running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment))
                time.sleep(wait)
            said = [process.communicate(timeout=SECONDS)[0].decode() for process in running]
        finally:
            for process in running:
                process.kill()
                process.wait()
        codes = [process.returncode for process in running]
        assert sorted(codes) in ([0, 2], [0, 0]), (distance, said)
        assert "Traceback" not in "".join(said)
        if 2 in codes:
            assert f"in use by process {running[codes.index(0)].pid} on" in said[codes.index(2)]
        same_result(place, workdir)
        assert main(arguments("run", place)) == 0


def same_result(one, two):
    for folder in ("representations", "representations/halves"):
        parts = pd.concat([pd.read_parquet(p) for p in sorted((one / folder).glob("part-*.parquet"))])
        assert not parts.duplicated(["unit_id", "scale"]).any()
        (rows, vectors), (expected_rows, expected) = (representations.read_parts(w / folder) for w in (one, two))
        assert rows["unit_id"].tolist() == expected_rows["unit_id"].tolist()
        np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    columns = ["stage", *ScoreKey._fields, "trait", "metric"]
    one, two = (pd.read_csv(w / "scores.csv") for w in (one, two))
    assert not one.duplicated(columns).any()
    assert len(one) == len(two)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"), lock.held(tmp_path / "file" / "workdir"):
        pass

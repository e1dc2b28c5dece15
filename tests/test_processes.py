"""Several processes on one workdir, and runs that are killed or asked to stop: what is written is what one quiet run writes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path, sweep
from facedyn.config import config_hash, default_config
from facedyn.main import main
from facedyn.stages.runtime import processes, stopping
from facedyn.store import checkpoints, lock, representations
from facedyn.store.metrics_log import read_metrics

# On top of the settings that all tests share: one scale, one part per person, so that there is time to kill a run between two.
SMALL = dict(
    data__traits="",
    rank_loss__scales="1",
    pretrain__steps=24,
    pretrain__eval_every=8,
    fit__chunk_size=1,
)
SECONDS = 240  # after which a process that hangs is ended
STOPPED = "facedyn: stopped by SIGTERM; the same command continues from here."


@pytest.fixture(scope="module")
def small(arguments):
    """Flags of a run in `workdir`."""
    return lambda stage, workdir, **more: arguments(stage, workdir, **(SMALL | more))


@pytest.fixture(scope="module")
def start(small, root, tmp_path_factory):
    """Starts `count` processes of one stage, of two devices each; whatever the test does, none outlives it."""
    folder, started = tmp_path_factory.mktemp("started"), []
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"  # the last one counts
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}

    def run(stage, workdir, count=1):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{listener.getsockname()[1]}"
        new = []
        for process in range(count):
            more = dict(distributed__coordinator=place, distributed__processes=count, distributed__process=process)
            command = [sys.executable, "-m", "facedyn.main", *small(stage, workdir, **(more if count > 1 else {}))]
            with open(folder / f"{len(started) + process}.txt", "w+") as said:
                new.append(subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment))
            new[-1].said = folder / f"{len(started) + process}.txt"
        started.extend(new)
        return new

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def ended(running) -> list[tuple[int, str]]:
    """(exit code, what it printed) of each, when all have ended."""
    return [(process.wait(SECONDS), process.said.read_text()) for process in running]


def until(found, running):
    """Waits until found() is true; fails when a process ends before, or it takes too long."""
    deadline = time.monotonic() + SECONDS
    while not found():
        assert all(p.poll() is None for p in running), ended(running)
        assert time.monotonic() < deadline
        time.sleep(0.002)


def parts(workdir) -> dict:
    """When each part was written."""
    return {p: p.stat().st_mtime_ns for p in (workdir / "representations").rglob("part-*.parquet")}


def assert_same_tables(one, two):
    for folder in ("representations", "representations/halves"):
        (rows, vectors), (expected_rows, expected) = (representations.read_parts(w / folder) for w in (one, two))
        assert rows["unit_id"].tolist() == expected_rows["unit_id"].tolist()
        assert not rows.duplicated(["unit_id", "scale"]).any()
        assert set(rows["config_hash"]) == set(expected_rows["config_hash"])
        np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        for column in ("n_frames", "ranking_accuracy_fitted", "loss"):
            np.testing.assert_allclose(rows[column], expected_rows[column], rtol=1e-3)


@pytest.mark.slow
def test_processes_of_one_run_are_told_together_who_has_the_workdir(start, tmp_path):
    with lock.held(tmp_path):
        running = start("run", tmp_path, 2)
        for code, said in ended(running):
            assert code == 2, said
            assert f"in use by process {os.getpid()} on" in said
            assert "Traceback" not in said


@pytest.fixture(scope="module")
def by_two(start, tmp_path_factory):
    """A whole run by two processes, stopped once by a SIGTERM to one of them in the midst of pretraining."""
    workdir = tmp_path_factory.mktemp("two") / "w"
    running = start("run", workdir, 2)
    log = workdir / "metrics.jsonl"
    until(lambda: log.is_file() and '"pretrain"' in log.read_text(), running)
    running[1].send_signal(signal.SIGTERM)
    for code, said in ended(running):
        assert code == 143, said
        assert STOPPED in said
    assert not (workdir / "generic" / "scale_1" / "best").exists()
    first, second = ended(start("run", workdir, 2))
    assert (first[0], second[0]) == (0, 0), first[1] + second[1]
    return workdir, first[1], second[1]


@pytest.mark.slow
def test_two_processes_make_what_one_makes(by_two, small, tmp_path):
    workdir, first, second = by_two
    assert "pretrain: scale 1 continues from step" in first
    assert "Report: " in first
    assert "pretrain" not in second  # one process speaks for all
    assert [r["step"] for r in read_metrics(workdir, "pretrain") if "loss" in r] == [8, 16, 24]

    shutil.copytree(workdir / "data", tmp_path / "one" / "data")
    assert main(small("pretrain", tmp_path / "one")) == 0
    ours, alone = (checkpoints.load_pytree(w / "generic" / "scale_1" / "best") for w in (workdir, tmp_path / "one"))
    for a, b in zip(*map(jax.tree.leaves, (ours, alone)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_one_process_goes_on_where_two_began(by_two, small, tmp_path):
    workdir, _, _ = by_two
    shutil.copytree(workdir, tmp_path / "w")
    made = parts(tmp_path / "w")
    assert {p.stem.split("-")[2] for p in made} == {"0", "1"}
    lost = [p for i, p in enumerate(sorted(made)) if i % 3]
    for part in lost:
        part.unlink()
    kept = parts(tmp_path / "w")
    assert main(small("fit", tmp_path / "w", fit__chunk_size=4)) == 0
    assert kept.items() <= parts(tmp_path / "w").items()
    assert_same_tables(tmp_path / "w", workdir)


@pytest.mark.slow
def test_a_fit_killed_and_then_asked_to_stop_ends_with_the_same_table(by_two, small, start, tmp_path):
    whole, _, _ = by_two
    workdir = tmp_path / "w"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "representations")

    running = start("fit", workdir)
    until(lambda: parts(workdir), running)
    running[0].kill()
    assert ended(running)[0][0] == -signal.SIGKILL
    killed = parts(workdir)

    running = start("fit", workdir)
    until(lambda: len(parts(workdir)) > len(killed), running)
    running[0].terminate()
    code, said = ended(running)[0]
    assert code == 143, said
    assert said.rstrip().endswith(STOPPED)
    stopped = parts(workdir)
    assert killed.items() <= stopped.items()
    assert len(stopped) < len(parts(whole))

    assert main(small("fit", workdir)) == 0
    assert stopped.items() <= parts(workdir).items()
    assert_same_tables(workdir, whole)
    assert not list(workdir.glob("representations/.*"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("", 2, -1), "processes=2, config.distributed.process=-1 needs config.distributed.coordinator=HOST:PORT"),
        (("", 0, 1), "process=1 needs config.distributed.coordinator=HOST:PORT"),
        (("auto", 2, 0), "is for config.distributed.coordinator=HOST:PORT"),
        (("here", 2, 0), "coordinator='here' must be HOST:PORT"),
        (("here:9", 0, 0), "processes=0 must say how many"),
        (("here:9", 2, 2), "process=2 must be from 0 to 1"),
        (("here:9", 2, -1), "process=-1 must be from 0 to 1"),
    ],
)
def test_settings_that_do_not_go_together(settings, sentence):
    config = default_config().distributed
    config.coordinator, config.processes, config.process = settings
    with pytest.raises(InputError, match=sentence):
        processes.check(config)


def test_shares_are_disjoint_complete_and_alike():
    weights = np.random.default_rng(0).integers(1, 500, 101).tolist()
    for count in (1, 2, 7):
        shares = [processes.share(weights, index, count) for index in range(count)]
        assert sorted(i for mine in shares for i in mine) == list(range(101))
        loads = [sum(weights[i] for i in mine) for mine in shares]
        assert max(loads) - min(loads) <= max(weights)
    assert processes.share([5], 1, 2) == []


# Process 1 is asked to stop while process 0 is busy, for longer than JAX waits for anyone to leave.
ONE_IS_BUSY = """
import sys, time
from facedyn.config import default_config
from facedyn.stages.runtime import processes, stopping

processes.SHUTDOWN_SECONDS = 2
settings, me = default_config().distributed, int(sys.argv[1])
settings.coordinator, settings.processes, settings.process = sys.argv[2], 2, me
try:
    with stopping.on_sigterm(), processes.session(settings):
        processes.gather("here")
        time.sleep(0 if me else 6)
        if me:
            raise stopping.Stopped
        processes.gather("there")
except stopping.Stopped:
    sys.exit(143)
"""


@pytest.mark.slow
def test_who_is_asked_to_stop_waits_for_one_that_compiles(root, tmp_path):
    (tmp_path / "one_is_busy.py").write_text(ONE_IS_BUSY)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{listener.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    running = [
        subprocess.Popen([sys.executable, tmp_path / "one_is_busy.py", me, place], env=environment, stderr=subprocess.PIPE)
        for me in "01"
    ]
    said = [process.communicate(timeout=SECONDS)[1] for process in running]
    assert [process.returncode for process in running] == [143, 143], said


def test_settings_without_effect_are_not_in_the_hash():
    one, two = default_config(), default_config()
    two.fit.chunk_size, two.fit.memory_gb, two.pretrain.steps_per_call = 7, 1.0, 3
    two.distributed.coordinator, two.distributed.processes, two.distributed.process = "here:9", 2, 1
    assert config_hash(one) == config_hash(two)


def test_sigterm_waits_for_the_part_in_hand_and_leaves_no_handler_behind():
    before, done = signal.getsignal(signal.SIGTERM), []

    def parts_until_asked():
        with stopping.finishing() as asked:
            for part in range(5):
                if asked():
                    break
                if part == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                done.append(part)

    def asked_twice():
        with stopping.finishing():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(SECONDS)

    def asked_with_nothing_in_hand():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS)

    for run in (parts_until_asked, asked_twice, asked_with_nothing_in_hand):
        with pytest.raises(stopping.Stopped), stopping.on_sigterm():
            run()
    assert done == [0, 1]
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_a_killed_write_left_is_swept_and_what_is_being_written_stays(tmp_path):
    (tmp_path / "part-00000.parquet").touch()
    (tmp_path / ".hidden").touch()
    with atomic_path(tmp_path / "part-00001.parquet") as writing:
        killed = writing.with_name(writing.name.replace("00001", "00002"))
        killed.touch()
        os.utime(killed, (0, 0))
        sweep(tmp_path)
        assert writing.exists()
        assert not killed.exists()
        assert [p.name for p in tmp_path.glob("part-*.parquet")] == ["part-00000.parquet"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "part-00000.parquet", "part-00001.parquet"]


def test_checkpoints_that_a_kill_left_unfinished_do_no_harm(tmp_path):
    series = checkpoints.Series(tmp_path)
    for step, accuracy in ((3, 0.5), (6, 0.9), (9, 0.7), (12, 0.6)):
        series.save(step, {"a": np.full(2, step)}, {"ranking_accuracy": accuracy})
    series.save(13, {"a": np.full(2, 13)})  # asked to stop between two evaluations
    series.close()
    assert {p.name for p in tmp_path.iterdir()} == {"6", "13"}  # the best and the newest
    shutil.copytree(tmp_path / "6", tmp_path / "14.orbax-checkpoint-tmp")  # killed while it was written
    shutil.copytree(tmp_path / "6", tmp_path / "3")  # killed while it was deleted
    shutil.rmtree(tmp_path / "3" / "metrics")
    series = checkpoints.Series(tmp_path)
    assert (series.latest_step(), series.best_step()) == (13, 6)
    assert series.restore(13, {"a": np.zeros(2, int)})["a"].tolist() == [13, 13]
    series.save(15, {"a": np.full(2, 15)}, {"ranking_accuracy": 0.8})
    series.close()
    assert {p.name for p in tmp_path.iterdir()} == {"6", "15"}


def test_a_pytree_replaces_another_whole(tmp_path):
    checkpoints.save_pytree(tmp_path / "best", {"a": np.ones(2)})
    (tmp_path / "best.orbax-checkpoint-tmp").mkdir()  # a killed write
    checkpoints.save_pytree(tmp_path / "best", {"a": np.zeros(2)})
    assert checkpoints.load_pytree(tmp_path / "best")["a"].tolist() == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["best"]

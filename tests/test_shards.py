"""`fit --shard`: processes that know nothing of each other make the table that one makes, and stay out of others' way."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from test_processes import SECONDS, assert_same_tables
from test_site_stage import SETTINGS

from data_pipelines.errors import InputError
from facedyn.main import main
from facedyn.stages import shards
from facedyn.stages.runtime import processes
from facedyn.store import lock, representations
from facedyn.store.scores import load_scores


@pytest.fixture
def fresh(workdir, tmp_path):
    """A workdir whose fit is still to be done."""
    copy = tmp_path / "w"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "representations")
    return copy


def test_shards_one_after_the_other_make_what_one_process_makes(fresh, workdir, arguments, hear):
    table = fresh / "representations"
    for number in (1, 0):
        assert main([*arguments("fit", fresh), f"--shard={number}/2"]) == 0
        said = hear()
        assert f"shard {number} of 2 is done" in said
        assert "without --shard makes the scores" in said
        if number:
            first = representations.read_rows(table)
            assert 0 < len(first) < len(representations.read_rows(workdir / "representations"))
            assert f"{len(first)} of 24 rows" in said
    parts = {path: path.stat().st_mtime_ns for path in table.rglob("part-*")}
    assert {path.stem.rpartition("-")[2] for path in parts} == {"shard0of2", "shard1of2"}
    assert main(arguments("fit", fresh)) == 0
    assert {path: path.stat().st_mtime_ns for path in table.rglob("part-*")} == parts  # nothing was left to be fitted
    assert_same_tables(fresh, workdir)
    ours, theirs = (load_scores(w).query("stage == 'fit'").reset_index(drop=True) for w in (fresh, workdir))
    assert ours.drop(columns=["value", "low", "high"]).equals(theirs.drop(columns=["value", "low", "high"]))
    np.testing.assert_allclose(ours["value"].astype(float), theirs["value"].astype(float), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_shards_at_once_make_what_one_process_makes(fresh, arguments, root, tmp_path):
    alone, settings = tmp_path / "alone", SETTINGS | dict(fit__controls="", fit__chunk_size=1)
    shutil.copytree(fresh, alone)
    for folder in (fresh, alone):  # their fit was another one
        for stamp in (folder / "stages").glob("fit*"):
            stamp.unlink()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "facedyn.main", *arguments("fit", fresh, **settings), f"--shard={number}/2"],
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        for number in range(2)
    ]
    try:
        assert main(arguments("fit", alone, **settings)) == 0
        assert [process.wait(SECONDS) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert_same_tables(fresh, alone)
    for place in ("representations", "representations/halves", "representations/first_0.4_seconds/halves"):
        own = [len(pd.read_parquet(part)) for part in (fresh / place).glob("part-*")]
        (rows, vectors), (_, expected) = (representations.read_parts(folder / place) for folder in (fresh, alone))
        assert sum(own) == len(rows) > 0  # nobody was fitted by both
        np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_a_shard_that_has_its_rows_does_nothing_and_any_number_may_go_on(fresh, arguments):
    assert main([*arguments("fit", fresh), "--shard=0/3"]) == 0
    parts = sorted((fresh / "representations").rglob("part-*"))
    assert main([*arguments("fit", fresh), "--shard=0/3"]) == 0
    assert sorted((fresh / "representations").rglob("part-*")) == parts
    assert main(arguments("fit", fresh)) == 0  # alone, with what is left
    assert not representations.read_rows(fresh / "representations").duplicated(["unit_id", "scale"]).any()


def test_shards_run_beside_each_other_and_beside_nothing_else(tmp_path):
    one, two = shards.read("0/2"), shards.read("1/2")
    begun = []
    with shards.held(tmp_path, one, lambda: begun.append(lock.holder(tmp_path))):
        assert begun[0] is not None  # WORKDIR was held meanwhile
        assert processes.shard() == one
        with shards.held(tmp_path, two, lambda: None):
            assert processes.shard() == two
            with pytest.raises(InputError, match="0of2 is in use by process"):
                shards.refuse_running(tmp_path)
        with pytest.raises(InputError, match="0of2 is in use"), shards.held(tmp_path, one, lambda: None):
            pass
    assert processes.shard() is None
    shards.refuse_running(tmp_path)


def test_another_stage_is_refused_while_a_shard_runs(fresh, arguments, capsys):
    with shards.held(fresh, shards.read("0/2"), lambda: None):
        for stage in ("fit", "traits"):
            assert main(arguments(stage, fresh)) == 2
            assert "shards/0of2 is in use by process" in capsys.readouterr().err


def test_what_everybody_needs_is_learnt_by_one_at_a_time(tmp_path):
    with shards.learning(tmp_path):
        assert not (tmp_path / shards.FOLDER).exists()  # no shard, no lock
    with processes.as_shard(shards.read("0/2")), shards.learning(tmp_path):
        assert lock.holder(tmp_path / shards.FOLDER / shards.LEARNING) is not None


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "0/0", "1/2/3"])
def test_what_is_no_shard(text):
    with pytest.raises(InputError, match="must be I/N with I from 0 to N - 1"):
        shards.read(text)


def test_shards_and_a_coordinator_do_not_go_together(fresh, arguments, capsys):
    more = dict(distributed__coordinator="127.0.0.1:9911", distributed__processes=2, distributed__process=0)
    assert main([*arguments("fit", fresh, **more), "--shard=0/2"]) == 2
    assert "--shard takes the place of config.distributed" in capsys.readouterr().err


def test_the_units_of_all_shards_are_all_units():
    items = list(range(3, 20))
    found = []
    for index in range(3):
        with processes.as_shard(processes.Shard(index, 3)):
            found.append(processes.own_partition(items, float))
            assert processes.writer() == f"shard{index}of3"
    assert sorted(item for own in found for item in own) == items
    assert max(map(sum, found)) - min(map(sum, found)) <= max(items)

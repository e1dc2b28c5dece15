"""The stage pretrain: stopped or killed it ends with the same model, and steps taken in one call change nothing."""

import os
import shutil
import signal
from functools import partial

import jax
import numpy as np
import pytest

from facedyn.command_line import parse
from facedyn.main import main
from facedyn.stages import pretrain
from facedyn.stages.runtime import common, processes
from facedyn.store import checkpoints, metrics_log
from facedyn.store.metrics_log import read_metrics


def test_pretraining_stopped_and_killed_ends_with_the_same_model(arguments, workdir, tmp_path, monkeypatch, capsys, hear):
    shutil.copytree(workdir / "data", tmp_path / "w" / "data")
    flags = arguments("pretrain", tmp_path / "w", rank_loss__scales=1)
    _, config, _ = parse(flags)
    vote, votes = processes.Vote.__call__, []

    def asked_to_stop_before_the_second_step(self, asked):
        votes.append(asked)
        if len(votes) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return vote(self, asked)

    monkeypatch.setattr(processes.Vote, "__call__", asked_to_stop_before_the_second_step)
    assert main(flags) == 143
    assert capsys.readouterr().err.endswith("facedyn: stopped by SIGTERM; the same command continues from here.\n")
    assert votes == [False, True]
    assert checkpoints.Series(common.generic_dir(tmp_path / "w", 1) / "steps").latest_step() == 1
    monkeypatch.undo()
    write = metrics_log.MetricsLog.write

    def killed(self, step, **figures):
        if step == 6:
            raise KeyboardInterrupt
        write(self, step, **figures)

    monkeypatch.setattr(metrics_log.MetricsLog, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(config, tmp_path / "w")
    monkeypatch.undo()
    pretrain.run(config, tmp_path / "w")
    assert "continues from step 3" in hear()
    resumed, whole = (pretrain.load_generic(config, w, 1)["params"] for w in (tmp_path / "w", workdir))
    for name in ("encoder_0", "head"):
        for a, b in zip(*(sorted(np.ravel(x) for x in _leaves(p[name])) for p in (resumed, whole))):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert [r["step"] for r in read_metrics(tmp_path / "w", "pretrain")] == [3, 6]


def _leaves(tree):
    return [float(np.sum(leaf * np.arange(leaf.size).reshape(leaf.shape))) for leaf in jax.tree.leaves(tree)]


def test_steps_in_one_call_change_nothing(workdir, arguments, tmp_path):
    """Evaluations, checkpoints and the end come where they come with one step a call."""
    found = {}
    for calls in (1, 4, 7):
        more = dict(pretrain__steps=10, pretrain__eval_every=4, pretrain__steps_per_call=calls, rank_loss__scales="1")
        place = tmp_path / str(calls)
        assert main(arguments("pretrain", place, data__data_dir=workdir / "data", **more)) == 0
        lines = [line for line in read_metrics(place, "pretrain") if "scale" in line]
        _, config, _ = parse(arguments("pretrain", place, **more))
        found[calls] = lines, pretrain.load_generic(config, place, 1)
    for lines, params in found.values():
        assert [line["step"] for line in lines] == [4, 8, 10]
        for name in ("loss", "ranking_accuracy"):
            np.testing.assert_allclose([x[name] for x in lines], [x[name] for x in found[1][0]], rtol=1e-4, err_msg=name)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), params, found[1][1])


@pytest.mark.parametrize(("steps", "every"), [(10, 4), (30, 16), (7, 7), (100, 9), (5, 50)])
def test_calls_end_at_every_evaluation_and_few_lengths_are_compiled(steps, every):
    for most in range(1, 12):
        ends, lengths, step = [], set(), 0
        while step < steps:
            lengths.add(pretrain.steps_of_call(step, most, every, steps))
            step += pretrain.steps_of_call(step, most, every, steps)
            ends.append(step)
        assert ends[-1] == steps
        assert set(range(every, steps, every)) <= set(ends)
        assert len(lengths) <= 3
        assert max(lengths) <= most

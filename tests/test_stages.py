"""The whole way on twelve small people: what a run leaves behind, how it goes on after a kill, what it refuses."""

import json
import os
import shutil
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import copy_before_fit

import facedyn
from data_pipelines.dataset.face_clips import FaceClipsReader
from data_pipelines.errors import InputError
from facedyn.command_line import STAGES, parse
from facedyn.core import unet
from facedyn.main import main
from facedyn.stages import pretrain, run
from facedyn.stages.fit import batching, fit_scores, iterative, shared
from facedyn.stages.fit.units import FitUnit, frames_of, plan, split_centres
from facedyn.stages.runtime import common, processes
from facedyn.store import checkpoints, metrics_log, representations
from facedyn.store.metrics_log import read_metrics
from facedyn.store.scores import COLUMNS


@pytest.fixture
def pretrained(workdir, tmp_path):
    """A copy of the run before its fit."""
    return copy_before_fit(workdir, tmp_path / "w")


def test_a_run_leaves_tables_that_need_no_code_of_ours(workdir):
    parts = sorted((workdir / "representations").glob("part-*.parquet"))
    table = pd.concat([pd.read_parquet(p) for p in parts])
    assert list(table.columns) == [name for name, _ in representations.COLUMNS] + ["representation"]
    assert len(table) == 12 * 2
    assert not table.duplicated(["unit_id", "scale"]).any()
    rows, vectors = facedyn.load_representations(workdir)
    assert vectors.shape == (24, 4 * 4 + 6 * 6)
    assert rows["finite"].all()
    assert (np.abs(vectors).max(1) > 0).all()
    assert rows["ranking_accuracy_fitted"].between(0, 1).all()
    scores = facedyn.load_scores(workdir)
    assert tuple(scores.columns) == COLUMNS
    of_test = (scores["stage"] == "pretrain") & (scores["scales"] == "1") & (scores["split"] == "test")
    controls = scores[of_test].set_index("method")["value"]
    assert set(controls.index) == {"generic", "zero_map", "copy_input", "untrained", "oracle_dynamic_image"}
    assert controls["zero_map"] == 0.5
    assert controls["oracle_dynamic_image"] > 0.9
    assert {"top1", "mrr"} <= set(scores.loc[scores["method"] == "split_half", "metric"])
    traits = scores[(scores["stage"] == "traits") & (scores["method"] == "representation")]
    # All twelve people are scored, and four of them taught the generic model.
    assert set(traits["note"]) == {"transductive"}
    assert (workdir / "report" / "index.html").stat().st_size > 10_000
    stamp = json.loads((workdir / "stages" / "fit.json").read_text())
    assert stamp["config"]["fit.steps"] == 3
    assert stamp["versions"]["jax"]
    assert [r["step"] for r in read_metrics(workdir, "pretrain") if r.get("scale") == 2] == [3, 6]
    for stage in run.ORDER:
        assert read_metrics(workdir, stage)[-1]["seconds"] > 0
    fitted = [r for r in read_metrics(workdir, "fit") if r.get("scale") == 2 and "half" not in r]
    assert fitted[-1]["step"] == 12
    assert fitted[-1].keys() >= {"loss", "ranking_accuracy_generic", "ranking_accuracy_fitted", "units_per_second"}


def test_a_second_run_does_nothing_again(arguments, workdir, hear):
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("part-*.parquet")}
    assert main(arguments("run", workdir)) == 0
    said = hear()
    for stage in ("pretrain", "fit", "traits", "report"):
        assert f"{stage}: done before, unchanged" in said
    assert "Report: " in said
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("part-*.parquet")}


@pytest.mark.slow
def test_a_fit_killed_between_parts_loses_nobody_and_doubles_nobody(arguments, workdir, pretrained, monkeypatch):
    write, calls = representations.write_part, []

    def killed_at_the_third(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(write(*args))
        return calls[-1]

    monkeypatch.setattr(representations, "write_part", killed_at_the_third)
    assert main(arguments("fit", pretrained)) == 130
    monkeypatch.undo()
    kept = {p: p.stat().st_mtime_ns for p in calls}
    # Another chunk size is allowed: it does not change what comes out.
    assert main(arguments("fit", pretrained, fit__chunk_size=3)) == 0
    assert kept == {p: p.stat().st_mtime_ns for p in calls}
    rows, vectors = facedyn.load_representations(pretrained)
    expected_rows, expected = facedyn.load_representations(workdir)
    assert rows["unit_id"].tolist() == expected_rows["unit_id"].tolist()
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    halves, _ = representations.read_parts(pretrained / "representations" / "halves")
    assert len(halves) == 12 * 2 * 2
    assert not halves.duplicated(["unit_id", "scale"]).any()


def test_controls_are_fitted_beside_and_may_be_added_later(arguments, workdir, tmp_path, hear):
    shutil.copytree(workdir, tmp_path / "w")
    controls = {"fit__controls": "time_shuffled,untrained"}
    assert main(arguments("fit", tmp_path / "w", **controls)) == 0
    assert hear().count("12 of 12 units are in the table already") == 2 * 3  # scales, halves
    rows, vectors = facedyn.load_representations(workdir)
    np.testing.assert_array_equal(facedyn.load_representations(tmp_path / "w")[1], vectors)
    fitted = tuple(controls["fit__controls"].split(","))
    for control in fitted:
        own_rows, own = representations.read_parts(tmp_path / "w" / "representations" / control)
        assert own_rows["unit_id"].tolist() == rows["unit_id"].tolist()
        assert (np.abs(own - vectors).max(1) > 1e-6).all()
    scores = facedyn.load_scores(tmp_path / "w")
    of_fit = scores[scores["stage"] == "fit"]
    for method in ("split_half", *fitted):
        metrics = set(of_fit.loc[of_fit["method"] == method, "metric"])
        assert {"top1", "mrr", "within_distance", "between_distance", "icc"} <= metrics
    assert main(arguments("traits", tmp_path / "w", **controls)) == 0
    scores = facedyn.load_scores(tmp_path / "w")
    of_traits = set(scores.loc[scores["stage"] == "traits", "method"])
    assert {*fitted, "generic_feature", "representation_minus_time_shuffled"} <= of_traits
    assert main(arguments("fit", tmp_path / "w", fit__controls="shuffled")) == 2


def test_time_shuffled_windows_are_cut_from_frames_of_the_same_part_of_the_clip():
    rows = np.array([(record, c) for record in (0, 2) for c in range(2, 20)])
    sources = {0: np.arange(40), 2: np.arange(40)}  # more frames than the part's own
    ordered, shuffled = (batching.place_windows(rows, sources, 1, 2, seed) for seed in (None, 3))
    for record, own in ((0, ordered[:18]), (2, ordered[18:])):
        assert set(own.flat) == set(range(40 * (record > 0), 40 * (record > 0) + 22))
    moved = dict(zip(ordered.flat, shuffled.flat))
    np.testing.assert_array_equal(np.vectorize(moved.get)(ordered), shuffled)  # a frame goes to one place only
    for first in (0, 40):  # and to none of another clip, nor of another part of its own
        own = set(range(first, first + 22))
        assert {moved[frame] for frame in own} == own
        assert sum(moved[frame] == frame for frame in own) < 8


def test_people_are_told_apart_across_sessions(tmp_path, arguments):
    rng, rows, vectors = np.random.default_rng(0), [], []
    for person in range(8):
        own = rng.normal(size=6)
        for session in ("a", "b", "c")[: 1 + (person > 0) + (person > 3)]:
            rows.append(dict.fromkeys((n for n, _ in representations.COLUMNS), 0.5))
            rows[-1] |= dict(unit_id=f"p{person}/{session}", person_id=f"p{person}", task="", session=session, scale=1)
            rows[-1] |= dict(n_frames=9, finite=True, config_hash="")
            vectors.append(own + 0.01 * rng.normal(size=6))
    representations.write_part(tmp_path, rows, np.array(vectors, np.float32))
    config = parse(arguments("fit", tmp_path, fit__unit="session"))[1]
    found = fit_scores.score_rows(config, tmp_path, shared.features(config))
    top1 = next(row for row in found if row["method"] == "cross_session" and row["metric"] == "top1")
    assert (top1["value"], top1["n"]) == (1.0, 7)  # p0 was seen once


def test_a_half_written_part_is_not_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(representations.pq, "write_table", lambda table, path, **_: (path.write_bytes(b"PAR1"), 1 / 0))
    row = dict.fromkeys((name for name, _ in representations.COLUMNS), None) | {"unit_id": "p", "scale": 1}
    with pytest.raises(ZeroDivisionError):
        representations.write_part(tmp_path, [row], np.zeros((1, 3)))
    assert list(tmp_path.iterdir()) == []


def test_changed_settings_are_refused_by_name(arguments, workdir, capsys):
    assert main(arguments("fit", workdir, fit__steps=4)) == 2
    error = capsys.readouterr().err
    assert "fit.steps was 3, is 4" in error
    assert error.count("\n") == 1
    assert main(arguments("pretrain", workdir, rank_loss__margin=2.0)) == 2
    assert "rank_loss.margin was 1.0, is 2.0" in capsys.readouterr().err


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


@pytest.mark.slow
def test_a_person_whose_fit_diverges_is_marked_and_the_others_are_untouched(arguments, workdir, pretrained, monkeypatch, hear):
    frames, encode = FaceClipsReader.frames, unet.encode

    def white(self, record, positions):
        found = frames(self, record, positions)
        return np.full_like(found, 255) if self.clips[record].person_id == "p08" else found

    def bursts_on_white(model, params, images):
        bad = (images == 255).all((1, 2, 3))[:, None, None, None]
        return jax.tree.map(lambda f: jnp.where(bad, jnp.nan, f), encode(model, params, images))

    monkeypatch.setattr(FaceClipsReader, "frames", white)
    monkeypatch.setattr(unet, "encode", bursts_on_white)
    iterative._compile_steps.cache_clear()  # of the U-net as it was
    assert main(arguments("fit", pretrained)) == 0
    monkeypatch.undo()
    iterative._compile_steps.cache_clear()
    said = hear()
    assert "fit: the filters of p08 became infinite or NaN" in said
    assert said.count("became infinite or NaN") == 1
    (rows, vectors), (expected_rows, expected) = (facedyn.load_representations(w) for w in (pretrained, workdir))
    assert set(rows.loc[~rows["finite"], "unit_id"]) == {"p08"}
    others = (rows["unit_id"] != "p08").to_numpy()
    np.testing.assert_allclose(vectors[others], expected[others], rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    pd.testing.assert_frame_equal(rows[others], expected_rows[others], rtol=1e-4)
    scores = facedyn.load_scores(pretrained)
    assert set(scores.loc[scores["stage"] == "fit", "n"]) == {11}
    assert main(arguments("traits", pretrained)) == 0
    assert "2 representations are not finite and are left out: p08 (scale 1), p08 (scale 2)" in hear()
    predictions = pd.read_parquet(pretrained / "traits" / "predictions.parquet")
    assert set(predictions["person_id"]) == set(rows["person_id"]) - {"p08"}


def test_people_too_short_are_named_and_left_out(arguments, pretrained, hear):
    assert main(arguments("fit", pretrained, fit__min_frames=80, fit__split_half="false")) == 0
    said = hear()
    assert "fit: p00 has" in said
    rows, _ = facedyn.load_representations(pretrained)
    assert "p00" not in set(rows["unit_id"])
    assert "p11" in set(rows["unit_id"])


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


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"fit__unit": "family"}, "config.fit.unit is 'family'; it must be one of person"),
        ({"fit__solver": "magic"}, "config.fit.solver is 'magic'; it must be one of least_squares"),
        ({"fit__filter_kind": "odd"}, "config.fit.filter_kind is 'odd'; it must be one of low_rank"),
        ({"fit__splits": "holdout"}, "no split 'holdout'; it has test, train, validation"),
        ({"fit__min_frames": 10_000}, "No fit unit has config.fit.min_frames=10000"),
    ],
)
def test_settings_that_cannot_be(arguments, pretrained, capsys, more, sentence):
    assert main(arguments("fit", pretrained, **more)) == 2
    assert sentence in capsys.readouterr().err


def test_stages_out_of_order_say_what_to_run_first(arguments, tmp_path, capsys):
    assert main(arguments("fit", tmp_path / "new")) == 2
    assert "run the stage prepare first" in capsys.readouterr().err


def test_held_back_rows_share_no_frame_with_fitted_ones(workdir, arguments):
    _, config, _ = parse(arguments("fit", workdir))
    face_clips = common.open_data(workdir / "data", config)
    settings = dict(unit="person", scale=2, half_length=2, held_back=0.2, max_frames=500, min_frames=4)
    units, _ = plan(face_clips, range(len(face_clips.clips)), **settings)
    halves = [plan(face_clips, range(len(face_clips.clips)), **settings, half=h)[0] for h in (1, 2)]

    def frames(rows):
        return {(record, centre + k) for record, centre in rows for k in (-4, -2, 0, 2, 4)}

    for unit, first, second in zip(units, *halves):
        assert len(unit.held_back)
        assert not frames(unit.fitted) & frames(unit.held_back)
        assert not frames(first.fitted) & frames(second.fitted)
        of_halves, of_unit = (set(map(tuple, rows)) for rows in (np.concatenate([first.fitted, second.fitted]), unit.fitted))
        assert of_halves <= of_unit
        assert abs(len(first.fitted) - len(second.fitted)) <= 4


def test_centres_are_split_with_a_gap_or_not_at_all():
    centres = np.arange(10, 50)
    first, last = split_centres(centres, 4, 0.25)
    assert last[0] - first[-1] > 8
    assert len(last) == 8
    short, none = split_centres(np.arange(6), 4, 0.25)
    assert len(short) == 6
    assert len(none) == 0


def made_up_units(lengths):
    rows = [np.array([(0, 2 + k) for k in range(n)], np.int32).reshape(-1, 2) for n in lengths]
    return [{batching.WHOLE: FitUnit(f"p{i}", f"p{i}", "", "", own, own[:0])} for i, own in enumerate(rows)]


@pytest.mark.parametrize("lengths", [(500, 3, 20, 77), (16, 16), (7, 1), (1,), ()])
def test_padded_shapes_are_few_and_cover_everyone(lengths):
    units = made_up_units(lengths)
    shapes = batching.shapes_of([(1, units), (2, units[:1])], half_length=2)
    assert len(shapes) <= 4
    assert list(shapes) == sorted(set(shapes))
    found = batching.chunks_of(units, dict.fromkeys(shapes, len(lengths) or 1))
    assert sorted(parts[batching.WHOLE].unit_id for *_, own in found for parts in own) == sorted(
        parts[batching.WHOLE].unit_id for parts in units
    )
    for shape, _, own in found:
        assert all(len(parts[batching.WHOLE].fitted) <= shape.rows for parts in own)
        frames = [frames_of(parts[batching.WHOLE].fitted, 1, 2).values() for parts in own]
        assert all(sum(map(len, of_unit)) <= shape.frames for of_unit in frames)


def test_chunks_hold_everyone_once():
    units = made_up_units(range(10, 21))
    shapes = batching.shapes_of([(1, units)], half_length=2)
    chunks = batching.chunks_of(units, dict(zip(shapes, (3, 4, 5))))
    assert sorted(u[batching.WHOLE].unit_id for _, _, grouped in chunks for u in grouped) == sorted(
        u[batching.WHOLE].unit_id for u in units
    )
    for shape, people, grouped in chunks:
        assert len(grouped) <= people
        assert all(len(u[batching.WHOLE].fitted) <= shape.rows for u in grouped)


def test_windows_of_loaded_units_are_the_clips_own(workdir, arguments):
    _, config, _ = parse(arguments("fit", workdir))
    face_clips = common.open_data(workdir / "data", config)
    rows = np.array([(3, 12), (0, 9), (3, 14), (0, 30)], np.int32)
    whole, half = (FitUnit("p", "p", "", "", own, own[:1]) for own in (rows, rows[2:]))
    sources = [batching.sources_of(parts, 2, 2) for parts in ({batching.WHOLE: whole, (2, 0.0): half}, {(2, 0.0): half})]
    frames = batching.load_frames(face_clips, sources, 3, 40)
    streamed = np.concatenate(list(batching.stream_frames(face_clips, sources, 7)))
    before = 0
    for own, sources_of_unit in zip(frames, sources):
        n = sum(map(len, sources_of_unit.values()))
        np.testing.assert_array_equal(own[:n], streamed[before : before + n])
        before += n
    batch = batching.batch_of(frames, [whole, half], sources, batching.Shape(6, 2, 40), 2, 2)
    assert batch.shape == (6, 2, 40)
    assert batch.fitted.count.tolist() == [4, 2, 0]
    assert batch.held.count.tolist() == [1, 1, 0]
    assert batch.fitted.windows.shape == (3, 6, 5)
    for p, own in enumerate((rows, rows[2:])):
        for row, (record, centre) in enumerate(own):
            expected = face_clips.frames(record, centre + 2 * np.arange(-2, 3))
            np.testing.assert_array_equal(frames[p, batch.fitted.windows[p, row]], expected)


def test_order_of_stages_is_the_command_line_s():
    assert [s for s in STAGES if s not in ("run", "doctor", "plan")] == list(run.ORDER)
    with pytest.raises(InputError):
        common.records_of(type("D", (), {"clips": ()})(), ("test",))


def test_a_setting_younger_than_a_workdir_counts_as_its_default(workdir, arguments, tmp_path, hear):
    shutil.copytree(workdir, tmp_path / "w")
    for path in (tmp_path / "w" / "stages").glob("pretrain*.json"):
        stamp = json.loads(path.read_text())
        assert stamp["relevant"].pop("data.synthetic.same_appearance") is False
        path.write_text(json.dumps(stamp))
    assert main(arguments("run", tmp_path / "w")) == 0
    assert "pretrain: done before, unchanged" in hear()

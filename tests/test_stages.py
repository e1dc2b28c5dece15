"""The whole way on twelve small people: what a run leaves behind, how it goes on after a kill, what it refuses."""

import json
import shutil

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
from facedyn.stages import run
from facedyn.stages.fit import fit_scores, iterative, shared
from facedyn.stages.runtime import common
from facedyn.store import representations
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

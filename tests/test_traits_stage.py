import json

import fake_workdir as fake
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from data_pipelines.errors import InputError
from facedyn.core.trait_heads import predict
from facedyn.stages import common, trait_features, traits
from facedyn.store import checkpoints
from facedyn.store.representations import load_representations
from facedyn.store.scores import load_scores, parse_setting

N = 40  # people, in every test the same, so that they share the compilation
HEADLINE = "ridge;scales=1+2;tasks=all;fusion=features"


@pytest.fixture
def run_stage(tmp_path, monkeypatch, capsys):
    """Runs the stage on planted tables: run(labels, rows, vectors, **settings) -> (summary, scores, printed text)."""

    def run(labels, rows, vectors, trait_names=fake.TRAITS, **settings):
        fake.write_table(tmp_path, rows, vectors)
        monkeypatch.setattr(common, "open_face_clips", lambda _: fake.FakeFaceClips(labels, trait_names))
        summary = traits.run(fake.small_config(**settings), tmp_path)
        return summary, load_scores(tmp_path), capsys.readouterr().out

    return run


def mean_pcc(scores, method="representation", setting=HEADLINE):
    chosen = scores[(scores["trait"] == "mean") & (scores["metric"] == "pcc")]
    return chosen[(chosen["method"] == method) & (chosen["setting"] == setting)].iloc[0]


def test_planted_signal_is_found_and_every_setting_scored(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=N)
    summary, scores, _ = run_stage(labels, rows, vectors)
    headline = mean_pcc(scores)
    assert headline["value"] > 0.6
    assert headline["low"] > 0.3
    assert headline["n"] == N
    assert summary["pcc"] == pytest.approx(headline["value"], abs=1e-5)
    for method, setting in (("mean_face", "ridge"), ("mean_predictor", "")):
        row = mean_pcc(scores, method, setting)
        assert row["low"] < 0.15
        assert row["value"] < 0.25

    settings = set(scores[scores["method"] == "representation"]["setting"])
    fused = {f"ridge;scales={s};tasks=all;fusion={f}" for s in ("1", "2", "1+2") for f in ("features", "predictions")}
    fused |= {f"ridge;scales=1+2;tasks={t};fusion={f}" for t in fake.TASKS for f in ("features", "predictions")}
    single = {f"ridge;scales={s};tasks={t}" for s in "12" for t in fake.TASKS}
    assert settings == fused | single | {HEADLINE.replace("ridge", "mlp")}
    assert set(scores["metric"]) == {"pcc", "ccc", "acc", "rmse", "r2"}
    assert set(scores["trait"]) == {*fake.TRAITS, "mean"}
    assert (scores["low"] <= scores["high"]).all()

    # The table of scores and the predictions tell the same story, and prediction fusion is the average of its members.
    table = pd.read_parquet(tmp_path / "traits" / "predictions.parquet")
    table = table[table["method"] == "representation"]
    wide = table[table["trait"] == "openness"].pivot(index="person_id", columns="setting", values="prediction")
    members = wide[[f"ridge;scales=1;tasks={t}" for t in fake.TASKS]].mean(axis=1)
    np.testing.assert_allclose(wide["ridge;scales=1;tasks=all;fusion=predictions"], members, rtol=1e-5)
    scores = scores[scores["method"] == "representation"]
    one = table[(table["setting"] == HEADLINE) & (table["trait"] == "openness")]
    stored = scores[(scores["setting"] == HEADLINE) & (scores["trait"] == "openness") & (scores["metric"] == "pcc")][
        "value"
    ].iloc[0]
    assert np.corrcoef(one["label"], one["prediction"])[0, 1] == pytest.approx(stored, abs=1e-4)
    assert one.groupby("person_id")["fold"].nunique().max() == 1
    np.testing.assert_allclose(one.set_index("person_id")["label"].sort_index(), labels[:, 1], rtol=1e-5)

    # The stored heads work on the raw representations.
    described = json.loads((tmp_path / "traits" / "heads" / "heads.json").read_text())
    frame, matrix = load_representations(tmp_path)
    blocks = trait_features.blocks_by_person(frame, matrix, fake.people_ids(N))
    for name in ("ridge", "mlp"):
        assert described[name]["traits"] == list(fake.TRAITS)
        x = np.concatenate([blocks[scale, task] for scale, task in described[name]["blocks"]], 1)
        predicted = np.asarray(predict(checkpoints.load_pytree(tmp_path / "traits" / "heads" / name), jnp.asarray(x)))
        assert np.corrcoef(predicted[:, 0], labels[:, 0])[0, 1] > 0.8


def test_permuted_labels_give_nothing(run_stage):
    labels, rows, vectors = fake.planted(n=N)
    _, scores, _ = run_stage(np.random.default_rng(5).permutation(labels), rows, vectors, traits__heads=("ridge",))
    row = mean_pcc(scores)
    assert row["low"] < 0 < row["high"]


def test_units_that_span_tasks_and_the_generic_models_pool(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=N, tasks=("",))
    fake.write_stamp(tmp_path, "pretrain", fake.small_config(), people=["p003", "x001"])
    _, scores, out = run_stage(labels, rows, vectors, traits__heads=("ridge",))
    settings = set(scores[scores["method"] == "representation"]["setting"])
    assert settings == {
        "ridge;scales=1;tasks=all;transductive",
        "ridge;scales=2;tasks=all;transductive",
        "ridge;scales=1+2;tasks=all;fusion=features;transductive",
        "ridge;scales=1+2;tasks=all;fusion=predictions;transductive",
    }
    assert "1 of 40 people were in the generic model's pool" in out
    assert not any(parse_setting(s)["transductive"] for s in scores[scores["method"] == "mean_face"]["setting"])


def test_what_is_left_out_is_said(run_stage):
    labels, rows, vectors = fake.planted(n=N + 2)
    labels[4] = np.nan  # nobody scores p004
    labels[6:10, 1] = np.nan
    vectors[0] = np.nan  # p000, talk, scale 1
    gone = [i for i, row in enumerate(rows) if row["person_id"] == "p002"]
    rows, vectors = [r for i, r in enumerate(rows) if i not in gone], np.delete(vectors, gone, 0)
    _, scores, out = run_stage(labels, rows, vectors, traits__heads=("ridge",))
    assert "1 representations are not finite and are left out: p000/talk (scale 1)" in out
    assert "1 people have labels but no representation and are left out: p002" in out
    assert "1 people have no representation of scale 1, task talk: p000" in out
    own = scores[(scores["metric"] == "pcc") & (scores["method"] == "representation")]
    people = own.set_index(["setting", "trait"])["n"]
    assert people[HEADLINE, "extraversion"] == N
    assert people[HEADLINE, "openness"] == N - 4
    assert people["ridge;scales=1;tasks=talk", "extraversion"] == N - 1


@pytest.mark.parametrize(
    ("trait_names", "known", "reason"),
    [((), 0, "names no trait column"), (fake.TRAITS, 0, "has a label"), (fake.TRAITS, 3, "6 people with a label")],
)
def test_without_labels_the_stage_skips_and_says_why(run_stage, tmp_path, trait_names, known, reason):
    labels, rows, vectors = fake.planted(n=10)
    fake.write_pretraining(tmp_path)
    labels[known:] = np.nan
    summary, scores, out = run_stage(labels[:, : len(trait_names)], rows, vectors, trait_names)
    assert reason in summary["skipped"]
    assert f"traits: skipped, {summary['skipped']}" in out
    assert "traits" not in set(scores["stage"])
    assert len(scores) > 0
    assert not (tmp_path / "traits" / "predictions.parquet").exists()


def test_settings_that_cannot_be_are_refused(run_stage):
    labels, rows, vectors = fake.planted(n=10)
    for name, value in (("heads", ("rigde",)), ("folds", 1), ("penalties", (0.0,))):
        with pytest.raises(InputError, match=f"config.traits.{name}="):
            run_stage(labels, rows, vectors, **{f"traits__{name}": value})

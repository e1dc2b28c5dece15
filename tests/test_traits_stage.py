import functools

import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipelines.errors import InputError
from facedyn.stages.runtime import common
from facedyn.stages.traits import saved_heads, traits_stage
from facedyn.stages.traits.trait_predictions import FUSIONS
from facedyn.store.representations import load_representations
from facedyn.store.scores import ScoreKey, load_scores, rows_of_key, score_rows

N = 40  # people, in every test the same, so that they share the compilation
HEADLINE = ScoreKey("representation", "ridge", scales="1+2", tasks="all", fusion="features")


@pytest.fixture
def run_stage(tmp_path, monkeypatch, hear):
    """Runs the stage on planted tables: run(labels, rows, vectors, **settings) -> (summary, scores, printed text)."""

    def run(labels, rows, vectors, trait_names=fake.TRAITS, splits=(), **settings):
        fake.write_table(tmp_path, rows, vectors)
        monkeypatch.setattr(common, "open_face_clips", lambda _, **__: fake.FakeFaceClips(labels, trait_names, splits=splits))
        summary = traits_stage.run(fake.small_config(**settings), tmp_path)
        return summary, load_scores(tmp_path), hear()

    return run


def mean_pcc(scores, key=HEADLINE):
    return rows_of_key(scores[(scores["trait"] == "mean") & (scores["metric"] == "pcc")], key).iloc[0]


def keys_of(scores, method="representation"):
    return {row.key for row in score_rows(scores[scores["method"] == method])}


def predictions_of(workdir, key, trait="openness"):
    """Predictions of a method in traits/predictions.parquet, by person."""
    table = pd.read_parquet(workdir / "traits" / "predictions.parquet")
    for column in set(table.columns) & set(key._fields) - {"seed"}:
        table = table[table[column] == getattr(key, column)]
    return table[table["trait"] == trait].set_index("person_id").sort_index()


def test_planted_signal_is_found_and_every_setting_scored(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=N)
    summary, scores, _ = run_stage(labels, rows, vectors)
    headline = mean_pcc(scores)
    assert headline["value"] > 0.6
    assert headline["low"] > 0.3
    assert headline["n"] == N
    banded = mean_pcc(scores, HEADLINE._replace(head="banded_ridge"))  # which leads
    assert banded["value"] > 0.6
    assert summary["pcc"] == pytest.approx(banded["value"], abs=1e-5)
    assert headline["verdict"] == banded["verdict"] == "usable"
    for key in (ScoreKey("mean_face", "ridge"), ScoreKey("mean_predictor")):
        row = mean_pcc(scores, key)
        assert row["verdict"] == ""
        assert row["low"] < 0.15
        assert row["value"] < 0.25

    fused = {HEADLINE._replace(scales=s, fusion=f) for s in ("1", "2", "1+2") for f in FUSIONS}
    fused |= {HEADLINE._replace(tasks=t, fusion=f) for t in fake.TASKS for f in FUSIONS}
    single = {HEADLINE._replace(scales=s, tasks=t, fusion="") for s in "12" for t in fake.TASKS}
    assert keys_of(scores) == fused | single | {HEADLINE._replace(head=head) for head in ("mlp", "banded_ridge")}
    assert set(scores["metric"]) == {"pcc", "ccc", "acc", "rmse", "r2", "pcc_sd"}
    assert set(scores["trait"]) == {*fake.TRAITS, "mean"}
    spread = scores[scores["metric"] == "pcc_sd"]
    assert list(spread["head"]) == ["mlp"]
    assert 0 < spread["value"].iloc[0] < 0.2
    assert (scores["low"] <= scores["high"])[scores["metric"] != "pcc_sd"].all()

    # The table of scores and the predictions tell the same story, and prediction fusion is the average of its members.
    of_scale = HEADLINE._replace(scales="1")
    members = [predictions_of(tmp_path, of_scale._replace(tasks=t, fusion=""))["prediction"] for t in fake.TASKS]
    averaged = predictions_of(tmp_path, of_scale._replace(fusion="predictions"))["prediction"]
    np.testing.assert_allclose(averaged, np.mean(members, 0), rtol=1e-5)
    one = predictions_of(tmp_path, HEADLINE)
    stored = rows_of_key(scores[(scores["trait"] == "openness") & (scores["metric"] == "pcc")], HEADLINE)["value"].iloc[0]
    assert np.corrcoef(one["label"], one["prediction"])[0, 1] == pytest.approx(stored, abs=1e-4)
    assert one.index.is_unique
    np.testing.assert_allclose(one["label"], labels[:, 1], rtol=1e-5)

    folds = pd.read_csv(tmp_path / "traits" / "folds.csv")
    np.testing.assert_array_equal(folds["person_id"], fake.people_ids(N))
    np.testing.assert_array_equal(folds["fold"], one["fold"].loc[fake.people_ids(N)])


def test_weights_go_back_to_scale_task_and_site(run_stage, tmp_path, hear):
    labels, rows, vectors = fake.planted(n=N, d=20)
    vectors[:, :4] = np.random.default_rng(1).normal(size=(len(vectors), 4))  # skip0 holds nothing, the bottleneck all
    run_stage(labels, rows, vectors, model__channels=(2, 4), model__groups=2, traits__heads=("ridge",), traits__baselines=())
    table = pd.read_csv(tmp_path / saved_heads.WEIGHTS_BY_SITE)
    assert tuple(table.columns) == saved_heads.WEIGHT_COLUMNS
    assert len(table) == len(fake.TRAITS) * 2 * len(fake.TASKS) * 2
    by_site = table.groupby(["trait", "site"])[["weights", "share_of_squared_weights", "share_of_prediction"]].sum()
    for trait in fake.TRAITS:
        assert by_site.loc[trait].sum().tolist() == pytest.approx([80, 1.0, 1.0], abs=1e-4)
        assert by_site.loc[(trait, "bottleneck"), "share_of_prediction"] > 0.9
    other, heads = fake.small_config(model__channels=(2, 3)), saved_heads.load_heads(tmp_path)
    saved_heads.write_weights_by_site(other, tmp_path, heads, np.zeros((N, 80)))
    assert not (tmp_path / saved_heads.WEIGHTS_BY_SITE).exists()
    assert "representations have 20 weights, config.model.channels and config.fit's filters 13" in hear()


def test_saved_heads_predict_new_people(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=2 * N, noise=0.3)
    known = [i for i, row in enumerate(rows) if row["person_id"] < f"p{N:03d}"]
    run_stage(labels[:N], [rows[i] for i in known], vectors[known])
    heads = saved_heads.load_heads(tmp_path)
    new = [i for i in range(len(rows)) if i not in known]
    lacking = [i for i in new if not (rows[i]["person_id"] == "p050" and rows[i]["task"] == "talk")]
    frame = pd.DataFrame([rows[i] for i in lacking])
    for name in ("ridge", "mlp"):
        head = heads[name]
        assert head.traits == fake.TRAITS
        assert head.key == HEADLINE._replace(head=name)
        assert head.blocks == tuple((scale, task) for scale in (1, 2) for task in fake.TASKS)
        people, predicted = head.predict(frame, vectors[lacking])
        assert people == fake.people_ids(2 * N)[N:]
        for t in range(2):
            assert np.corrcoef(predicted[:, t], labels[N:, t])[0, 1] > 0.8
    # One person alone is predicted as among others, also when one task is all that there is.
    alone = [i for i in lacking if rows[i]["person_id"] == "p050"]
    _, single = head.predict(pd.DataFrame([rows[i] for i in alone]), vectors[alone])
    np.testing.assert_allclose(single[0], predicted[people.index("p050")], rtol=1e-4)
    with pytest.raises(InputError, match="have 23 values, the saved head expects 24"):
        head.predict(frame, vectors[lacking][:, 1:])
    with pytest.raises(InputError, match="no trait heads"):
        saved_heads.load_heads(tmp_path / "elsewhere")


def test_permuted_labels_give_nothing(run_stage):
    labels, rows, vectors = fake.planted(n=N)
    _, scores, _ = run_stage(np.random.default_rng(5).permutation(labels), rows, vectors, traits__heads=("ridge",))
    row = mean_pcc(scores)
    assert row["low"] < 0 < row["high"]


def test_units_that_span_tasks_and_the_generic_models_pool(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=N, tasks=("",))
    fake.write_stamp(tmp_path, "pretrain", fake.small_config(), people=["p003", "x001"])
    _, scores, out = run_stage(labels, rows, vectors, traits__heads=("ridge",))
    seen = HEADLINE._replace(note="transductive")
    assert keys_of(scores) == {
        *(seen._replace(scales=s, fusion="") for s in "12"),
        *(seen._replace(fusion=f) for f in FUSIONS),
    }
    assert "1 of 40 people also trained the generic model" in out
    assert keys_of(scores, "mean_face") == {ScoreKey("mean_face", "ridge")}


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
    people = {(row.key, row.trait): row.n for row in score_rows(own)}
    assert people[HEADLINE, "extraversion"] == N
    assert people[HEADLINE, "openness"] == N - 4
    assert people[HEADLINE._replace(scales="1", tasks="talk", fusion=""), "extraversion"] == N - 1


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
    for name, value in (("heads", ("rigde",)), ("folds", 1), ("penalties", (0.0,)), ("protocol", "loo"), ("seeds", (1, 1))):
        with pytest.raises(InputError, match=f"config.traits.{name} "):
            run_stage(labels, rows, vectors, **{f"traits__{name}": value})


# Protocols


def small(run_stage, labels, rows, vectors, **settings):
    return run_stage(labels, rows, vectors, **({"traits__heads": ("ridge",), "traits__penalties": (10.0, 1000.0)} | settings))


def test_leave_one_out_finds_signal_and_says_nothing_without(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=24, scales=(1,))
    summary, scores, _ = small(run_stage, labels, rows, vectors, traits__protocol="leave_one_out")
    assert summary["folds"] == 24
    headline = HEADLINE._replace(scales="1")
    assert mean_pcc(scores, headline)["low"] > 0.3
    assert (
        abs(mean_pcc(scores, ScoreKey("mean_predictor"))["value"]) < 1e-3
    )  # not -1, which is what the training means' drift gives
    assert pd.read_csv(tmp_path / "traits" / "folds.csv")["fold"].nunique() == 24
    assert abs(mean_pcc(scores, headline._replace(method="permuted_labels"))["value"]) < 0.2
    alone = dict(traits__protocol="leave_one_out", traits__baselines=(), traits__fused_baselines=())
    noise = [
        mean_pcc(small(run_stage, *other, **alone)[1], headline)["value"]
        for other in ((np.random.default_rng(seed).permutation(labels), rows, vectors) for seed in range(4))
    ]
    assert abs(np.mean(noise)) < 0.2


def test_official_splits_train_on_theirs_and_score_on_test_alone(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=N)
    splits = ["train"] * 20 + ["validation"] * 4 + ["test"] * (N - 24)
    run = functools.partial(small, run_stage, traits__protocol="official")
    summary, scores, _ = run(labels, rows, vectors, splits=splits)
    assert (summary["people"], summary["folds"]) == (N - 24, 1)
    assert mean_pcc(scores)["n"] == N - 24
    assert mean_pcc(scores)["value"] > 0.5
    table = pd.read_parquet(tmp_path / "traits" / "predictions.parquet")
    assert set(table["person_id"]) == set(fake.people_ids(N)[24:])
    assert set(scores[scores["trait"] == "mean"]["n"]) == {N - 24}  # baselines and differences too
    assert {"representation_minus_mean_face", "permuted_labels", "representation+linear_dynamics"} <= set(scores["method"])
    folds = pd.read_csv(tmp_path / "traits" / "folds.csv")
    assert list(folds["fold"]) == [-1] * 24 + [0] * (N - 24)
    # The saved head is the one that was scored: no test person's label is in it.
    people, predicted = saved_heads.load_heads(tmp_path)["ridge"].predict(*load_representations(tmp_path))
    own = predictions_of(tmp_path, HEADLINE)["prediction"]
    np.testing.assert_allclose(predicted[24:, 1], own.loc[people[24:]], atol=1e-4)

    with pytest.raises(InputError, match="'p003' is in both"):
        run(labels, rows, vectors, splits=[("train", "test") if i == 3 else s for i, s in enumerate(splits)])
    with pytest.raises(InputError, match="people with a representation in the split 'test'"):
        run(labels, rows, vectors, splits=["train"] * N)


def test_clips_are_predicted_one_by_one_and_averaged_by_person(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=N, noise=1.0)
    for row in rows:  # a unit a clip: the person's clip of each task
        row["unit_id"] = f"{row['person_id']}-{row['task']}-0"
    headline = HEADLINE._replace(aggregate="clip")
    settings = dict(traits__aggregate="clip", fit__unit="clip")
    _, scores, _ = small(run_stage, labels, rows, vectors, **settings)
    assert {headline, headline._replace(scales="1", tasks="talk", fusion="")} <= keys_of(scores)
    row = mean_pcc(scores, headline)
    assert (row["n"], row["low"] > 0.1) == (N, True)

    # A plain loop over folds with the same rows: both clips of a person are in the same fold.
    small(run_stage, labels, rows, vectors, **settings | {"traits__penalties": (100.0, 100.0)})
    table = pd.read_parquet(tmp_path / "traits" / "predictions.parquet")
    fused = table[table["method"] == "representation+linear_dynamics"]
    assert fused.groupby(["fusion", "trait"])["person_id"].nunique().eq(N).all()
    assert (set(fused["fusion"]), set(fused["aggregate"])) == ({"features", "predictions"}, {"clip"})
    own = predictions_of(tmp_path, headline)
    frame, matrix = load_representations(tmp_path)
    clips = sorted(set(frame["unit_id"]))
    x = np.concatenate(
        [matrix[[np.flatnonzero((frame["unit_id"] == c) & (frame["scale"] == s))[0] for c in clips]] for s in (1, 2)], 1
    )
    person = np.array([c.split("-")[0] for c in clips])
    y, fold = labels[[int(p[1:]) for p in person], 1], own["fold"].loc[person].to_numpy()
    predicted = np.zeros(len(clips))
    for k in range(fold.max() + 1):
        model = make_pipeline(StandardScaler(), Ridge(100.0)).fit(x[fold != k], y[fold != k])
        predicted[fold == k] = model.predict(x[fold == k])
    expected = pd.Series(predicted, person).groupby(level=0).mean()
    np.testing.assert_allclose(own["prediction"], expected.loc[own.index], atol=1e-4)
    with pytest.raises(InputError, match="needs several units per person"):
        small(run_stage, labels, rows, vectors, traits__aggregate="clip")


def test_several_repeats_of_the_folds_are_averaged(run_stage, tmp_path):
    labels, rows, vectors = fake.planted(n=N, scales=(1,), noise=1.0)
    headline = HEADLINE._replace(scales="1")
    _, scores, _ = small(run_stage, labels, rows, vectors, traits__seeds=(0, 4))
    single = [mean_pcc(scores, headline._replace(method="fold_seed", seed=seed))["value"] for seed in "04"]
    assert mean_pcc(scores, headline)["value"] == pytest.approx(np.mean(single), abs=1e-4)
    assert single[0] != single[1]
    folds = pd.read_csv(tmp_path / "traits" / "folds.csv").pivot(index="person_id", columns="seed", values="fold")
    assert (folds[0] != folds[4]).any()
    _, alone, _ = small(run_stage, labels, rows, vectors, traits__seeds=(4,))
    assert mean_pcc(alone, headline)["value"] == pytest.approx(single[1], abs=1e-5)


def test_findings_are_paired_differences_of_choices_made_in_the_folds(run_stage):
    """One task and one scale hold the labels, the others noise: every question has a known answer."""
    labels, rows, vectors = fake.planted(n=N, noise=0.4)
    noise = np.random.default_rng(3).normal(size=vectors.shape).astype(np.float32)
    silent = np.array([row["task"] == "watch" or row["scale"] == 2 for row in rows])
    _, scores, _ = small(run_stage, labels, rows, np.where(silent[:, None], noise, vectors))
    matters = mean_pcc(scores, HEADLINE._replace(method="finding_task_matters", tasks="best"))
    assert matters["low"] > 0.2
    best, worst = HEADLINE._replace(tasks="talk"), HEADLINE._replace(tasks="watch")
    difference = mean_pcc(scores, best)["value"] - mean_pcc(scores, worst)["value"]
    assert matters["value"] == pytest.approx(difference, abs=1e-5)
    for fusion in FUSIONS:
        whole = HEADLINE._replace(fusion=fusion)
        finding = mean_pcc(scores, whole._replace(method="finding_fused_tasks"))
        against = best._replace(fusion=fusion)
        difference = mean_pcc(scores, whole)["value"] - mean_pcc(scores, against)["value"]
        assert finding["value"] == pytest.approx(difference, abs=1e-5)
        assert finding["high"] < 0.15  # nothing is to be gained from a task of noise
        assert mean_pcc(scores, whole._replace(method="finding_multi_scale"))["high"] < 0.15

"""Clips scored by themselves (traits.aggregate = 'none'), and the official split whose people are on both sides of it."""

import dataclasses

import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipelines.errors import InputError
from facedyn.report.tables import describe
from facedyn.stages import embedder
from facedyn.stages.runtime import common
from facedyn.stages.traits import saved_heads, traits_stage
from facedyn.store.representations import load_representations
from facedyn.store.scores import ScoreKey, load_scores, rows_of_key

N, CLIPS, D = 30, 4, 40  # people, clips each, values of a representation
HEADLINE = ScoreKey("representation", "ridge", scales="1", tasks="all", aggregate="none")


class Clips(fake.FakeFaceClips):
    """Four clips a person, each with its own label [N, 4, T] and split [4]."""

    def __init__(self, labels, splits):
        super().__init__(labels[:, 0])
        self.clips = tuple(
            dataclasses.replace(
                clip, traits=labels[k // CLIPS, k % CLIPS].astype(np.float32), split=splits[k // CLIPS][k % CLIPS]
            )
            for k, clip in enumerate(self.clips)
        )


@pytest.fixture
def score(tmp_path, monkeypatch, hear):
    """score(labels, vectors [N, 4, D], splits [N][4], **settings) -> (summary, scores, printed text)."""

    def run(labels, vectors, splits, **settings):
        clips = Clips(labels, splits)
        rows = [fake.table_row(c.person_id, "", 1, np.random.default_rng(0)) | dict(unit_id=c.clip_id) for c in clips.clips]
        fake.write_table(tmp_path, rows, np.asarray(vectors, np.float32).reshape(-1, D))
        monkeypatch.setattr(common, "open_face_clips", lambda _, **__: clips)
        chosen = dict(traits__aggregate="none", fit__unit="clip", traits__heads=("ridge",), traits__penalties=(100.0, 100.0))
        summary = traits_stage.run(fake.small_config(**chosen | settings), tmp_path)
        return summary, load_scores(tmp_path), hear()

    return run


def mean_pcc(scores, key=HEADLINE):
    chosen = rows_of_key(scores[(scores["trait"] == "mean") & (scores["metric"] == "pcc")], key)
    return next(chosen.itertuples())


def planted(rng, noise=1.0):
    """Labels of clips [N, 4, 2] around their person's, and representations [N, 4, D] that hold them."""
    labels = rng.normal(size=(N, 1, 2)) + 0.5 * rng.normal(size=(N, CLIPS, 2))
    return labels, labels @ rng.normal(size=(2, D)) + noise * D**0.5 * rng.normal(size=(N, CLIPS, D))


def by_people(train, test):
    """Splits that keep people apart."""
    return [[split] * CLIPS for split in ["train"] * train + ["test"] * test]


def test_every_clip_is_predicted_from_the_training_peoples_clips_and_scored(score, tmp_path):
    labels, vectors = planted(np.random.default_rng(0), 0.5)
    few = dict(traits__baselines=("mean_predictor", "mean_face", "permuted_labels"), traits__permutations=4)
    summary, scores, out = score(labels, vectors, by_people(20, 10), traits__protocol="official", **few)
    model = make_pipeline(StandardScaler(), Ridge(100.0)).fit(vectors[:20].reshape(-1, D), labels[:20].reshape(-1, 2))
    expected, truth = model.predict(vectors[20:].reshape(-1, D)), labels[20:].reshape(-1, 2)
    table = pd.read_parquet(tmp_path / "traits" / "predictions.parquet")
    own = table[(table["method"] == "representation") & (table["scales"] == "1") & (table["trait"] == "openness")]
    assert set(own["aggregate"]) == {"none"}
    assert (own["unit_id"].str[:4] == own["person_id"]).all()
    np.testing.assert_allclose(own.set_index("unit_id")["prediction"].sort_index(), expected[:, 1], atol=1e-4)
    row = mean_pcc(scores)
    pcc = [np.corrcoef(expected[:, t], truth[:, t])[0, 1] for t in range(2)]
    assert (row.value, row.n) == (pytest.approx(np.mean(pcc), abs=1e-4), 10)
    assert summary["headline"] == HEADLINE._asdict()
    assert summary["people"] == 10
    assert "people_overlap" not in out + "".join(scores["note"])
    folds = pd.read_csv(tmp_path / "traits" / "folds.csv")
    assert list(folds.columns) == ["seed", "person_id", "unit_id", "fold"]
    assert len(folds) == N * CLIPS
    assert {"mean_face", "mean_predictor", "permuted_labels", "representation+linear_dynamics"} <= set(scores["method"])
    rows, stored = load_representations(tmp_path)
    rows.loc[rows["unit_id"] == "p021-talk-0", "finite"] = False
    heads = saved_heads.load_heads(tmp_path)
    units, predicted = heads["ridge"].predict(rows, stored)
    assert units == sorted(rows["unit_id"])
    unknown = units.index("p021-talk-0")
    assert np.isnan(predicted[unknown]).all()
    np.testing.assert_allclose(np.delete(predicted[80:], unknown - 80, 0), np.delete(expected, unknown - 80, 0), atol=1e-4)
    embedded = embedder.predict(heads, rows, stored)
    assert (embedded["unit_id"].str[:4] == embedded["person_id"]).all()
    assert len(embedded) == 2 * (N * CLIPS - 1)


def test_folds_are_by_person_and_intervals_too(score, tmp_path):
    """A person's clip four times over: as many figures, no more certainty."""
    rng = np.random.default_rng(1)
    labels, vectors = (np.repeat(x[:, :1], CLIPS, 1) for x in planted(rng))
    baselines = dict(traits__baselines=("mean_predictor",), traits__fused_baselines=())
    _, scores, _ = score(labels, vectors, by_people(0, N), **baselines)
    folds = pd.read_csv(tmp_path / "traits" / "folds.csv")
    assert folds.groupby("person_id")["fold"].nunique().max() == 1
    assert folds["fold"].nunique() == 5
    clips = mean_pcc(scores)
    _, scores, _ = score(labels, vectors, by_people(0, N), traits__aggregate="clip", **baselines)
    people = mean_pcc(scores, HEADLINE._replace(aggregate="clip"))
    assert clips.n == people.n == N
    assert clips.value == pytest.approx(people.value, abs=1e-4)
    assert (clips.low, clips.high) == (pytest.approx(people.low, abs=1e-3), pytest.approx(people.high, abs=1e-3))


def test_people_on_both_sides_are_allowed_flagged_and_shown_as_a_leak(score, tmp_path):
    """Representations that tell who it is and nothing else: the official split finds labels, folds by person do not."""
    rng = np.random.default_rng(2)
    labels = rng.normal(size=(N, 1, 2)) + 0.2 * rng.normal(size=(N, CLIPS, 2))
    vectors = np.repeat(rng.normal(size=(N, 1, D)), CLIPS, 1) + 0.1 * rng.normal(size=(N, CLIPS, D))
    splits = [["train", "train", "validation", "test"]] * (N - 6) + by_people(3, 3)
    weak = dict(traits__penalties=(1.0, 1.0), traits__baselines=("mean_predictor", "same_identity"), traits__fused_baselines=())
    summary, scores, out = score(labels, vectors, splits, traits__protocol="official", **weak)
    assert out.count("24 of 27 people in test are in training too") == 1
    of_stage = scores[scores["stage"] == "traits"]
    assert set(of_stage["note"]) == {"people_overlap"}
    assert mean_pcc(scores, HEADLINE.noting("people_overlap")).value > 0.6
    key = ScoreKey("same_identity", note="people_overlap")
    looked_up = mean_pcc(scores, key)
    train = labels[:24, :3].mean(1)
    everyone = np.concatenate([labels[:24, :3].reshape(-1, 2), labels[24:27].reshape(-1, 2)]).mean(0)
    predicted = np.concatenate([train, np.repeat(everyone[None], 3 * CLIPS, 0)])
    truth = np.concatenate([labels[:24, 3], labels[27:].reshape(-1, 2)])
    expected = np.mean([np.corrcoef(predicted[:, t], truth[:, t])[0, 1] for t in range(2)])
    assert looked_up.value == pytest.approx(expected, abs=1e-4)
    assert looked_up.n == 27
    assert "representation_minus_same_identity" in set(of_stage["method"])
    assert describe(key) == ("same-identity look-up", "people overlap")
    table = pd.read_parquet(tmp_path / "traits" / "predictions.parquet")
    assert summary["headline"]["note"] == "people_overlap"
    assert set(table["note"]) == {"people_overlap"}

    _, scores, out = score(labels, vectors, splits, **weak)
    assert "people_overlap" not in out + "".join(scores["note"])
    assert mean_pcc(scores).value < 0.35


def test_what_the_official_split_cannot_score_is_refused(score):
    labels, vectors = planted(np.random.default_rng(3))
    splits = [["train", "train", "test", "test"]] * N
    with pytest.raises(
        InputError, match=r"needs people in training or in test, but 'p000' is in both .* traits.aggregate='none'"
    ):
        score(labels, vectors, splits, traits__protocol="official", traits__aggregate="clip")
    with pytest.raises(InputError, match="'none' needs several units per person"):
        score(labels, vectors, splits, fit__unit="person")

"""Baselines: their features against plain loops and limit cases, and what the protocol lets them see."""

import itertools

import cv2
import fake_workdir as fake
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from data_pipelines.errors import InputError
from facedyn.config import check
from facedyn.core import cross_validation as cv
from facedyn.core import identification, metrics, unet
from facedyn.stages.traits import (
    baselines,
    clip_features,
    comparisons,
    trait_features,
    trait_predictions,
    trait_protocol,
    trait_scores,
)
from facedyn.store.scores import ScoreKey


def moving_run(frames=40, size=12, seed=0):
    """A run whose pixels drift as a few slow tracks: float32 [T, size, size]."""
    rng = np.random.default_rng(seed)
    tracks = np.cumsum(rng.normal(size=(frames, 3)), 0)
    return (0.5 + 0.02 * tracks @ rng.normal(size=(3, size * size))).reshape(frames, size, size).astype(np.float32)


def test_runs_end_where_a_frame_is_missing():
    frame_indices = np.array([0, 1, 2, 5, 6, 9])
    assert [frame_indices[run].tolist() for run in clip_features.runs(frame_indices)] == [[0, 1, 2], [5, 6], [9]]
    assert clip_features.runs(np.array([], int)) == []


def test_the_ranking_machine_is_a_ridge_on_the_order_of_frames():
    run = moving_run()
    x = run.reshape(len(run), -1).astype(float)
    power = ((x - x.mean(0)) ** 2).sum(1).mean()
    expected = Ridge(alpha=0.1 * power, fit_intercept=True).fit(x, np.arange(len(x))).coef_
    found = clip_features.rank_pooling(run)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_allclose(clip_features.rank_pooling(run[::-1]), -found, atol=1e-5)
    assert np.corrcoef(x @ found, np.arange(len(x)))[0, 1] > 0.9
    # With a stiff ridge it is the approximate rank pooling of dynamic images.
    approximate = ((2 * np.arange(len(x)) - len(x) + 1)[:, None] * x).sum(0)
    stiff = clip_features.rank_pooling(run, 1e6)
    np.testing.assert_allclose(stiff, approximate / np.linalg.norm(approximate), atol=1e-4)
    for still in (np.full((9, 4, 4), 0.5, np.float32), run[:1]):
        assert (clip_features.rank_pooling(still) == 0).all()


@pytest.mark.parametrize("scale", [1, 3])
def test_dynamic_images_equal_a_loop_over_windows(scale):
    run = moving_run()
    found = clip_features.dynamic_images(run, 2, scale)
    expected = [
        sum(k * run[t + k * scale].astype(float) for k in range(-2, 3)) / 10 for t in range(2 * scale, len(run) - 2 * scale)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    backwards = clip_features.dynamic_images(run[::-1], 2, scale)
    np.testing.assert_allclose(
        clip_features.signed_means(backwards), np.roll(clip_features.signed_means(found), 144), atol=1e-6
    )
    assert len(clip_features.dynamic_images(run[: 4 * scale], 2, scale)) == 0


def test_principal_images_are_those_of_the_movement_not_of_the_looks():
    runs = [moving_run(seed=s) + 0.3 * s for s in range(3)]
    found = clip_features.principal_images(runs, 4)
    centred = np.concatenate([run.reshape(len(run), -1) - run.reshape(len(run), -1).mean(0) for run in runs])
    expected = PCA(4).fit(centred).components_
    np.testing.assert_allclose(np.abs((found.T * expected).sum(1)), 1, atol=1e-3)
    few = clip_features.principal_images([runs[0][:, :1, :2]], 4)
    assert (few[:, 2:] == 0).all()
    np.testing.assert_allclose(few[:, :2].T @ few[:, :2], np.eye(2), atol=1e-5)


def test_linear_dynamics_equal_plain_correlations():
    rng = np.random.default_rng(0)
    track = np.cumsum(rng.normal(size=(200, 3)), 0)
    found = clip_features.linear_dynamics([track + 5], lags=(1, 4))
    centred = track - track.mean(0)
    np.testing.assert_allclose(found[:3], track.std(0), rtol=1e-5)
    for i, lag in enumerate((1, 4)):
        expected = (centred[lag:] * centred[:-lag]).mean(0) / centred.var(0)
        np.testing.assert_allclose(found[3 + 3 * i : 6 + 3 * i], expected, rtol=1e-5)
    steps = np.diff(track, axis=0)
    second_moments = steps.T @ steps
    spread = np.sqrt(np.diagonal(second_moments))
    np.testing.assert_allclose(found[9:], (second_moments / np.outer(spread, spread))[[0, 0, 1], [1, 2, 2]], rtol=1e-5)


def test_shuffled_frames_leave_linear_dynamics_only_the_spread():
    track = np.cumsum(np.random.default_rng(1).normal(size=(2000, 2)), 0)
    shuffled = np.random.default_rng(2).permutation(track)
    before, after = (clip_features.linear_dynamics([t]) for t in (track, shuffled))
    np.testing.assert_allclose(before[:2], after[:2], rtol=1e-5)
    assert (before[2:10] > 0.9).all()
    assert (np.abs(after[2:10]) < 0.1).all()


def test_linear_dynamics_of_still_and_of_short_runs():
    still = clip_features.linear_dynamics([np.ones((20, 2))])
    assert (still == 0).all()
    short = clip_features.linear_dynamics([np.arange(6.0).reshape(3, 2) ** 2])
    assert np.isfinite(short[:4]).all()  # spread and lag 1; lag 2 has a single pair
    assert np.isnan(short[6:10]).all()  # lags 4 and 8


def test_optical_flow_is_farneback_on_a_grid():
    random = np.random.default_rng(0)
    texture = cv2.GaussianBlur(random.uniform(size=(32, 48)).astype(np.float32), (0, 0), 2)
    texture = (texture - texture.min()) / np.ptp(texture)
    run = np.stack([texture[:, 8 - t : 40 - t] for t in range(6)])  # everything moves a pixel to the right
    found = clip_features.optical_flow([run]).reshape(6, 4, 4)
    np.testing.assert_allclose(found[0, 1:3, 1:3], 1, atol=0.2)
    assert found[1:4].max() < 0.3
    frames = np.round(run * 255).astype(np.uint8)
    flows = [cv2.calcOpticalFlowFarneback(a, b, None, *clip_features.FLOW) for a, b in itertools.pairwise(frames)]
    magnitude = np.linalg.norm(flows, axis=-1)[:, 8:16, 24:32].mean((1, 2))
    np.testing.assert_allclose(found[4:, 1, 3], (magnitude.mean(), magnitude.std()), rtol=1e-4)
    assert (clip_features.optical_flow([np.full((3, 16, 16), 0.5, np.float32)]) == 0).all()
    assert np.isnan(clip_features.optical_flow([run[:1]])).all()


def test_the_generic_feature_does_not_know_the_order_of_frames():
    model = unet.UNet((4, 6), groups=2)
    params = unet.init(model, jax.random.key(0), 8)
    frames = np.random.default_rng(0).integers(0, 255, (9, 8, 8, 3), np.uint8)
    found = baselines._pooled(model, params, frames)
    assert found.shape == (10,)
    np.testing.assert_allclose(baselines._pooled(model, params, frames[::-1]), found, atol=1e-5)
    by_frame = np.mean([baselines._pooled(model, params, frame[None]) for frame in frames], 0)
    np.testing.assert_allclose(by_frame, found, atol=1e-5)


def test_what_a_person_s_other_clips_tell():
    labels = np.array([[1.0, 5], [3, np.nan], [8, 6], [4, 7]])
    found, differ = comparisons.other_clips_mean(np.array([0, 0, 0, 1]), labels)
    np.testing.assert_allclose(found, [[5.5, 6], [4.5, 5.5], [2, 5], [np.nan, np.nan]])
    assert differ
    assert not comparisons.other_clips_mean(np.array([0, 0]), np.ones((2, 1)))[1]


def test_permuted_labels_keep_the_folds_balanced():
    people, labels = fake.people_ids(60), np.random.default_rng(0).normal(size=(60, 2))
    fold = cv.person_folds(people, 10, 0, labels)
    found = comparisons.permuted_labels(labels, people, fold, 3)
    assert sorted(map(tuple, found)) == sorted(map(tuple, labels))
    assert (found == labels).all(1).mean() < 0.2
    means = np.stack([found[fold == k].mean(0) for k in range(10)])
    assert np.abs(means - labels.mean(0)).max() < 0.05
    uneven = np.minimum(fold, 1)
    found = comparisons.permuted_labels(labels, people, uneven, 3)
    assert sorted(map(tuple, found)) == sorted(map(tuple, labels))


def test_permuted_labels_of_clips_go_from_person_to_person():
    clips, labels = np.repeat(fake.people_ids(12), 3), np.arange(36.0)[:, None]  # a person's labels lie within three
    found = comparisons.permuted_labels(labels, list(clips), np.tile([-1, 0, 0], 12), 0)[:, 0]
    source = found.reshape(12, 3) // 3
    assert (source == source[:, :1]).all()
    assert sorted(source[:, 0]) == list(range(12))


def test_two_feature_sets_of_unequal_width_have_the_same_say():
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(size=(30, 60)), rng.normal(size=(30, 4))
    for both in (baselines.side_by_side(wide, narrow), baselines.side_by_side(narrow, wide)):
        assert both.shape == (30, 120)
    together = baselines.side_by_side(wide, narrow)
    np.testing.assert_allclose(together @ together.T, wide @ wide.T + 15 * narrow @ narrow.T)


def test_a_paired_bootstrap_equals_a_loop_over_the_same_people():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(30, 2)).astype(np.float32)
    both = (labels + rng.normal(size=(2, 1, 30, 2))).astype(np.float32)
    key, n = jax.random.key(3), 40
    value, low, high = metrics.bootstrap(
        metrics.trait_metric_differences, labels, jnp.asarray(both), jnp.arange(30), key, n, n_people=30
    )

    def difference(rows, t):
        y, one, other = labels[rows, t], both[0, 0, rows, t], both[1, 0, rows, t]
        return np.corrcoef(y, one)[0, 1] - np.corrcoef(y, other)[0, 1]

    np.testing.assert_allclose(value[0, 0], difference(np.arange(30), 0), atol=1e-5)
    drawn = []
    for own in jax.random.split(key, metrics.keys_needed(n))[1 : n + 1]:
        rows = np.repeat(np.arange(30), np.asarray(metrics.resampled_people(own, 30)).astype(int))
        drawn.append(np.mean([difference(rows, t) for t in (0, 1)]))
    np.testing.assert_allclose((low[0, 2], high[0, 2]), np.percentile(drawn, (2.5, 97.5)), atol=1e-4)
    np.testing.assert_allclose(value[:, 2], value[:, :2].mean(1), atol=1e-6)


def test_icc_against_the_analysis_of_variance():
    rng = np.random.default_rng(0)
    person, noise = rng.normal(size=(50, 1)), rng.normal(size=(50, 2))
    both = person + 0.5 * noise
    between = 2 * both.mean(1).var(ddof=1)
    within = both.var(1, ddof=1).mean()
    np.testing.assert_allclose(identification.icc(both[:, 0], both[:, 1]), (between - within) / (between + within), rtol=1e-4)
    assert identification.icc(person[:, 0], person[:, 0]) == pytest.approx(1)
    assert abs(identification.icc(noise[:, 0], noise[:, 1])) < 0.3
    assert identification.icc(np.ones(4), np.ones(4)) == 0


def test_distances_and_leading_components():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(20, 6)) * [9, 1, 1, 1, 1, 0]
    second = first + 0.05 * rng.normal(size=(20, 6)) * [9, 1, 1, 1, 1, 0]
    within, between = identification.distances(first, second)
    assert np.asarray(within).max() < 0.1 < 0.5 < np.asarray(between).mean()
    both = np.concatenate([first, second])
    z = (both - both.mean(0)) / np.where(both.std(0) > 0, both.std(0), 1)
    expected = PCA(2).fit_transform(z)
    found = np.concatenate(identification.leading_components(first, second, 2))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)


@pytest.fixture
def scored_fake(tmp_path):
    """run(labels) -> (predictions of all baselines with the folds of the first labels, rows)."""
    labels, rows, vectors = fake.planted(n=24)
    people = fake.people_ids(24)
    config = fake.small_config(traits__baselines=("mean_predictor", *baselines.ON_PIXELS, "permuted_labels", "same_identity"))
    config.model.channels, config.traits.permutations = (4, 8), 4
    fold = cv.person_folds(people, 4, 0, labels)
    settings = cv.RidgeSettings((1.0, 100.0), 4, 3)

    def run(labels):
        clips = fake.FakeFaceClips(labels)
        records = list(range(len(clips.clips)))

        subjects = trait_protocol.Subjects(people, people, labels)
        samples = trait_features.samples_by_person(pd.DataFrame(rows), vectors, people, labels)
        scored = trait_predictions.Scored(subjects, fake.TRAITS, samples, settings)
        lead = ScoreKey("representation", "ridge", scales="1+2", tasks="all", fusion="features")
        own = {lead: scored.predict(scored.headline, scored.samples, fold)}
        features = baselines.features(config, tmp_path, clips, records, scored, {})
        found = baselines.predict(config, features, scored, fold, own)
        pairs = comparisons.pairs({key: one[None] for key, one in (own | found).items()}, baselines.fused(config, features))
        others = comparisons.other_rows(config, clips, records, scored, features, fold, lead)
        return found, others + trait_scores.difference_rows(config, pairs, labels, subjects.owner, fake.TRAITS)

    return run, labels, fold


def test_no_baseline_sees_the_labels_of_the_people_it_predicts(scored_fake, hear):
    run, labels, fold = scored_fake
    found, rows = run(labels)
    said = hear()
    assert "generic_feature is left out, there is no generic model" in said
    assert "dynamic_images (scales 1+2+4) is left out, no clip is long enough" in said  # six frames a clip
    assert {key.method for key in found} == {
        *("mean_predictor", "mean_face", "rank_pooling", "linear_dynamics", "optical_flow"),
        "representation+linear_dynamics",
    }
    # The pool is not known here, so the principal images are those of the scored people.
    assert ScoreKey("linear_dynamics", "ridge", note="transductive") in found
    other = labels.copy()
    other[fold == 0] += 1
    again, _ = run(other)
    for key, predicted in found.items():
        np.testing.assert_allclose(again[key][fold == 0], predicted[fold == 0], atol=1e-5)
        assert np.abs(again[key] - predicted)[fold != 0].max() > 1e-3
    by_method = {(row["method"], row["trait"], row["metric"]): row for row in rows}
    difference = by_method["representation_minus_mean_predictor", "mean", "pcc"]
    assert difference["low"] < difference["value"] < difference["high"]
    assert ("representation+linear_dynamics_minus_linear_dynamics", "openness", "ccc") in by_method
    permuted = [row for row in rows if (row["method"], row["trait"], row["metric"]) == ("permuted_labels", "mean", "pcc")]
    assert [(row["scales"], row["tasks"], row["of"]) for row in permuted] == [("1+2", "all", ""), ("", "", "mean_face")]
    assert all(abs(row["value"]) < 0.3 and row["low"] < row["high"] for row in permuted)
    assert not any(method == "same_identity" for method, *_ in by_method)  # a person's clips have one label


def test_baselines_that_do_not_exist_are_named():
    config = fake.small_config()
    for setting, value in (("baselines", ("mean_fase",)), ("fused_baselines", ("oracle",)), ("permutations", 0)):
        config = fake.small_config(**{f"traits__{setting}": value})
        with pytest.raises(InputError, match=f"config.traits.{setting}"):
            check(config)

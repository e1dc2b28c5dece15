"""Pictures of synthetic people: they move as the tracks say, and looks tell nothing of the dynamics."""

import dataclasses

import cv2
import numpy as np
import pytest
from scenes import render_scene
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_synthetic_bench import SMALL

from data_pipelines.synthetic import bench, rendering
from data_pipelines.synthetic.appearance import Appearance, draw_appearance
from data_pipelines.synthetic.dynamics import INDEX, UNITS, draw_dynamics, simulate, true_traits
from data_pipelines.synthetic.track_statistics import dynamics_statistics
from data_pipelines.synthetic.worlds import WORLDS


def at_rest(**units):
    tracks = np.zeros((1, len(UNITS)), np.float32)
    for name, value in units.items():
        tracks[0, INDEX[name]] = value
    return tracks


def picture(person, tracks, size=64):
    appearance = dataclasses.replace(draw_appearance(np.random.default_rng(person)), sensor_noise=0.0)
    return rendering.render(appearance, tracks, size, np.random.default_rng(0)).astype(np.float64)[0]


# Rows and columns of a crop as shares of its side: (top, bottom, left, right)
EYES, MOUTH, LEFT_MOUTH, RIGHT_MOUTH = (0.26, 0.50, 0, 1), (0.68, 0.98, 0.2, 0.8), (0.62, 0.95, 0, 0.5), (0.62, 0.95, 0.5, 1)
BROWS, UNDER_NOSE = (0.02, 0.30, 0, 1), (0.55, 1.0, 0, 1)


def change(before, after, region):
    top, bottom, left, right = (round(x * len(before)) for x in region)
    return np.abs(after - before)[top:bottom, left:right].sum()


@pytest.mark.parametrize(
    ("unit", "where", "elsewhere"),
    [
        ("blink", EYES, MOUTH),
        ("eye_widen", EYES, MOUTH),
        ("brow_raise", BROWS, UNDER_NOSE),
        ("brow_lower", BROWS, UNDER_NOSE),
        ("smile_left", LEFT_MOUTH, RIGHT_MOUTH),
        ("smile_right", RIGHT_MOUTH, LEFT_MOUTH),
        ("jaw_drop", UNDER_NOSE, EYES),
        ("lip_press", MOUTH, EYES),
        ("lip_pucker", MOUTH, EYES),
    ],
)
def test_a_unit_changes_the_picture_where_it_should(unit, where, elsewhere):
    for person in range(3):
        before, after = picture(person, at_rest()), picture(person, at_rest(**{unit: 1.0}))
        there = change(before, after, where)
        assert there > 4 * change(before, after, elsewhere)
        assert there > 1000


@pytest.mark.parametrize("unit", ["head_yaw", "head_pitch", "head_roll"])
def test_the_head_turns_both_ways(unit):
    before, one, other = (picture(0, at_rest(**{unit: value})) for value in (0.0, 1.0, -1.0))
    whole = (0, 1, 0, 1)
    assert min(change(before, one, whole), change(before, other, whole)) > 5000
    assert change(one, other, whole) > 1.2 * change(before, one, whole)


def test_a_move_below_a_pixel_shows():
    """Anti-aliasing: a fiftieth of a smile, a twentieth of a pixel at 32 x 32, changes the picture a little."""
    before, little, more = (picture(0, at_rest(smile_left=value), 32) for value in (0.5, 0.52, 0.6))
    assert 0 < change(before, little, (0, 1, 0, 1)) < change(before, more, (0, 1, 0, 1))


def test_sizes_show_the_same_face():
    large, small = picture(1, at_rest(), 128), picture(1, at_rest(), 32)
    shrunk = cv2.resize(large, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk - small).mean() < 4


def test_scene_holds_a_face_that_the_haar_cascade_finds():
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = total = 0
    for seed in range(6):
        tracks = simulate(draw_dynamics(np.random.default_rng(seed)), "watch", 40, 25.0, np.random.default_rng(seed))[::10]
        appearance = draw_appearance(np.random.default_rng(seed))
        frames, eyes = render_scene(appearance, tracks, (120, 160), np.random.default_rng(seed))
        assert frames.shape == (4, 120, 160, 3)
        for frame, (x, y) in zip(frames, eyes.mean(1)):
            boxes = cascade.detectMultiScale(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 1.1, 4, minSize=(30, 30))
            found += any(left < x < left + w and top < y < top + h for left, top, w, h in boxes)
            total += 1
    assert found >= 0.7 * total


# Looks and dynamics


def test_appearance_and_dynamics_come_from_separate_streams():
    looks, parameters = [], []
    for person in range(400):
        appearance = draw_appearance(bench._stream(SMALL, bench.APPEARANCE, person))
        looks.append(np.hstack([getattr(appearance, field.name) for field in dataclasses.fields(Appearance)]))
        own = draw_dynamics(bench._stream(SMALL, bench.DYNAMICS, person))
        parameters.append([*own.parameters, *true_traits(own)])
    looks, parameters = np.array(looks, float), np.array(parameters)
    correlations = np.corrcoef(looks.T, parameters.T)[: looks.shape[1], looks.shape[1] :]
    assert np.abs(correlations).max() < 0.22  # of some 600 that are independent, at a standard error of 0.05
    assert np.sqrt((correlations**2).mean()) < 0.056


def leave_one_out_pcc(features, traits, penalty=1.0):
    """Mean over the traits of the PCC of leave-one-out ridge predictions, from the hat matrix (kernel form)."""
    x = (features - features.mean(0)) / (features.std(0) + 1e-9)
    kernel = x @ x.T / x.shape[1]
    hat = kernel @ np.linalg.inv(kernel + penalty * np.eye(len(x)))
    centred = traits - traits.mean(0)
    residual = (centred - hat @ centred) / (1 - np.diag(hat))[:, None]
    return np.mean([np.corrcoef(centred[:, k] - residual[:, k], centred[:, k])[0, 1] for k in range(traits.shape[1])])


def test_the_mean_face_does_not_predict_the_traits_and_the_true_dynamics_do():
    means, statistics, traits = [], [], []
    for person in range(96):
        own, looks = draw_dynamics(np.random.default_rng([1, person])), draw_appearance(np.random.default_rng([2, person]))
        rng = np.random.default_rng([3, person])
        clips = [simulate(own, task, 240, 25.0, rng) for task in ("talk", "watch")]
        faces = rendering.render(looks, np.concatenate(clips)[::40], 32, rng)
        means.append(faces.mean(0).ravel())
        statistics.append(dynamics_statistics(clips))
        traits.append(true_traits(own) + 0.3 * rng.standard_normal(5))
    means, statistics, traits = np.array(means), np.array(statistics), np.array(traits)

    by_chance = [leave_one_out_pcc(means, np.random.default_rng(seed).permutation(traits)) for seed in range(60)]
    assert leave_one_out_pcc(means, traits) < np.quantile(by_chance, 0.95)

    head = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
    predicted = cross_val_predict(head, statistics, traits, cv=KFold(10, shuffle=True, random_state=0))
    pcc = [np.corrcoef(predicted[:, k], traits[:, k])[0, 1] for k in range(5)]
    assert np.mean(pcc) > 0.7


def test_people_of_one_appearance_are_told_apart_by_their_looks_no_more():
    """A clip's mean face finds the person's other clip in the usual set; all people at rest are the same picture here."""
    correct = {}
    for same in (False, True):
        settings = dataclasses.replace(SMALL, same_appearance=same)
        means = np.empty((2, 24, 16 * 16 * 3))
        for person in range(24):
            own, looks = draw_dynamics(bench._stream(settings, bench.DYNAMICS, person)), bench._appearance(settings, person)
            for take in range(2):
                rng = np.random.default_rng((person, take))
                tracks = simulate(own, "talk", 240, 25.0, rng)[::12]
                means[take, person] = rendering.render(looks, tracks, 16, rng).mean(0).ravel()
        means = (means - means.mean((0, 1))) / (means.std((0, 1)) + 1e-9)
        distances = np.linalg.norm(means[0][:, None] - means[1][None], axis=2)
        correct[same] = np.mean(distances.argmin(1) == np.arange(24))
    assert correct[False] > 0.95
    assert correct[True] < 0.25  # 1 of 24 by chance

    settings = dataclasses.replace(SMALL, same_appearance=True)
    for size in (16, 32):
        rests = [rendering.render(bench._appearance(settings, p), at_rest(), size, np.random.default_rng(0)) for p in range(3)]
        np.testing.assert_array_equal(rests[0], rests[1])
        np.testing.assert_array_equal(rests[0], rests[2])


def test_faces_of_the_second_world_move_as_the_tracks_say_and_look_alike_only_by_movement():
    world = WORLDS["warped"]
    looks = [world.draw_appearance(np.random.default_rng(seed)) for seed in (0, 1)]
    still, open_ = np.zeros((2, 12), np.float32), np.zeros((2, 12), np.float32)
    open_[:, 0] = 1.0  # the jaw
    frames = [world.render(looks[0], tracks, 64, np.random.default_rng(1)).astype(float) for tracks in (still, open_)]
    change = np.abs(frames[1].mean(0) - frames[0].mean(0)).mean(-1)
    assert change[40:].mean() > 3 * change[:24].mean()  # below the nose
    other = world.render(looks[1], still, 64, np.random.default_rng(1)).astype(float)
    assert np.abs(other - frames[0]).mean() > 3 * np.abs(frames[0][0] - frames[0][1]).mean()

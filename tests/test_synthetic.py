"""The synthetic faces keep their promises: known dynamics, looks that tell nothing of them, the same frames from a seed."""

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest
from scenes import render_scene
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipelines.errors import InputError
from data_pipelines.synthetic import bench, dynamics, rendering
from data_pipelines.synthetic.appearance import Appearance, draw_appearance
from data_pipelines.synthetic.bench import SyntheticSettings, oracle_features, write_bench
from data_pipelines.synthetic.dynamics import INDEX, TRAITS, UNITS, draw_dynamics, person_dynamics, simulate, true_traits
from data_pipelines.synthetic.track_statistics import dynamics_statistics, time_asymmetry
from data_pipelines.synthetic.worlds import WORLDS

SMALL = SyntheticSettings(people=2, pretrain_people=3, clips_per_task=1, frames=(8, 24), size=16)


def quiet(*_):
    pass


def read_video(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        found, frame = capture.read()
        if not found:
            return np.array(frames)[..., ::-1]  # [T, H, W, 3] RGB
        frames.append(frame)


def read_rows(manifest):
    with open(manifest, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small_bench(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bench")
    return directory, write_bench(directory, SMALL, workers=1, note=quiet)


# Dynamics


def test_tracks_have_a_column_a_unit_and_stay_in_range():
    person = draw_dynamics(np.random.default_rng(0))
    for task in ("talk", "watch", "a_task_of_my_own"):
        tracks = simulate(person, task, 50, 25.0, np.random.default_rng(1))
        assert tracks.shape == (50, len(UNITS))
        assert tracks.dtype == np.float32
        assert (tracks >= dynamics.LOW).all()
        assert (tracks <= dynamics.HIGH).all()


def test_a_task_name_has_one_profile_and_another_name_another():
    person, rng = draw_dynamics(np.random.default_rng(0)), lambda: np.random.default_rng(1)
    first, again = (simulate(person, "describe", 40, 25.0, rng()) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, simulate(person, "recall", 40, 25.0, rng()))
    talk, watch = (simulate(person, task, 3000, 25.0, rng()).std(0) for task in ("talk", "watch"))
    assert talk[INDEX["jaw_drop"]] > 1.3 * watch[INDEX["jaw_drop"]]
    assert watch[INDEX["smile_left"]] > 1.3 * talk[INDEX["smile_left"]]


def test_time_asymmetry_shows_in_the_tracks_of_an_asymmetric_person_only():
    plain = dataclasses.replace(person_dynamics(np.zeros(12)), smile_lead=0.0, event_share=np.full(len(UNITS), 0.8))
    asymmetry = {}
    for share in (0.15, 0.5, 0.85):
        person = dataclasses.replace(plain, rise_share=np.full(len(UNITS), share))
        runs = [time_asymmetry(simulate(person, "watch", 2000, 25.0, np.random.default_rng(seed))) for seed in range(3)]
        asymmetry[share] = np.mean(runs, axis=0)
    assert (asymmetry[0.15][1:] > 0.3).any()
    assert asymmetry[0.15].mean() > 0.4  # fast rise: a few large upward steps
    assert asymmetry[0.85].mean() < -0.4
    assert abs(asymmetry[0.5].mean()) < 0.1


def test_parameters_change_neither_mean_nor_spread_of_a_unit():
    """So that a person's mean face cannot give the parameters away."""
    moments = []
    for sign in (-1.0, 1.0):
        person = person_dynamics(np.full(12, sign))
        tracks = simulate(person, "watch", 8000, 25.0, np.random.default_rng(0))
        moments.append((tracks.mean(0), tracks.std(0)))
    (mean_low, spread_low), (mean_high, spread_high) = moments
    np.testing.assert_allclose(mean_low, mean_high, atol=0.05)
    np.testing.assert_allclose(spread_low[1:], spread_high[1:], rtol=0.2)


def test_persistence_and_couplings_show_in_the_tracks():
    def tracks(**parameters):
        z = [parameters.get(name, 0.0) for name in dynamics.PARAMETERS]
        return simulate(person_dynamics(z), "watch", 4000, 25.0, np.random.default_rng(0))

    def autocorrelation(x):
        x = x - x.mean()
        return (x[4:] * x[:-4]).mean() / x.var()

    jaw, brow = INDEX["jaw_drop"], INDEX["brow_raise"]
    slow, fast = tracks(lower_persistence=1.5), tracks(lower_persistence=-1.5)
    assert autocorrelation(slow[:, jaw]) > autocorrelation(fast[:, jaw]) + 0.15
    assert abs(autocorrelation(slow[:, brow]) - autocorrelation(fast[:, brow])) < 0.1
    together, apart = tracks(jaw_brow=1.5), tracks(jaw_brow=-1.5)
    correlation = [np.corrcoef(x[:, jaw], x[:, brow])[0, 1] for x in (together, apart)]
    assert correlation[0] > 0.4
    assert correlation[1] < -0.1


def test_traits_are_standardised_over_the_population():
    traits = np.array([true_traits(draw_dynamics(np.random.default_rng(seed))) for seed in range(1500)])
    np.testing.assert_allclose(traits.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(traits.std(0), 1, atol=0.07)


# Pictures


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


# The bench on disk


def test_manifest_says_what_there_is(small_bench):
    directory, manifest = small_bench
    rows = read_rows(manifest)
    assert list(rows[0]) == ["clip_id", "person_id", "path", "session", "task", "split", "fps", "aligned", *TRAITS]
    assert len({row["clip_id"] for row in rows}) == len(rows) == 5 * 2
    assert len({row["person_id"] for row in rows if row["split"] == "test"}) == 2
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    lengths = set()
    for row in rows:
        assert (row["fps"], row["aligned"]) == ("25", "true")
        assert all(bool(row[trait]) == (row["split"] == "test") for trait in TRAITS)
        frames = read_video(directory / row["path"])
        assert frames.shape[1:] == (16, 16, 3)
        assert len(frames) == len(bench.true_tracks(directory, row["clip_id"]))
        lengths.add(len(frames))
    assert len(lengths) > 3
    assert min(lengths) >= 8
    assert max(lengths) <= 24


def test_same_frames_whatever_the_number_of_workers(small_bench, tmp_path):
    directory, manifest = small_bench
    other = write_bench(tmp_path, SMALL, workers=2, note=quiet)
    assert manifest.read_bytes() == other.read_bytes()
    for row in read_rows(manifest):
        np.testing.assert_array_equal(read_video(directory / row["path"]), read_video(tmp_path / row["path"]))


def test_the_same_appearance_changes_pictures_and_nothing_else(small_bench, tmp_path):
    directory, manifest = small_bench
    settings = dataclasses.replace(SMALL, same_appearance=True)
    other = write_bench(tmp_path, settings, workers=1, note=quiet)
    assert manifest.read_bytes() == other.read_bytes()  # lengths, traits, splits
    assert (directory / "people.csv").read_bytes() == (tmp_path / "people.csv").read_bytes()
    first = draw_appearance(bench._stream(SMALL, bench.APPEARANCE, 0))
    for clip, row in zip(bench._clips(settings), read_rows(manifest), strict=True):
        tracks = bench.true_tracks(tmp_path, clip.clip_id)
        np.testing.assert_array_equal(tracks, bench.true_tracks(directory, clip.clip_id))
        frames = read_video(tmp_path / row["path"])
        clean = rendering.render(dataclasses.replace(first, sensor_noise=0.0), tracks, 16, np.random.default_rng(0))
        assert np.abs(frames - clean.astype(float)).mean() < first.sensor_noise  # the camera's noise is all that is added
        assert (clip.person == 0) == np.array_equal(frames, read_video(directory / row["path"]))


def test_a_bench_from_before_a_setting_existed_is_one_of_its_default(tmp_path):
    settings = dataclasses.replace(SMALL, people=1, pretrain_people=0, tasks=("talk",))
    write_bench(tmp_path, settings, workers=1, note=quiet)
    stamp = json.loads((tmp_path / "bench.json").read_text())
    del stamp["settings"]["same_appearance"]
    (tmp_path / "bench.json").write_text(json.dumps(stamp))
    write_bench(tmp_path, settings, workers=1, note=quiet)
    with pytest.raises(InputError, match="other settings"):
        write_bench(tmp_path, dataclasses.replace(settings, same_appearance=True), workers=1, note=quiet)


def test_video_is_lossless(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    bench._write_video(tmp_path / "noise.avi", frames)
    np.testing.assert_array_equal(read_video(tmp_path / "noise.avi"), frames)


def test_a_finished_bench_is_left_alone_and_an_interrupted_one_is_completed(tmp_path):
    settings = dataclasses.replace(SMALL, people=1, pretrain_people=0, tasks=("talk",), clips_per_task=2)
    manifest = write_bench(tmp_path, settings, workers=1, note=quiet)
    kept, lost = (tmp_path / row["path"] for row in read_rows(manifest))
    before, time_of_kept = read_video(lost), kept.stat().st_mtime_ns

    lost.unlink()
    write_bench(tmp_path, settings, workers=1, note=quiet)
    assert not lost.exists()  # the stamp says finished: nobody looks further

    stamp = json.loads((tmp_path / "bench.json").read_text())
    (tmp_path / "bench.json").write_text(json.dumps(stamp | {"finished": False}))
    write_bench(tmp_path, settings, workers=1, note=quiet)
    np.testing.assert_array_equal(read_video(lost), before)
    assert kept.stat().st_mtime_ns == time_of_kept


def test_a_folder_with_another_bench_is_refused(small_bench):
    directory, _ = small_bench
    with pytest.raises(InputError, match="other settings"):
        write_bench(directory, dataclasses.replace(SMALL, seed=1), note=quiet)


@pytest.mark.parametrize(
    "wrong",
    [
        {"people": 0, "pretrain_people": 0},
        {"tasks": ()},
        {"tasks": ("a/b",)},
        {"tasks": ("talk", "talk")},
        {"clips_per_task": 0},
        {"frames": (20, 10)},
        {"size": 7},
        {"trait_noise": -1.0},
    ],
)
def test_settings_that_make_no_bench_are_refused(wrong, tmp_path):
    with pytest.raises(InputError):
        write_bench(tmp_path, dataclasses.replace(SMALL, **wrong), note=quiet)


def test_oracle_features_are_of_the_scored_people(small_bench):
    directory, manifest = small_bench
    ids, features = bench.oracle_features(directory)
    assert ids == sorted({row["person_id"] for row in read_rows(manifest) if row["split"] == "test"})
    assert features.shape == (2, len(features[0]))
    assert np.isfinite(features).all()


@pytest.fixture(scope="module")
def warped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warped")
    settings = SyntheticSettings(world="warped", people=3, pretrain_people=2, clips_per_task=1, frames=(20, 24), size=32)
    write_bench(folder, settings, workers=1, note=lambda *_: None)
    return folder, settings


def test_the_second_world_is_a_bench_like_the_first(warped, tmp_path):
    folder, settings = warped
    write_bench(tmp_path, settings, workers=2, note=lambda *_: None)
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as one, np.load(tmp_path / path.relative_to(folder)) as other:
            np.testing.assert_array_equal(one["tracks"], other["tracks"])
    people, features = oracle_features(folder)
    assert people == ["p001", "p002", "p003"]
    assert features.shape == (3, 7 * 12 + 3)
    with pytest.raises(InputError, match=r"synthetic\.world is 'photographed'; it must be one of drawn, warped"):
        SyntheticSettings(world="photographed").check()
    with pytest.raises(InputError, match="other settings"):
        write_bench(folder, dataclasses.replace(settings, world="drawn"), workers=1, note=lambda *_: None)


def test_traits_of_the_second_world_are_standardised_and_what_moves_says_them():
    world, random = WORLDS["warped"], np.random.default_rng(0)
    people = [world.draw_dynamics(random) for _ in range(400)]
    traits = np.array([world.true_traits(person) for person in people])
    np.testing.assert_allclose(traits.mean(0), 0, atol=0.2)
    np.testing.assert_allclose(traits.std(0), 1, atol=0.15)
    statistics = np.array([world.statistics([world.simulate(p, "talk", 400, 25.0, random)]) for p in people[:150]])
    z = (statistics - statistics.mean(0)) / statistics.std(0)
    for trait in traits[:150].T:
        fitted = z[:100].T @ np.linalg.solve(z[:100] @ z[:100].T + 100 * np.eye(100), trait[:100] - trait[:100].mean())
        assert np.corrcoef(z[100:] @ fitted, trait[100:])[0, 1] > 0.3


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

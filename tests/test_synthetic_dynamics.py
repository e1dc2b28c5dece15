"""How synthetic people move: tracks of known dynamics, of which traits are made, in both worlds."""

import dataclasses

import numpy as np

from data_pipelines.synthetic import dynamics
from data_pipelines.synthetic.dynamics import INDEX, UNITS, draw_dynamics, person_dynamics, simulate, true_traits
from data_pipelines.synthetic.track_statistics import time_asymmetry
from data_pipelines.synthetic.worlds import WORLDS


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

"""The facts of docs/method.md, section 1, about the rank loss; each would fail with the loss broken."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facedyn.core import rank_loss as module
from facedyn.core.rank_loss import RankLoss, copied_input, dynamic_image, frame_features, scores

N = 3
rank_loss = jax.jit(module.rank_loss, static_argnames="settings")
ranking_accuracy = jax.jit(module.ranking_accuracy, static_argnames="settings")


@pytest.fixture(scope="module")
def windows():
    return jnp.asarray(np.random.default_rng(0).uniform(size=(4, 2 * N + 1, 8, 8, 3)), jnp.float32)


def maps_for(settings, seed=1, batch=4):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, settings.maps, 8, 8, 3)), jnp.float32)


@pytest.mark.parametrize("direction", ["two_maps", "centred"])
@pytest.mark.parametrize("features", ["centred", "running_mean"])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("kind", ["hinge", "logistic", "listmle"])
def test_equals_a_plain_loop(windows, kind, normalise, features, direction):
    settings = RankLoss(N, direction, kind, margin=0.3, l2=0.1, frame_features=features, normalise=normalise)
    maps = maps_for(settings)
    expected, right = [], []
    for d, window in zip(np.asarray(maps, float), np.asarray(windows, float)):
        parts = [window[:N], window[N + 1 :]] if direction == "two_maps" else [window]
        terms, order = [], []
        for m, part in zip(d, parts):
            v = part.reshape(len(part), -1)
            if features == "running_mean":
                v = np.stack([v[: k + 1].mean(0) for k in range(len(v))])
            v = v - v.mean(0)
            v = v / np.linalg.norm(v, axis=1, keepdims=True) if normalise else v / (0.05 * np.sqrt(v.shape[1]))
            s = v @ m.ravel() / np.sqrt(m.size)
            pairs = list(itertools.combinations(range(len(s)), 2))
            order += [s[j] > s[i] for i, j in pairs]
            if kind == "hinge":
                terms += [max(0, 0.3 - (s[j] - s[i])) for i, j in pairs]
            elif kind == "logistic":
                terms += [np.log1p(np.exp(-(s[j] - s[i]))) for i, j in pairs]
            else:
                terms += [np.log(np.exp(s[: k + 1]).sum()) - s[k] for k in range(len(s))]
        expected.append(np.mean(terms) + 0.1 * (d**2).mean())
        right.append(np.mean(order))
    np.testing.assert_allclose(rank_loss(maps, windows, settings), expected, rtol=2e-5)
    np.testing.assert_allclose(ranking_accuracy(maps, windows, settings), right, rtol=1e-6)


def test_gradient_at_zero_is_approximate_rank_pooling(windows):
    """At D = 0 every hinge is active, so -dL/dD is proportional to sum_t (2t - T - 1) v_t."""
    settings = RankLoss(N)
    zero = jnp.zeros((4, 2, 8, 8, 3))
    gradient = jax.grad(lambda d: rank_loss(d, windows, settings).sum())(zero)
    pooled = dynamic_image(windows, settings)
    ratio = -np.asarray(gradient).ravel() / np.asarray(pooled).ravel()
    np.testing.assert_allclose(ratio, ratio[0], rtol=2e-3)
    assert ratio[0] > 0


def test_running_means_weigh_raw_frames_as_bilen_says(windows):
    """Prefix means: the raw frames' coefficients are 2(T-t+1) - (T+1)(H_T - H_{t-1}), and they sum to 0."""
    settings = RankLoss(N, frame_features="running_mean", normalise=False)
    harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, N + 1))])
    t = np.arange(1, N + 1)
    alpha = 2 * (N - t + 1) - (N + 1) * (harmonic[N] - harmonic[t - 1])
    assert abs(alpha.sum()) < 1e-12
    expected = np.einsum("t,bthwc->bhwc", alpha, np.asarray(windows, float)[:, :N])
    found = np.asarray(dynamic_image(windows, settings))[:, 0] * 0.05 * np.sqrt(8 * 8 * 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["hinge", "logistic"])
def test_reversed_time_turns_the_map_round(windows, kind):
    """L(D; reversed window) = L(-D with the halves swapped; window)."""
    settings = RankLoss(N, kind=kind)
    maps = maps_for(settings)
    np.testing.assert_allclose(
        rank_loss(maps, windows[:, ::-1], settings), rank_loss(-maps[:, ::-1], windows, settings), rtol=1e-5
    )


@pytest.mark.parametrize("features", ["centred", "running_mean"])
def test_a_constant_added_to_every_frame_changes_nothing(windows, features):
    settings = RankLoss(N, frame_features=features)
    maps = maps_for(settings)
    constant = jnp.asarray(np.random.default_rng(3).normal(size=(8, 8, 3)), jnp.float32)
    np.testing.assert_allclose(
        rank_loss(maps, windows + constant[None, None], settings), rank_loss(maps, windows, settings), rtol=1e-4, atol=1e-5
    )


def test_convex_in_the_map(windows):
    settings = RankLoss(N)
    one, two = maps_for(settings, 1), maps_for(settings, 2)
    middle = rank_loss((one + two) / 2, windows, settings)
    assert (middle <= (rank_loss(one, windows, settings) + rank_loss(two, windows, settings)) / 2 + 1e-6).all()


def test_reversible_motion_teaches_one_map_nothing():
    """Over windows seen forwards and backwards alike the centred variant has D = 0 as a minimiser; two maps do not."""
    w = jnp.asarray(np.random.default_rng(4).uniform(size=(1, 2 * N + 1, 8, 8, 3)), jnp.float32)
    both = jnp.concatenate([w, w[:, ::-1]])
    for settings, flat in ((RankLoss(N, "centred"), True), (RankLoss(N), False)):
        zero = jnp.zeros((1, settings.maps, 8, 8, 3))
        gradient = jax.grad(lambda d, s=settings: rank_loss(jnp.broadcast_to(d, (2, *d.shape[1:])), both, s).sum())(zero)
        assert (float(jnp.abs(gradient).max()) < 1e-6) == flat


def test_missing_frames_are_as_if_they_had_never_been(windows):
    """A half window with its last frame masked out equals the shorter half window."""
    long = RankLoss(N, normalise=True)
    maps = maps_for(long)
    where = jnp.ones((4, 2 * N + 1), bool).at[:, 0].set(False).at[:, -1].set(False)
    short = RankLoss(N - 1)
    for kind in ("hinge", "logistic"):
        a, b = (RankLoss(s.half_length, kind=kind) for s in (long, short))
        np.testing.assert_allclose(rank_loss(maps, windows, a, where), rank_loss(maps, windows[:, 1:-1], b), rtol=1e-5)
    rubbish = windows.at[:, 0].set(7.0)
    np.testing.assert_allclose(rank_loss(maps, rubbish, long, where), rank_loss(maps, windows, long, where), rtol=1e-5)
    nothing = jnp.zeros_like(where)
    assert np.isnan(ranking_accuracy(maps, windows, long, nothing)).all()
    assert np.isfinite(rank_loss(maps, windows, long, nothing)).all()


def test_ties_count_a_half_and_a_still_window_is_harmless(windows):
    settings = RankLoss(N)
    assert ranking_accuracy(jnp.zeros((4, 2, 8, 8, 3)), windows, settings).tolist() == [0.5] * 4
    still = jnp.ones_like(windows)
    gradient = jax.grad(lambda d: rank_loss(d, still, settings).sum())(maps_for(settings))
    assert np.isfinite(gradient).all()


def test_the_window_s_own_dynamic_image_ranks_it_and_the_input_alone_ranks_above_chance():
    """On a drift every method works; on a random walk the copied input already beats chance, as autocorrelation says."""
    settings = RankLoss(N)
    steps = np.random.default_rng(5).normal(size=(64, 2 * N + 1, 8, 8, 3))
    walk = jnp.asarray(np.cumsum(steps, 1), jnp.float32)
    assert float(ranking_accuracy(dynamic_image(walk, settings), walk, settings).mean()) > 0.9
    assert float(ranking_accuracy(copied_input(walk, settings), walk, settings).mean()) > 0.6
    noise = jnp.asarray(steps, jnp.float32)
    assert abs(float(ranking_accuracy(copied_input(noise, settings), noise, settings).mean()) - 0.5) < 0.05


def test_order_one_maps_give_order_one_margins_at_any_resolution():
    for size in (8, 16, 32):
        w = jnp.asarray(np.random.default_rng(6).uniform(size=(2, 2 * N + 1, size, size, 3)), jnp.float32)
        settings = RankLoss(N)
        v = frame_features(w, settings)
        best = jnp.sign(v[:, :, -1] - v[:, :, 0]).reshape(2, 2, size, size, 3)
        s = scores(best, v)
        assert 0.5 < float((s[..., -1] - s[..., 0]).mean()) < 3


@pytest.mark.parametrize("field", ["direction", "kind", "frame_features"])
def test_an_unknown_option_is_refused_by_name(field):
    with pytest.raises(ValueError, match=f"rank_loss.{field} is 'nonsense'; it must be one of"):
        RankLoss(**{field: "nonsense"})

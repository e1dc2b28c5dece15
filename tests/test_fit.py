"""The batched fit: nobody's result depends on anybody else, on the padding, or on how steps are grouped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facedyn.core import fit, person_filters, solvers, unet
from facedyn.core.rank_loss import RankLoss, rank_loss

MODEL = unet.UNet((4, 6), groups=2, maps=2, image_channels=1)
SETTINGS = RankLoss(half_length=2)
SITES = person_filters.sites(MODEL.channels)
STEPS, BATCH = 5, 3


@pytest.fixture(scope="module")
def bound():
    params = unet.init(MODEL, jax.random.key(0), 8)
    return jax.jit(lambda f: unet.encode(MODEL, params, f)), lambda features, tap: unet.decode(MODEL, params, features, tap)


@pytest.fixture(scope="module")
def people():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (n, 5, 8, 8, 1), np.uint8) for n in (7, 4, 9)]


def padded(people, rows):
    windows = np.zeros((len(people), rows, 5, 8, 8, 1), np.uint8)
    for p, own in enumerate(people):
        windows[p, : len(own)] = own
    return windows, [len(own) for own in people]


def run(bound, people, rows=9, kind="pointwise", name="adam", calls=1):
    encode, decode = bound
    solver = solvers.make(name, learning_rate=0.02, steps=STEPS, batch_size=BATCH)
    units = fit.encode_units(encode, *padded(people, rows), block=8)
    draws = solver.draws(jax.random.key(1))
    advance = jax.jit(lambda c, step, n: fit.advance(decode, SETTINGS, solver, c, units, draws, step, n), static_argnums=2)
    carry, total = fit.start(solver, SITES, kind, len(people)), solver.steps(rows)
    for step in range(0, total, calls):
        carry = advance(carry, step, min(calls, total - step))
    filters = fit.finish(solver, carry)
    return np.asarray(person_filters.flatten(filters, person_filters.layout(SITES, kind))), units, filters


def by_hand(bound, own, kind):
    """Plain Adam on one person: no vmap, no padding, whole network through the encoder at every step."""
    encode, decode = bound
    filters = person_filters.init(SITES, kind)
    transform = optax.adam(optax.cosine_decay_schedule(0.02, STEPS))
    state = transform.init(filters)
    draws = np.asarray(jax.random.uniform(jax.random.key(1), (STEPS, BATCH)))

    @jax.jit
    def gradient(filters, windows):
        def loss(filters):
            maps = decode(encode(windows[:, 2]), person_filters.tap(filters))
            return rank_loss(maps, windows, SETTINGS).mean()

        return jax.grad(loss)(filters)

    for draw in draws:
        rows = np.minimum((draw * len(own)).astype(int), len(own) - 1)
        updates, state = transform.update(gradient(filters, jnp.asarray(own[rows])), state, filters)
        filters = optax.apply_updates(filters, updates)
    return np.asarray(person_filters.flatten(filters, person_filters.layout(SITES, kind)))


@pytest.mark.parametrize("kind", person_filters.KINDS)
def test_equals_a_loop_of_single_fits(bound, people, kind):
    together, _, _ = run(bound, people, kind=kind)
    for own, found in zip(people, together):
        expected = by_hand(bound, own, kind)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["adam", "gradient"])
def test_independent_of_company_padding_and_grouping(bound, people, name):
    reference, _, _ = run(bound, people, name=name)
    scale = np.abs(reference).max()
    alone, _, _ = run(bound, people[1:2], name=name)
    longer, _, _ = run(bound, people, rows=16, name=name)
    grouped, _, _ = run(bound, people, name=name, calls=2)
    backwards, _, _ = run(bound, people[::-1], name=name)
    np.testing.assert_allclose(alone[0], reference[1], atol=1e-4 * scale)
    np.testing.assert_allclose(longer, reference, atol=1e-4 * scale)
    np.testing.assert_allclose(grouped, reference, atol=1e-4 * scale)
    np.testing.assert_allclose(backwards[::-1], reference, atol=1e-4 * scale)


def test_the_full_gradient_is_additive(bound, people):
    """The gradient of two clips together is the mean of both, weighted by their rows."""
    both = np.concatenate([people[0], people[1]])
    joint, _, _ = run(bound, [both], rows=12, name="gradient")
    parts, _, _ = run(bound, people[:2], name="gradient")
    expected = (7 * parts[0] + 4 * parts[1]) / 11
    np.testing.assert_allclose(joint[0], expected, atol=1e-4 * np.abs(expected).max())


def test_a_diverging_person_leaves_the_others_alone(bound, people):
    """Non-finite features of one person stay with that person."""
    encode, decode = bound
    reference, units, _ = run(bound, people)
    broken = units._replace(features=tuple(f.at[1].set(jnp.nan) for f in units.features))
    solver = solvers.make("adam", learning_rate=0.02, steps=STEPS, batch_size=BATCH)
    draws = solver.draws(jax.random.key(1))
    carry = fit.start(solver, SITES, "pointwise", 3)
    advance = jax.jit(lambda c, step: fit.advance(decode, SETTINGS, solver, c, broken, draws, step, 1))
    for step in range(STEPS):
        carry = advance(carry, step)
    found = np.asarray(person_filters.flatten(carry.filters, person_filters.layout(SITES, "pointwise")))
    assert not np.isfinite(found[1]).any()
    np.testing.assert_allclose(found[[0, 2]], reference[[0, 2]], atol=1e-4 * np.abs(reference).max())


def test_an_empty_unit_of_a_padded_chunk_stays_at_zero(bound, people):
    found, _, _ = run(bound, [people[0], people[0][:0]])
    assert (found[1] == 0).all()
    assert np.isfinite(found[0]).all()


def test_quality_sums_cover_each_row_once(bound, people):
    _, units, filters = run(bound, people)
    _, decode = bound
    evaluate = jax.jit(lambda block, size: fit.evaluate(decode, SETTINGS, filters, units, block, size), static_argnums=1)
    blocks = [evaluate(block, 4) for block in range(3)]
    loss, right, rows = (np.asarray(sum(c)) for c in zip(*blocks))
    assert rows.tolist() == [7, 4, 9]
    whole = evaluate(0, 9)
    np.testing.assert_allclose(loss, whole[0], rtol=1e-4)
    np.testing.assert_allclose(right, whole[1], rtol=1e-4)
    assert ((right / rows >= 0) & (right / rows <= 1)).all()


def test_no_convolution_with_a_person_s_own_kernel(bound, people):
    """Under vmap every convolution keeps one group: person filters are matrix products, shared kernels fold people in."""
    _, units, _ = run(bound, people)
    _, decode = bound
    solver = solvers.make("adam", learning_rate=0.02, steps=STEPS, batch_size=BATCH)
    draws = jnp.zeros((STEPS, BATCH))
    for kind in person_filters.KINDS:
        carry = fit.start(solver, SITES, kind, 3)
        text = jax.jit(lambda c: fit.advance(decode, SETTINGS, solver, c, units, draws, 0, 1)).lower(carry).as_text()
        groups = [part.split()[0] for part in text.split("feature_group_count = ")[1:]]
        assert groups
        assert set(groups) == {"1"}
    with pytest.raises(ValueError, match="'newton' is no solver"):
        solvers.make("newton", learning_rate=1, steps=1, batch_size=1)

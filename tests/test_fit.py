"""The batched fit: nobody's result depends on anybody else, on the padding, or on how steps are grouped."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facedyn.core import fit, person_filters, solvers, unet
from facedyn.core.rank_loss import RankLoss, rank_loss

MODEL = unet.UNet((4, 6), groups=2, maps=2, image_channels=1)
SETTINGS = RankLoss(half_length=2)
MEASURES = SETTINGS, SETTINGS.accuracy
SITES = person_filters.sites(MODEL.channels)
STEPS, BATCH = 5, 3


@pytest.fixture(scope="module")
def model():
    params = unet.init(MODEL, jax.random.key(0), 8)
    encode = jax.jit(lambda f: unet.encode(MODEL, params, f))
    return fit.Model(encode, lambda features, tap: unet.decode(MODEL, params, features, tap))


@pytest.fixture(scope="module")
def people():
    """Frames of three people; every window of five neighbouring ones is a row."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (n + 4, 8, 8, 1), np.uint8) for n in (7, 4, 9)]


def of_kind(model, kind):
    return model._replace(tap=partial(person_filters.tap, kind=kind))


def windows_of(own):
    return np.arange(max(len(own) - 4, 0))[:, None] + np.arange(5)


def padded(people, rows):
    frames = np.zeros((len(people), rows + 4, 8, 8, 1), np.uint8)
    windows = np.zeros((len(people), rows, 5), np.int32)
    for p, own in enumerate(people):
        frames[p, : len(own)] = own
        windows[p, : len(windows_of(own))] = windows_of(own)
    return fit.Units(jnp.asarray(frames), jnp.asarray(windows), jnp.asarray([len(windows_of(own)) for own in people]))


def solver_of(name, ridge=20.0):
    return solvers.make(name, learning_rate=0.02, steps=STEPS, batch_size=BATCH, ridge=ridge)


@cache
def compiled(model, kind, name, settings, ridge):
    """(the solver, start, keep_features, advance, finish), compiled once for all tests."""
    model, solver = of_kind(model, kind), solver_of(name, ridge)
    draws = solver.draws(jax.random.key(1))
    return (
        solver,
        jax.jit(lambda people, rows: fit.start(solver, SITES, kind, people, rows), static_argnums=(0, 1)),
        jax.jit(partial(fit.keep_features, model), static_argnums=3),
        jax.jit(lambda c, units, step, n: fit.advance(model, settings, solver, c, units, draws, step, n), static_argnums=3),
        jax.jit(partial(fit.finish, solver)),
    )


def with_features(model, units, keep_features, block=8):
    features = tuple(jnp.zeros(s.shape, s.dtype) for s in fit.feature_shapes(model, units, jnp.float32))
    for first in range(0, units.windows.shape[1], block):
        features = keep_features(features, units, first, min(block, units.windows.shape[1]))
    return units._replace(features=features)


def run(model, people, rows=9, kind="pointwise", name="adam", calls=1, keep=True, settings=SETTINGS, ridge=20.0):
    solver, start, keep_features, advance, finish = compiled(model, kind, name, settings, ridge)
    units = padded(people, rows)
    units = with_features(model, units, keep_features) if keep else units
    carry, total = start(len(people), rows), solver.steps(rows)
    for step in range(0, total, calls):
        carry = advance(carry, units, step, min(calls, total - step))
    filters = finish(carry)
    return np.asarray(person_filters.flatten(filters, person_filters.layout(SITES, kind))), units, filters


@cache
def adam_by_hand(model, kind):
    """(filters -> state, (filters, state, windows) -> filters and state), compiled once for all people."""
    transform = optax.adam(optax.cosine_decay_schedule(0.02, STEPS))

    @jax.jit
    def step(filters, state, windows):
        def loss(filters):
            maps = model.decode(model.encode(windows[:, 2]), person_filters.tap(filters, kind))
            return rank_loss(maps, windows, SETTINGS).mean()

        updates, state = transform.update(jax.grad(loss)(filters), state, filters)
        return optax.apply_updates(filters, updates), state

    return jax.jit(transform.init), step


def by_hand(model, own, kind):
    """Plain Adam on one person: no vmap, no padding, whole network through the encoder at every step."""
    own = own[windows_of(own)]
    filters = person_filters.init(SITES, kind)
    start, step = adam_by_hand(model, kind)
    state = start(filters)
    draws = np.asarray(jax.random.uniform(jax.random.key(1), (STEPS, BATCH)))
    for draw in draws:
        rows = np.minimum((draw * len(own)).astype(int), len(own) - 1)
        filters, state = step(filters, state, jnp.asarray(own[rows]))
    return np.asarray(person_filters.flatten(filters, person_filters.layout(SITES, kind)))


@pytest.mark.parametrize("kind", person_filters.KINDS)
def test_equals_a_loop_of_single_fits(model, people, kind):
    together, _, _ = run(model, people, kind=kind)
    for own, found in zip(people, together):
        expected = by_hand(model, own, kind)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["adam", "gradient", "gauss_newton"])
def test_independent_of_company_padding_order_grouping_and_kept_features(model, people, name):
    # A smooth loss: at the hinge, rounding may decide on which side of it a pair of frames falls.
    case = dict(name=name, settings=RankLoss(half_length=2, kind="logistic"))
    reference, _, _ = run(model, people, **case)
    close = dict(rtol=0, atol=1e-5 * np.abs(reference).max())
    np.testing.assert_allclose(run(model, people[1:2], **case)[0][0], reference[1], **close)
    np.testing.assert_allclose(run(model, people, rows=16, **case)[0], reference, **close)
    np.testing.assert_allclose(run(model, people, calls=2, **case)[0], reference, **close)
    np.testing.assert_allclose(run(model, people[::-1], **case)[0][::-1], reference, **close)
    np.testing.assert_allclose(run(model, people, keep=False, **case)[0], reference, **close)


@pytest.mark.parametrize("name", ["adam", "gauss_newton"])
def test_the_whole_fit_in_one_call_is_that_of_its_steps(model, people, name):
    alike = [own[:8] for own in people]
    expected, _, _ = run(model, alike, rows=4, name=name, keep=False)
    solver = solver_of(name)
    fit_people = fit.fit_people(model, SETTINGS, solver, SITES, "pointwise")
    for units in (padded(alike, 4), fit.equal_units(np.stack(alike), windows_of(alike[0]))):
        filters = fit_people(units, jax.random.key(1))
        found = person_filters.flatten(filters, person_filters.layout(SITES, "pointwise"))
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_whole_fit_compiles_once(model, people, monkeypatch, backend):
    """Off CPU it is one compiled loop, with the same result."""
    units = fit.equal_units(np.stack([own[:8] for own in people]), windows_of(people[0][:8]))
    expected = fit.fit_people(model, SETTINGS, solver_of("adam"), SITES, "pointwise")(units, jax.random.key(1))
    traced = []

    def loss(maps, windows):
        traced.append(1)
        return SETTINGS(maps, windows)

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    fit_people = fit.fit_people(model, loss, solver_of("adam"), SITES, "pointwise")
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), fit_people(units, jax.random.key(1)), expected)
    before = len(traced)
    fit_people(units._replace(frames=units.frames + 1), jax.random.key(2))
    assert len(traced) == before > 0


def test_the_full_gradient_is_additive(model, people):
    """The gradient of two clips together is the mean of both, weighted by their rows."""
    joint, _, _ = run(model, people[2:], name="gradient")
    parts, _, _ = run(model, [people[2][:8], people[2][4:]], name="gradient")  # the first four rows, the other five
    expected = (4 * parts[0] + 5 * parts[1]) / 9
    np.testing.assert_allclose(joint[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["adam", "gauss_newton"])
def test_a_diverging_person_leaves_the_others_alone(model, people, name):
    """Non-finite features of one person stay with that person."""
    reference, units, _ = run(model, people, name=name)
    broken = units._replace(features=tuple(f.at[1].set(jnp.nan) for f in units.features))
    solver, start, _, advance, finish = compiled(model, "pointwise", name, SETTINGS, 20.0)
    carry = start(3, 9)
    for step in range(solver.steps(9)):
        carry = advance(carry, broken, step, 1)
    found = np.asarray(person_filters.flatten(finish(carry), person_filters.layout(SITES, "pointwise")))
    assert not np.isfinite(found[1]).any()
    np.testing.assert_allclose(found[[0, 2]], reference[[0, 2]], atol=1e-4 * np.abs(reference).max())


@pytest.mark.parametrize("name", ["adam", "gradient", "gauss_newton"])
def test_an_empty_unit_of_a_padded_chunk_stays_at_zero(model, people, name):
    found, _, _ = run(model, [people[0], people[0][:0]], name=name)
    assert (found[1] == 0).all()
    assert np.isfinite(found[0]).all()


def test_quality_sums_cover_each_row_once(model, people):
    _, units, filters = run(model, people)
    evaluate = jax.jit(lambda block, size: fit.evaluate(model, MEASURES, filters, units, block, size), static_argnums=1)
    blocks = [evaluate(block, 4) for block in range(3)]
    loss, right, rows = (np.asarray(sum(c)) for c in zip(*blocks))
    assert rows.tolist() == [7, 4, 9]
    whole = evaluate(0, 9)
    np.testing.assert_allclose(loss, whole[0], rtol=1e-4)
    np.testing.assert_allclose(right, whole[1], rtol=1e-4)
    assert ((right / rows >= 0) & (right / rows <= 1)).all()


def test_no_convolution_with_a_person_s_own_kernel(model, people):
    """Under vmap every convolution keeps one group: person filters are matrix products, shared kernels fold people in."""
    _, units, _ = run(model, people)
    solver = solver_of("adam")
    draws = jnp.zeros((STEPS, BATCH))
    for kind in person_filters.KINDS:
        carry = fit.start(solver, SITES, kind, 3, 9)
        own = of_kind(model, kind)
        text = jax.jit(lambda c, own=own: fit.advance(own, SETTINGS, solver, c, units, draws, 0, 1)).lower(carry).as_text()
        groups = [part.split()[0] for part in text.split("feature_group_count = ")[1:]]
        assert groups
        assert set(groups) == {"1"}
    with pytest.raises(ValueError, match="'newton' is not a solver"):
        solvers.make("newton", learning_rate=1, steps=1, batch_size=1)


@pytest.mark.parametrize("kind", ["depthwise"])
def test_gauss_newton_is_the_damped_least_squares_solution(model, people, kind):
    """Against numpy's own least squares on the linearised losses, in the weights and not in the rows."""
    found, _, _ = run(model, people, kind=kind, name="gauss_newton")
    slots = person_filters.layout(SITES, kind)
    zero = person_filters.flatten(person_filters.init(SITES, kind), slots)

    @jax.jit
    def losses(vector, windows):
        filters = person_filters.unflatten(vector, slots)
        return rank_loss(model.decode(model.encode(windows[:, 2]), person_filters.tap(filters, kind)), windows, SETTINGS)

    for own, theirs in list(zip(people, found))[:1]:  # every length compiles again
        windows = jnp.asarray(own[windows_of(own)])
        loss = np.asarray(losses(zero, windows), np.float64)
        gradients = np.asarray(jax.jacrev(losses)(zero, windows), np.float64)  # [rows, D]
        by_site = [np.square(gradients[:, s.offset : s.offset + s.size]).sum(1).mean() for s in slots]
        weights = np.repeat(np.sqrt(20 * len(slots) * np.array(by_site)), [s.size for s in slots])
        system = np.concatenate([gradients, np.diag(weights)])
        expected = np.linalg.lstsq(system, np.concatenate([-loss, np.zeros(len(zero))]))[0]
        np.testing.assert_allclose(theirs, expected, atol=1e-4 * np.abs(expected).max())


def test_gauss_newton_lowers_the_loss_further_than_a_gradient_of_any_length(model, people):
    """On the rows it is fitted to, with the whole decoder, not the linearised one, where the ridge does not hold it back."""

    @jax.jit
    def loss(filters, units):
        total, rows = fit.evaluate(model, (SETTINGS,), filters, units, 0, 9)
        return (total / rows).mean()

    _, units, newton = run(model, people, name="gauss_newton", ridge=0.3)
    _, _, gradient = run(model, people, name="gradient")
    best = min(loss(jax.tree.map(lambda g, s=size: g * s, gradient), units) for size in np.logspace(-1, 4, 11))
    assert loss(newton, units) < best < loss(jax.tree.map(jnp.zeros_like, newton), units)


def test_damping_must_be_positive():
    with pytest.raises(ValueError, match="ridge=0"):
        solvers.make("gauss_newton", learning_rate=1, steps=1, batch_size=1, ridge=0)

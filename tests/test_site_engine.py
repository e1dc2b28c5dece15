"""The fit in closed form: the same numbers however it is cut, what is learnt is kept, clear refusals."""

import copy
import dataclasses
import json
import runpy

import jax
import numpy as np
import pytest
import test_fit_engine
from test_fit_engine import CLIPS, COLLECTIVES, UNITS, assert_same, settings

from data_pipelines.errors import InputError
from facedyn.config import flatten
from facedyn.config_files import load_config
from facedyn.core import blocks, low_rank, unet
from facedyn.stages.fit import batching, closed_form, fit_stage, learning, shared
from facedyn.stages.fit.units import frames_of, plan
from facedyn.stages.runtime import common
from facedyn.store import representations, stamps


def closed_form_settings(**fit):
    return settings(**dict(solver="least_squares", filter_kind="low_rank", filter_sites="all", rank=3) | fit)


def learnt(config, fitting=None, reader=CLIPS, **more):
    """What the stage learns from the first four people."""
    params = unet.init(common.unet(config), jax.random.key(0), 8)
    return learning.learn(config, fitting or shared.make_fitting(config), params, 1, reader, list(range(4)), **more)


def fit_all(config, model, units=UNITS, fitting=None, **more):
    """{unit: (representation, loss, accuracy before, accuracy after)}, fitted as the stage does it."""
    return test_fit_engine.fit_all(config, units, fitting=fitting or shared.make_fitting(config), params=model, **more)


def shape_of(units=UNITS):
    return max(batching.shapes_of([(1, [{batching.WHOLE: unit} for unit in units])], 2))


@pytest.fixture(scope="module")
def reference():
    config = closed_form_settings()
    fitting = shared.make_fitting(config)
    model = learnt(config, fitting)[""]
    return model, fit_all(config, model), fitting


def test_chunks_order_and_devices_do_not_matter(reference, monkeypatch):
    model, expected, _ = reference
    assert_same(expected, fit_all(closed_form_settings(chunk_size=4), model, UNITS[::-1]))
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    assert_same(expected, fit_all(closed_form_settings(chunk_size=3), model))


def test_the_fit_computes_what_the_core_says(reference):
    model, found, _ = reference
    name, unit = UNITS[3].unit_id, UNITS[3]
    frames, sites = CLIPS.frames(3), closed_form.sites_of(closed_form_settings())
    maps = unet.feature_maps(common.unet(closed_form_settings()), model.params, frames)
    states = np.stack([np.asarray(maps[s.name]).reshape(60, -1) @ p for s, p in zip(sites, model.basis)], 1)
    centres = np.array([centre for _, centre in (*unit.fitted, *unit.held_back)])
    assert len(unit.held_back)
    windows = centres[:, None] + np.arange(-2, 3)
    filters = low_rank.solve(
        *low_rank.normal_equations(states, windows, np.zeros(len(centres), int), len(centres)),
        model.population,
        np.full(3, 20.0),
    )
    np.testing.assert_allclose(found[name][0], np.asarray(filters).reshape(-1), atol=1e-4)


def test_nothing_passes_between_devices(reference):
    model, _, fitting = reference
    config, mesh = closed_form_settings(), fitting.mesh
    batch = test_fit_engine.batch_of(fitting, model, [{batching.WHOLE: unit} for unit in UNITS[:4]], shape_of(), 4)
    (some,) = batching.groups_of(mesh, batch, 4)
    normal_equations, errors = learning.compile_sums(config.fit.whiten, mesh)
    encode = closed_form.compile_encode(config, closed_form.sites_of(config), mesh)
    population, ridge = batching.to_devices(mesh, (model.population, model.ridge))
    for lowered in (
        closed_form.compile_fit(config, mesh).lower(population, ridge, *some),
        errors.lower(population, *some),
        encode.lower(model.params, model.basis, CLIPS.frames(0, np.arange(8))),
        normal_equations.lower(some.frames, some.fitted),
    ):
        text = lowered.compile().as_text()
        assert not [name for name in COLLECTIVES if name in text]


def test_every_frame_goes_through_the_u_net_once_and_few_are_decoded_at_a_time(reference, monkeypatch, tmp_path):
    """All of a unit, its halves and the same of shuffled frames come from one array of states."""
    model, _, _ = reference
    monkeypatch.setattr(closed_form, "encode_frames", lambda config: 4)
    config = closed_form_settings(split_half=True, controls=("time_shuffled",), min_frames=4, chunk_size=4)
    config.rank_loss.scales = (1,)
    asked, encoded, compile_encode, frames = [], [], closed_form.compile_encode, CLIPS.frames

    def counted(*args):
        encode = compile_encode(*args)
        return lambda params, basis, frames: encoded.append(len(frames)) or encode(params, basis, frames)

    monkeypatch.setattr(closed_form, "compile_encode", counted)
    monkeypatch.setattr(CLIPS, "frames", lambda record, p=None: asked.append((record, p)) or frames(record, p))
    fitting = shared.make_fitting(config)
    fit_stage.fit_table(config, fitting, CLIPS, lambda *_: model, tmp_path, "", None)
    seen = [(record, p) for record, positions in asked for p in positions.tolist()]
    assert len(seen) == len(set(seen)) == 60 * len(CLIPS.clips)
    assert max(encoded) == 4 * fitting.mesh.size
    assert sum(encoded) < len(seen) + 3 * max(encoded)  # the last block of each of three chunks is filled up
    assert max(len(positions) for _, positions in asked) <= max(encoded)
    for place, rows in (("", 9), ("halves", 18), ("time_shuffled", 9), ("time_shuffled/halves", 18)):
        assert len(representations.read_rows(tmp_path / place)) == rows


def test_shuffled_windows_are_those_of_frames_that_lie_shuffled(reference):
    model, expected, fitting = reference
    config = closed_form_settings()
    unit = dataclasses.replace(UNITS[2], held_back=UNITS[2].held_back[:0])
    found = fit_all(config, model, [unit], fitting, seed=3)
    # The same through frames that lie shuffled on the disk.
    (sources,) = [batching.sources_of({batching.WHOLE: unit}, 1, 2)]
    ordered, moved = (batching.place_windows(unit.fitted, sources, 1, 2, seed) for seed in (None, 3))
    order = dict(zip(ordered.flat, moved.flat))
    positions, lying = sources[2], copy.copy(CLIPS)
    lying._frames = CLIPS._frames.copy()
    lying._frames[2, positions] = CLIPS._frames[2, positions[[order[i] for i in range(len(positions))]]]
    alone = fit_all(config, model, [unit], fitting, reader=lying)
    np.testing.assert_allclose(found[unit.unit_id][0], alone[unit.unit_id][0], atol=1e-5)
    assert np.abs(found[unit.unit_id][0] - expected[unit.unit_id][0]).max() > 1e-3


def test_shuffled_frames_are_learnt_from_on_the_same_basis(reference, monkeypatch):
    model, _, fitting = reference
    config, encoded = closed_form_settings(), []
    counted = fitting._replace(load=lambda *args: encoded.append(1) or fitting.load(*args))
    both = learnt(config, counted, controls=("", "time_shuffled"), known=model)
    assert both["time_shuffled"].basis is both[""].basis is model.basis
    assert np.abs(both["time_shuffled"].population - model.population).max() > 0.01
    np.testing.assert_allclose(both[""].population, model.population, atol=1e-5)
    np.testing.assert_array_equal(both[""].ridge, model.ridge)
    assert len(encoded) == 1  # one chunk, whose states serve both


def test_what_is_learnt_for_everybody_is_kept(reference, tmp_path):
    model, _, _ = reference
    names = [site.name for site in closed_form.sites_of(closed_form_settings())]
    path, length = tmp_path / "scale_3.npz", model.population.size
    shared.save(path, names, model)
    jax.tree.map(np.testing.assert_array_equal, shared.load(path, names, length, model.params), model)
    assert shared.load(path, names[:2], length, model.params) is None
    assert shared.load(path, names, length + 1, model.params) is None  # with innovations, say
    assert shared.load(tmp_path / "none.npz", names, length, model.params) is None


def test_the_ridge_may_be_chosen_on_the_generic_models_people(reference):
    model, expected, _ = reference
    assert set(model.ridge.tolist()) <= set(learning.RIDGES.tolist())
    assert model.ridge.min() > 20  # noise: the default is too little
    chosen = fit_all(closed_form_settings(ridge=0.0), model)
    same = fit_all(closed_form_settings(ridge=float(model.ridge[0])), model)
    first = slice(0, 2 * 3 * 3)  # of the first site
    for name in expected:
        np.testing.assert_allclose(chosen[name][0][first], same[name][0][first], atol=1e-6)
        assert np.abs(chosen[name][0]).max() < np.abs(expected[name][0]).max()


def test_pictures_show_what_the_filters_add(reference):
    model, found, fitting = reference
    frames, window = CLIPS.frames(0), CLIPS.frames(0, np.arange(10, 15))
    generic, fitted = fitting.pictures(model, found["p0"][0], window, frames)
    assert generic.shape == fitted.shape == (2, 8, 8, 1)
    nothing = fitting.pictures(model, 0 * found["p0"][0], window, frames)
    np.testing.assert_allclose(nothing, [generic, generic], atol=1e-6)
    assert np.abs(fitted - generic).max() > 1e-4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (dict(filter_kind="pointwise"), "do not go together"),
        (dict(solver="adam"), "do not go together"),
        (dict(rank=0), "fit.rank is 0; it must be a whole number from 1"),
        (dict(ridge=-1.0), "fit.ridge is -1.0; it must be a number of at least 0"),
    ],
)
def test_settings_that_cannot_be_used(changed, said):
    with pytest.raises(InputError, match=said):
        shared.make_fitting(closed_form_settings(**changed))


def test_every_ablation_can_be_fitted(root):
    for name, changes in runpy.run_path(f"{root}/configs/ablation.py")["CHANGES"].items():
        config = load_config(f"{root}/configs/ablation.py:{name}")
        for key, value in changes.items():
            assert flatten(config)[key] == value
        shared.make_fitting(config)


def test_one_map_is_refused():
    config = closed_form_settings()
    config.rank_loss.direction = "centred"
    with pytest.raises(InputError, match="two_maps"):
        shared.make_fitting(config)


def test_the_blocks_stand_one_behind_the_other_and_are_of_all_frames(reference):
    model, expected, _ = reference
    config = closed_form_settings(blocks=("filters", "innovations", "step_correlations"))
    fitting = shared.make_fitting(config)
    found = fit_all(config, model, fitting=fitting)
    filters, names = model.population.size, ("filters", "innovations", "step_correlations")
    for name, (vector, *figures) in found.items():
        np.testing.assert_allclose(vector[:filters], expected[name][0], atol=1e-5)
        np.testing.assert_allclose(figures, expected[name][1:], rtol=1e-5)
        assert vector.shape == (filters + 3 * (9 * 3 + 3),)
    assert np.bincount(shared.features(config).bands).tolist() == [filters, 3 * 9 * 3, 3 * 3]
    # Those of the core, for a unit alone.
    batch = test_fit_engine.batch_of(fitting, model, [{batching.WHOLE: unit} for unit in UNITS[:4]], shape_of(), 4)
    rows = low_rank.concatenate_rows(*((batch.frames[2], *(x[2] for x in part)) for part in (batch.fitted, batch.held)))
    vector = found[UNITS[2].unit_id][0]
    own = vector[:filters].reshape(model.population.shape)
    np.testing.assert_allclose(vector, blocks.represent(names, own, model.population, *rows), atol=1e-3)


def test_whitened_states_are_those_of_the_unit_alone_and_amplitude_is_of_what_was_there(reference):
    model, _, fitting = reference
    names = ("filters", "step_correlations", "amplitude")
    config = closed_form_settings(blocks=names, whiten=True)
    whitening = shared.make_fitting(config)
    found = fit_all(config, model, fitting=whitening)
    batch = test_fit_engine.batch_of(fitting, model, [{batching.WHOLE: unit} for unit in UNITS[:4]], shape_of(), 4)
    sizes = [model.population.size, 9, 9]
    for p, unit in enumerate(UNITS[:4]):
        parts = [(batch.frames[p], *(x[p] for x in part)) for part in (batch.fitted, batch.held)]
        states, *rows = low_rank.concatenate_rows(*parts)
        whole = low_rank.whiten(states, *rows)
        own = low_rank.solve(*low_rank.normal_equations(whole, *rows), model.population, np.full(3, 20.0))
        expected = [blocks.filters(own, 0, whole, *rows), blocks.step_correlations(own, 0, whole, *rows)]
        expected += [blocks.amplitude(own, 0, states, *rows)]
        for part, one in zip(np.split(found[unit.unit_id][0], np.cumsum(sizes)[:-1]), expected):
            np.testing.assert_allclose(part, np.asarray(one).reshape(-1), atol=2e-3)
        now = np.asarray(whole)[np.asarray(rows[0])[: int(rows[2]), 2]]
        centred = now - np.asarray(
            low_rank.clip_means(now, rows[1][: int(rows[2])], np.ones(len(now), bool), rows[1][: int(rows[2])])
        )
        np.testing.assert_allclose(
            np.einsum("nsi,nsj->sij", centred, centred) / len(now), np.eye(3)[None].repeat(3, 0), atol=0.1
        )


def test_the_spread_of_the_representation_is_that_of_the_generic_models_people(reference, tmp_path):
    model, _, fitting = reference
    config, few = closed_form_settings(), list(range(4))
    pool = learning.Pool(config, fitting, model, 1, CLIPS, few, tmp_path)
    mean, std = learning.learn_scaling(fitting, model, pool, None)
    plans = dict(unit="person", scale=1, half_length=2, held_back=config.fit.held_back, max_frames=512, min_frames=1)
    units = plan(CLIPS, few, **plans)[0]
    found = fit_all(config, model, units, equal=units)
    vectors = np.stack([vector for vector, *_ in found.values()])
    assert len(vectors) == 4
    np.testing.assert_allclose(mean, vectors.mean(0), atol=1e-4)
    np.testing.assert_allclose(std, vectors.std(0), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in blocks.BLOCKS if name != "filters"])
def test_other_blocks_need_the_closed_form(name):
    with pytest.raises(InputError, match=r"config\.fit\.solver=adam finds only filters"):
        shared.make_fitting(settings(blocks=("filters", name)))


def test_figures_on_held_back_rows_are_of_filters_that_have_not_seen_them():
    """A unit that stands still in the rows fitted has learnt nothing for those held back, however they move."""
    config = closed_form_settings(ridge=1.0)
    mesh, sites, random = batching.people_mesh(), closed_form.sites_of(config), np.random.default_rng(0)
    people = mesh.size
    moving = np.cumsum(random.normal(size=(people, 24, len(sites), 3)), 1).astype(np.float32)
    states = np.concatenate([np.zeros_like(moving), moving], 1)
    windows = np.tile(np.arange(20)[:, None] + np.arange(5), (people, 1, 1)).astype(np.int32)
    clips, counts = np.zeros((people, 20), np.int32), np.full(people, 20, np.int32)
    population = random.normal(0, 0.1, (len(sites), 2, 3, 3)).astype(np.float32)
    still, held = batching.Rows(windows, clips, counts), batching.Rows(windows + 24, clips, counts)
    vectors, _, before, after, rows = closed_form.compile_fit(config, mesh)(
        population, np.ones(len(sites), np.float32), states, still, held
    )
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(rows, 20)
    # The representation itself is of all rows.
    assert np.abs(np.asarray(vectors).reshape(people, len(sites), -1)).max((0, 2)).min() > 1e-2


@pytest.mark.parametrize("at_once", [2**30, 1])
def test_the_basis_is_of_movement_not_of_who_is_seen(reference, monkeypatch, at_once):
    """The states of the frames that it is learnt from have a mean square of one about their own clip's mean.

    As it is, however many sites' feature maps are held at once.
    """
    model, _, _ = reference
    config, few = closed_form_settings(), list(range(4))
    n_frames = learning.basis_frames(config)
    frames, clip = learning.spread_frames(CLIPS, few, n_frames)
    assert len(learning._sites_at_once(config, len(frames))) == 1
    monkeypatch.setattr(learning, "basis_frames", lambda config: n_frames)
    monkeypatch.setattr(learning, "BASIS_BYTES", at_once)
    assert len(learning._sites_at_once(config, len(frames))) == (1 if at_once > 1 else 3)
    bases, readout = learning.learn_basis(config, model.params, 1, CLIPS, few)
    np.testing.assert_allclose(readout, model.readout, atol=1e-4)
    maps = closed_form.make_site_maps(config)(model.params, frames, closed_form.sites_of(config))
    for of_site, basis, expected in zip(maps, bases, model.basis):
        np.testing.assert_allclose(basis, expected, atol=1e-3 * np.abs(expected).max())
        states = np.asarray(of_site) @ basis
        about_means = np.concatenate([states[clip == c] - states[clip == c].mean(0) for c in np.unique(clip)])
        np.testing.assert_allclose((about_means**2).mean(0), 1, atol=1e-3)


@pytest.mark.parametrize("solver", ["least_squares", "adam"])
def test_halves_of_a_person_share_no_frame(solver):
    """What a half's representation is made of: its fitted rows, and where the fit uses them, those held back."""
    config = closed_form_settings(held_back=0.2, min_frames=4, split_half=True, controls=())
    config.rank_loss.scales = (1, 2)
    if solver == "adam":
        config.fit.solver, config.fit.filter_kind = "adam", "pointwise"
    fitting = shared.make_fitting(config)
    planned, _ = fit_stage.plan_all(config, fitting, CLIPS)
    for scale in (1, 2):
        first, second = ({parts[half, 0.0].unit_id: parts[half, 0.0] for parts in planned[scale]} for half in (1, 2))
        assert len(first) == len(second) == len(CLIPS.clips)
        for name in first:
            of_half = [
                frames_of(np.concatenate([u.fitted, u.held_back]) if fitting.uses_all else u.fitted, scale, 2)
                for u in (first[name], second[name])
            ]
            for record in of_half[0].keys() & of_half[1]:
                assert not set(of_half[0][record]) & set(of_half[1][record])


def test_shuffled_frames_get_population_filters_of_shuffled_frames(monkeypatch, tmp_path):
    """The control is the same computation throughout, on the same basis; and it is learnt from the generic model's people."""
    config, pools = closed_form_settings(held_back=0.2, controls=("time_shuffled",)), []
    params = unet.init(common.unet(config), jax.random.key(0), 8)
    monkeypatch.setattr(shared, "load_generic", lambda *_: params)
    stamp = stamps.stamp_path(tmp_path, "pretrain")
    stamp.parent.mkdir()
    whole = {name: kind() for name, kind in stamps.HOLDS.items()}
    stamp.write_text(json.dumps(whole | {"format": stamps.FORMAT, "summary": {"people": ["p1", "p2", "p5"]}}))
    clips = copy.copy(CLIPS)
    clips.metadata = {"fingerprint": "these"}
    learn_population = learning.learn_population

    def noted(config, fitting, model, pool, seed):
        pools.append(({who for people, _ in pool.batches(None) for who in people}, seed))
        return learn_population(config, fitting, model, pool, seed)

    monkeypatch.setattr(learning, "learn_population", noted)
    models = shared.Models(config, tmp_path, shared.make_fitting(config), clips)
    ordered, shuffled = models(1), models(1, "time_shuffled")
    assert shuffled.basis is ordered.basis
    assert np.abs(shuffled.population - ordered.population).max() > 0.01
    assert pools == [({"p1", "p2", "p5"}, None), ({"p1", "p2", "p5"}, config.seed)]
    assert models.others() == []

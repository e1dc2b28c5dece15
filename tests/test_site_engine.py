"""The engine of filters in closed form: the same numbers however it is cut, learnt patterns that are kept, clear refusals."""

import copy
import dataclasses
import json
import runpy

import jax
import numpy as np
import pytest
from test_fit_engine import CLIPS, COLLECTIVES, UNITS, assert_same, settings

from data_pipelines.errors import InputError
from facedyn.config import flatten
from facedyn.config_files import load_config
from facedyn.core import identification, innovations, low_rank, metrics, person_filters, unet
from facedyn.stages.fit import closed_form, fit_stage, iterative, shared, site_models, site_states
from facedyn.stages.fit.units import TimeShuffled, frames_of, place_windows, shapes_of
from facedyn.stages.runtime import common
from facedyn.store import stamps


def closed_form_settings(**fit):
    return settings(**dict(solver="least_squares", filter_kind="low_rank", filter_sites="all", rank=3) | fit)


def model_of(engine, config):
    return engine.learn(unet.init(common.unet(config), jax.random.key(0), 8), 1, CLIPS, list(range(4)))


def fit_all(config, model, units=UNITS, most=None, engine=None, alike=UNITS):
    """{unit: (representation, loss, accuracy before, accuracy after)}, fitted as the stage does it."""
    engine, found = engine or shared.make_engine(config, CLIPS), {}
    shapes = shapes_of([(1, alike)], engine.half_length)
    for shape, people, grouped in iterative.chunks_of(units, {s: engine.people(s, most or len(units)) for s in shapes}):
        results = engine(engine.replicate(model), engine.load(grouped, shape, people, 1), shape)
        assert all(len(column) == people for column in results)
        found |= {u.unit_id: [column[p] for column in results] for p, u in enumerate(grouped)}
    return found


@pytest.fixture(scope="module")
def reference():
    config = closed_form_settings()
    engine = shared.make_engine(config, CLIPS)
    model = model_of(engine, config)
    return model, fit_all(config, model), engine


def test_chunks_order_and_devices_do_not_matter(reference, monkeypatch):
    model, expected, _ = reference
    assert_same(expected, fit_all(closed_form_settings(chunk_size=4), model, UNITS[::-1]))
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    assert_same(expected, fit_all(closed_form_settings(chunk_size=3), model))


def test_the_engine_computes_what_the_core_says(reference):
    model, found, engine = reference
    name, unit = UNITS[3].unit_id, UNITS[3]
    frames = np.asarray(CLIPS.frames(3, np.arange(60)))
    maps = unet.feature_maps(engine.unet, model.params, frames)
    states = np.stack([np.asarray(maps[s.name]).reshape(60, -1) @ p for s, p in zip(engine.sites, model.basis)], 1)
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
    model, _, engine = reference
    shape, on_devices = max(shapes_of([(1, UNITS)], 2)), engine.replicate(model)
    (fitted, held), *_ = engine._groups(on_devices, engine.load(UNITS[:4], shape, 4, 1))
    frames = jax.device_put(CLIPS.frames(0, np.arange(8)), engine._people)
    for lowered in (
        engine.fit.lower(on_devices.population, on_devices.ridge, fitted, held),
        engine.errors.lower(on_devices.population, fitted, held),
        engine.states.lower(on_devices, frames),
        engine.normal_equations.lower(fitted),
    ):
        text = lowered.compile().as_text()
        assert not [name for name in COLLECTIVES if name in text]


def test_every_frame_is_looked_at_once_and_nothing_hangs_on_what_is_kept(reference, monkeypatch):
    model, expected, _ = reference
    asked, frames = [], CLIPS.frames
    monkeypatch.setattr(
        CLIPS, "frames", lambda record, positions: asked.append((record, positions)) or frames(record, positions)
    )
    engine = shared.make_engine(closed_form_settings(), CLIPS)
    assert_same(expected, fit_all(closed_form_settings(), model, engine=engine))
    seen = [(record, p) for record, positions in asked for p in positions.tolist()]
    assert len(seen) == len(set(seen))
    before = len(asked)
    halves = [dataclasses.replace(u, fitted=u.fitted[:5]) for u in UNITS]
    fit_all(closed_form_settings(), model, halves, engine=engine)
    assert len(asked) == before
    engine.kept = site_states.SiteStates(most_bytes=1)
    assert_same(expected, fit_all(closed_form_settings(), model, engine=engine))
    assert len(asked) > before


def test_shuffled_frames_are_those_of_the_reader_that_shuffles(reference):
    model, expected, engine = reference
    shuffled = TimeShuffled(CLIPS, 3)
    # The same through frames that lie shuffled on the disk: everything a part of a unit needs of a record is asked for at once.
    unit = dataclasses.replace(UNITS[2], held_back=UNITS[2].held_back[:0])
    states = fit_all(closed_form_settings(), model, [unit], engine=engine.with_reader(shuffled))
    (record, positions), *more = place_windows(unit.fitted, 1, 2)[0]
    assert not more
    lying = copy.copy(CLIPS)
    lying._frames = CLIPS._frames.copy()
    lying._frames[record, positions] = shuffled.frames(record, positions)
    alone = fit_all(closed_form_settings(), model, [unit], engine=shared.make_engine(closed_form_settings(), lying))
    np.testing.assert_allclose(states[unit.unit_id][0], alone[unit.unit_id][0], atol=1e-5)
    assert np.abs(states[unit.unit_id][0] - expected[unit.unit_id][0]).max() > 1e-3


def test_models_of_shuffled_frames_share_patterns_and_readers_do_not_share_states(reference):
    model, expected, _ = reference
    engine = shared.make_engine(closed_form_settings(), CLIPS)
    other = copy.copy(CLIPS)
    other._frames = CLIPS._frames[::-1]
    shuffled = engine.learn_population(model, 1, TimeShuffled(other, 0), list(range(4)))
    assert shuffled.basis is model.basis
    assert np.abs(shuffled.population - model.population).max() > 0.01
    assert_same(expected, fit_all(closed_form_settings(), model, engine=engine))  # though record 0 was another one a moment ago
    ordered = engine.learn_population(model, 1, CLIPS, list(range(4)))
    np.testing.assert_allclose(ordered.population, model.population, atol=1e-5)
    np.testing.assert_array_equal(ordered.ridge, model.ridge)


def test_states_are_kept_within_bounds():
    kept, random = site_states.SiteStates(most_bytes=8 * 29), np.random.default_rng(0)
    states = {record: random.normal(size=(40, 1, 2)).astype(np.float32) for record in range(3)}
    kept.add(0, np.arange(5, 10), states[0][5:10])
    kept.add(0, np.arange(8, 15), states[0][8:15])
    np.testing.assert_array_equal(kept.missing(0, np.arange(3, 17)), [3, 4, 15, 16])
    np.testing.assert_array_equal(kept.get(0, np.array([6, 9, 14])), states[0][[6, 9, 14]])
    assert kept.get(0, np.array([4, 6])) is None
    kept.add(1, np.arange(18), states[1][:18])
    assert kept.get(0, np.array([6])) is not None  # now 1 is the older one
    kept.add(2, np.arange(2), states[2][:2])
    assert kept.get(1, np.arange(3)) is None
    assert kept.get(0, np.array([6])) is not None


def test_what_is_learnt_for_everybody_is_kept(reference, tmp_path):
    model, _, engine = reference
    names = [site.name for site in engine.sites]
    path, length = tmp_path / "patterns_3.npz", model.population.size
    site_models.save(path, names, model)
    jax.tree.map(np.testing.assert_array_equal, site_models.load(path, names, length, model.params), model)
    for found, kept in zip(site_models.load_identification_weights(path), (model.reliability, model.discriminants)):
        np.testing.assert_array_equal(found, kept)
    assert site_models.load(path, names[:2], length, model.params) is None
    assert site_models.load(path, names, length + 1, model.params) is None  # with innovations, say
    assert site_models.load(tmp_path / "none.npz", names, length, model.params) is None
    # A file of before there was a reliability: all weights count alike.
    with np.load(path) as stored:
        np.savez(path, **{name: value for name, value in stored.items() if name != "reliability"})
    assert site_models.load_identification_weights(path) is None
    np.testing.assert_array_equal(site_models.load(path, names, length, model.params).reliability, np.ones(length))


def test_damping_may_be_chosen_on_the_generic_models_people(reference):
    model, expected, _ = reference
    assert set(model.ridge.tolist()) <= set(closed_form.RIDGES.tolist())
    assert model.ridge.min() > 20  # noise: the default is too little
    chosen = fit_all(closed_form_settings(ridge=0.0), model)
    same = fit_all(closed_form_settings(ridge=float(model.ridge[0])), model)
    first = slice(0, 2 * 3 * 3)  # of the first site
    for name in expected:
        np.testing.assert_allclose(chosen[name][0][first], same[name][0][first], atol=1e-6)
        assert np.abs(chosen[name][0]).max() < np.abs(expected[name][0]).max()


def test_pictures_show_what_the_filters_add(reference):
    model, found, engine = reference
    window = np.asarray(CLIPS.frames(0, np.arange(10, 15)))
    generic, fitted = engine.pictures(engine.replicate(model), found["p0"][0], window, UNITS[0])
    assert generic.shape == fitted.shape == (2, 8, 8, 1)
    nothing = engine.pictures(engine.replicate(model), 0 * found["p0"][0], window, UNITS[0])
    np.testing.assert_allclose(nothing, [generic, generic], atol=1e-6)
    assert np.abs(fitted - generic).max() > 1e-4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (dict(filter_kind="pointwise"), "do not go together"),
        (dict(solver="adam"), "do not go together"),
        (dict(rank=0), "at least 1"),
        (dict(ridge=-1.0), "must be positive"),
    ],
)
def test_settings_that_cannot_be_used(changed, said):
    with pytest.raises(InputError, match=said):
        shared.make_engine(closed_form_settings(**changed), CLIPS)


def test_every_ablation_can_be_fitted(root):
    for name, changes in runpy.run_path(f"{root}/configs/ablation.py")["CHANGES"].items():
        config = load_config(f"{root}/configs/ablation.py:{name}")
        for key, value in changes.items():
            assert flatten(config)[key] == value
        shared.make_engine(config, CLIPS)


def test_one_map_is_refused():
    config = closed_form_settings()
    config.rank_loss.direction = "centred"
    with pytest.raises(InputError, match="two_maps"):
        shared.make_engine(config, CLIPS)


def test_innovations_and_step_correlations_stand_behind_the_filters_of_all_frames(reference):
    model, expected, _ = reference
    config = closed_form_settings(innovations=True, step_correlations=True)
    engine = shared.make_engine(config, CLIPS)
    found = fit_all(config, model, engine=engine)
    filters = model.population.size
    for name, (vector, *figures) in found.items():
        np.testing.assert_allclose(vector[:filters], expected[name][0], atol=1e-5)
        np.testing.assert_allclose(figures, expected[name][1:], rtol=1e-5)
        assert vector.shape == (filters + 3 * (9 * 3 + 3),)
    assert shared.part_sizes(config) == [filters, 3 * 9 * 3, 3 * 3]
    # Those of the core, for a unit alone.
    fitted, held = next(engine._groups(engine.replicate(model), engine.load(UNITS[:4], shapes_of([(1, UNITS)], 2)[-1], 4, 1)))
    rows = low_rank.concatenate_rows(*([np.asarray(x)[2] for x in part] for part in (fitted, held)))
    vector = found[UNITS[2].unit_id][0]
    by_site = person_filters.unflatten(vector, engine.slots)
    own = model.population + np.stack([by_site[site.name] for site in engine.sites])
    left, joint = innovations.innovations(own, *rows), innovations.step_correlations(rows[0], rows[1], rows[3])
    for s, site in enumerate(engine.sites):
        np.testing.assert_allclose(by_site[innovations.slot_name(site.name)], left[s], atol=1e-3)
        np.testing.assert_allclose(by_site[innovations.step_correlations_name(site.name)], joint[s], atol=1e-3)


def test_what_tells_people_apart_is_learnt_from_their_halves(reference, monkeypatch):
    model, _, engine = reference
    np.testing.assert_array_equal(model.reliability, 1)  # four people tell nothing
    assert model.discriminants.shape == (len(model.reliability), 0)
    monkeypatch.setattr(closed_form, "MIN_FOR_RELIABILITY", 3)
    found, directions = engine._identification_weights(model, 1, CLIPS, list(range(4)))
    assert directions.shape[1] == 0
    units = [engine._units_of_people(1, CLIPS, list(range(4)), 0.0, half) for half in (1, 2)]
    halves = [fit_all(closed_form_settings(), model, of_half, alike=of_half) for of_half in units]
    first, second = (np.stack([of[name][0] for name in sorted(of)]) for of in halves)
    assert 0 <= found.min() < found.max() <= 1
    assert found.std() > 0.05
    for i in range(0, len(found), 7):
        assert found[i] == pytest.approx(max(float(metrics.icc(first[:, i], second[:, i])), 0), abs=1e-3)
    monkeypatch.setattr(closed_form, "MIN_FOR_DISCRIMINANTS", 3)
    _, directions = engine._identification_weights(model, 1, CLIPS, list(range(4)))
    _, expected = identification.learn(first, second)
    np.testing.assert_allclose(directions @ directions.T, expected @ expected.T, atol=1e-2 * np.abs(expected).max() ** 2)


@pytest.mark.parametrize("name", ["innovations", "step_correlations"])
def test_innovations_need_the_closed_form(name):
    with pytest.raises(InputError, match=rf"config\.fit\.{name}=True needs config\.fit\.solver=least_squares, not adam"):
        shared.make_engine(settings(**{name: True}), CLIPS)


def test_no_more_people_than_the_bound_say_how_reliable_a_weight_is(monkeypatch):
    seen = []
    monkeypatch.setattr(closed_form, "MIN_FOR_RELIABILITY", 2)
    monkeypatch.setattr(closed_form, "MAX_FOR_RELIABILITY", 3)
    monkeypatch.setattr(metrics, "reliability", lambda first, second: seen.append((first.shape, second.shape)) or first[0])
    engine = shared.make_engine(closed_form_settings(), CLIPS)
    model = model_of(engine, closed_form_settings())
    length = sum(slot.size for slot in engine.slots)
    assert seen == [((3, length), (3, length))]
    assert model.reliability.shape == (length,)


def test_blocks_hold_every_unit_once_and_few_states(monkeypatch):
    engine = shared.make_engine(closed_form_settings(), CLIPS)
    assert engine.blocks(list(UNITS)) == [list(UNITS)]
    monkeypatch.setattr(closed_form, "BLOCK_BYTES", 3000)
    blocks = engine.blocks(list(UNITS))
    assert [u.unit_id for block in blocks for u in block] == [u.unit_id for u in UNITS]
    rows = [sum(len(u.fitted) + len(u.held_back) for u in block) for block in blocks if len(block) > 1]
    assert len(blocks) > 2
    assert all(n * 4 * len(engine.sites) * 3 <= 3000 for n in rows)
    assert engine.blocks([]) == [[]]


def test_figures_on_held_back_rows_are_of_filters_that_have_not_seen_them():
    """A unit that stands still in the rows fitted has learnt nothing for those held back, however they move."""
    engine = shared.make_engine(closed_form_settings(ridge=1.0), CLIPS)
    people, sites, random = engine.mesh.size, len(engine.sites), np.random.default_rng(0)
    windows = np.tile(np.arange(20)[:, None] + np.arange(5), (people, 1, 1)).astype(np.int32)
    clips, counts = np.zeros((people, 20), np.int32), np.full(people, 20, np.int32)
    moving = np.cumsum(random.normal(size=(people, 24, sites, 3)), 1).astype(np.float32)
    population = random.normal(0, 0.1, (sites, 2, 3, 3)).astype(np.float32)
    still = (0 * moving, windows, clips, counts)
    by_slot, _, before, after, rows = engine.fit(
        population, np.ones(sites, np.float32), still, (moving, windows, clips, counts)
    )
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(rows, 20)
    # The representation itself is of all rows.
    assert min(np.abs(by_slot[site.name]).max() for site in engine.sites) > 1e-2


def test_principal_components_are_of_movement_not_of_who_is_seen(reference):
    """The states of the frames that they are learnt from have a mean square of one about their own clip's mean."""
    model, _, engine = reference
    frames, clip = closed_form._spread(CLIPS, list(range(4)), engine._basis_frames())
    for maps, basis in zip(engine.maps(model.params, frames), model.basis):
        states = np.asarray(maps) @ basis
        about_means = np.concatenate([states[clip == c] - states[clip == c].mean(0) for c in np.unique(clip)])
        np.testing.assert_allclose((about_means**2).mean(0), 1, atol=1e-3)


@pytest.mark.parametrize("solver", ["least_squares", "adam"])
def test_halves_of_a_person_share_no_frame(monkeypatch, tmp_path, solver):
    """What a half's representation is made of: its fitted rows, and where the engine uses them, those held back."""
    config = closed_form_settings(held_back=0.2, min_frames=4, split_half=True, controls=())
    config.rank_loss.scales = (1, 2)
    if solver == "adam":
        config.fit.solver, config.fit.filter_kind = "adam", "pointwise"
    engine = shared.make_engine(config, CLIPS)
    monkeypatch.setattr(fit_stage, "_fit_all", lambda *_: None)
    jobs, _ = fit_stage.fit_table(config, engine, CLIPS, lambda *_: {}, tmp_path, "", None)
    for scale in (1, 2):
        first, second = ({u.unit_id: u for u in jobs[scale, half]} for half in (1, 2))
        assert len(first) == len(second) == len(CLIPS.clips)
        for name in first:
            of_half = [
                frames_of(np.concatenate([u.fitted, u.held_back]) if engine.uses_all else u.fitted, scale, 2)
                for u in (first[name], second[name])
            ]
            for record in of_half[0].keys() & of_half[1]:
                assert not set(of_half[0][record]) & set(of_half[1][record])


def test_shuffled_frames_get_population_filters_of_shuffled_frames(monkeypatch, tmp_path):
    """The control is the same computation throughout, on the same basis; and it is learnt from the generic model's people."""
    config, pools = closed_form_settings(held_back=0.2), []
    params = unet.init(common.unet(config), jax.random.key(0), 8)
    monkeypatch.setattr(shared, "load_generic", lambda *_: params)
    stamp = stamps.stamp_path(tmp_path, "pretrain")
    stamp.parent.mkdir()
    stamp.write_text(json.dumps({"format": stamps.FORMAT, "summary": {"people": ["p1", "p2", "p5"]}}))
    clips = copy.copy(CLIPS)
    clips.metadata = {"fingerprint": "these"}
    engine = shared.make_engine(config, clips)
    learn_population = closed_form.SiteEngine.learn_population

    def noted(self, model, scale, reader, records):
        pools.append({reader.clips[i].person_id for i in records})
        return learn_population(self, model, scale, reader, records)

    monkeypatch.setattr(closed_form.SiteEngine, "learn_population", noted)
    models = shared.Models(config, tmp_path, engine, clips)
    ordered, shuffled = models(1), models(1, "time_shuffled")
    assert shuffled.basis is ordered.basis
    assert np.abs(shuffled.population - ordered.population).max() > 0.01
    assert pools == [{"p1", "p2", "p5"}] * 2
    assert models.others() == []

"""The fit through the decoder: no collectives, few compilations, the same numbers however it is cut."""

import dataclasses

import jax
import numpy as np
import pytest

from data_pipelines.dataset.face_clips import ClipInfo
from facedyn.config import default_config
from facedyn.core import unet
from facedyn.stages.fit import batching, iterative
from facedyn.stages.fit.units import FitUnit
from facedyn.stages.runtime import common

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")


class Clips:
    """What the fit uses of a FaceClipsReader: clips of noise."""

    image_size, channels = 8, 1

    def __init__(self, people: int, length: int = 60):
        random = np.random.default_rng(0)
        self._frames = random.integers(0, 256, (people, length, 8, 8, 1), np.uint8)
        self.clips = tuple(
            ClipInfo(f"c{i}", f"p{i}", "", "", "", 25.0, np.arange(length, dtype=np.int32), np.zeros(0)) for i in range(people)
        )

    def frames(self, record, positions=None):
        return self._frames[record, slice(None) if positions is None else positions]


def unit(record: int, fitted: int, held: int = 5, step: int = 1) -> FitUnit:
    rows, last = [(record, 2 + step * k) for k in range(fitted)], [(record, 50 + k) for k in range(held)]
    rows, last = (np.asarray(part, np.int32).reshape(-1, 2) for part in (rows, last))
    return FitUnit(f"p{record}", f"p{record}", "", "", rows, last)


def settings(**fit):
    config = default_config()
    config.data.image_size, config.data.channels = 8, 1
    config.model.channels, config.model.groups = (4, 6), 2
    config.rank_loss.half_length = 2
    config.rank_loss.kind = "logistic"  # smooth: at a hinge rounding may decide on which side a pair of frames falls
    config.fit.solver, config.fit.filter_kind, config.fit.filter_sites = "adam", "pointwise", "connections"
    config.fit.ridge, config.fit.blocks, config.fit.whiten = 20.0, ("filters",), False
    config.fit.steps, config.fit.batch_size = 4, 4
    config.fit.update(fit)
    return config


UNITS = [unit(i, n) for i, n in enumerate((30, 12, 14, 25, 16, 13, 30, 15, 21))]
CLIPS = Clips(len(UNITS))


def fit_all(config, units=UNITS, most=None, fitting=None, params=None, reader=CLIPS, equal=UNITS, seed=None):
    """{unit: (representation, loss, accuracy before, accuracy after)}, fitted as the stage does it."""
    fitting, found = fitting or iterative.make_fitting(config), {}
    params = params or unet.init(common.unet(config), jax.random.key(0), 8)
    shapes = batching.shapes_of([(1, [{batching.WHOLE: unit} for unit in equal])], 2)
    people = {shape: batching.chunk_people(config, fitting, shape, most or len(units)) for shape in shapes}
    for shape, count, chunk in batching.chunks_of([{batching.WHOLE: unit} for unit in units], people):
        result = fitting.fit(params, batch_of(fitting, params, chunk, shape, count, reader, seed))
        assert all(len(column) == count for column in result)
        found |= {parts[batching.WHOLE].unit_id: [column[p] for column in result] for p, parts in enumerate(chunk)}
    return found


def batch_of(fitting, params, chunk, shape, people, reader=CLIPS, seed=None):
    """The loaded batch of a chunk [{batching.WHOLE: unit}]."""
    sources = [batching.sources_of(parts, 1, 2) for parts in chunk]
    frames = fitting.load(params, reader, sources, people, shape.frames)
    return batching.batch_of(frames, [parts[batching.WHOLE] for parts in chunk], sources, shape, 1, 2, seed)


def assert_same(one, other):
    assert set(one) == set(other)
    largest = max(np.abs(vector).max() for vector, *_ in one.values())
    for name in one:
        np.testing.assert_allclose(one[name][0], other[name][0], rtol=0, atol=1e-5 * largest)
        np.testing.assert_allclose(one[name][1:], other[name][1:], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module", params=["adam", "gauss_newton"])
def reference(request):
    fitting = iterative.make_fitting(settings(solver=request.param))
    assert fitting.mesh.size == 4
    return request.param, fit_all(settings(solver=request.param), fitting=fitting), fitting


def test_chunks_order_and_devices_do_not_matter(reference, monkeypatch):
    solver, expected, _ = reference
    assert_same(expected, fit_all(settings(solver=solver, chunk_size=4), UNITS[::-1]))
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    assert_same(expected, fit_all(settings(solver=solver, chunk_size=3)))


def test_features_that_do_not_fit_are_computed_anew(reference):
    solver, expected, fitting = reference
    config = settings(solver=solver)
    p, shape = iterative.problem(config), max(batching.shapes_of([(1, [{batching.WHOLE: unit} for unit in UNITS])], 2))
    small, large = (iterative.unit_bytes(config, p, shape, kept) for kept in (False, True))
    assert small < large
    assert fitting.unit_bytes(shape) == (large if solver == "adam" else small)
    config = settings(solver=solver, memory_gb=(small + 1) / 2**30)
    other = iterative.make_fitting(config)
    assert other.unit_bytes(shape) == small
    assert batching.chunk_people(config, other, shape, 9) == 4  # one on each device
    assert_same(expected, fit_all(config, fitting=other))


def test_nothing_passes_between_devices(reference):
    solver, _, fitting = reference
    config = settings(solver=solver)
    p, mesh = iterative.problem(config), fitting.mesh
    steps = iterative.compile_steps(config, p, mesh)
    params = batching.to_devices(mesh, unet.init(common.unet(config), jax.random.key(0), 8))
    shape = max(batching.shapes_of([(1, [{batching.WHOLE: unit} for unit in UNITS])], 2))
    batch = batch_of(fitting, params, [{batching.WHOLE: unit} for unit in UNITS[:4]], shape, 4)
    (some,) = batching.groups_of(mesh, batch, 4)
    units = iterative.fit.Units(some.frames, some.fitted.windows, some.fitted.count)
    features = steps.no_features(iterative._feature_shapes(config, p, 4, shape.rows))
    carry, draws = steps.start(4, shape.rows), p.solver.draws(jax.random.key(0))
    compiled = [
        steps.advance.lower(params, carry, units._replace(features=features), draws, 0, 1),
        steps.keep.lower(params, features, units, 0, 4),
        steps.evaluate.lower(params, carry.filters, units, 0),
        steps.finish.lower(carry),
    ]
    for lowered in compiled:
        text = lowered.compile().as_text()
        assert not [name for name in COLLECTIVES if name in text]


def test_any_mix_of_lengths_compiles_a_handful_of_times():
    config = settings(solver="gauss_newton")
    p, mesh = iterative.problem(config), batching.people_mesh()
    iterative._compile_steps.cache_clear()  # what other tests have compiled is not counted
    steps = iterative.compile_steps(config, p, mesh)
    fitting = iterative.make_fitting(config)._replace(fit=iterative.make_fit(config, p, steps, mesh, lambda shape: False))
    mixes = [[unit(i, n) for i, n in enumerate(lengths)] for lengths in ((30, 3, 8, 13, 5, 9), (29, 8, 11, 26, 4, 10))]
    equal, compiled = [u for mix in mixes for u in mix], []
    for seed, mix in enumerate(mixes):  # another scale has other parameters
        fit_all(config, mix, 6, fitting, unet.init(common.unet(config), jax.random.key(seed), 8), equal=equal)
        compiled.append([f._cache_size() for f in (steps.advance, steps.finish, steps.evaluate, steps.start)])
    assert compiled[0] == compiled[1]
    assert max(compiled[1]) <= 4


def test_no_step_is_made_for_rows_that_are_all_padding(monkeypatch):
    """Halves have the shape of all of a unit's rows, and cost half as much for it."""
    config = settings(solver="gauss_newton")
    p, mesh = iterative.problem(config), batching.people_mesh()
    steps, made = iterative.compile_steps(config, p, mesh), []
    counted = steps._replace(advance=lambda *args: made.append(1) or steps.advance(*args))
    fit, fitting = iterative.make_fit(config, p, counted, mesh, lambda shape: False), iterative.make_fitting(config)
    for rows in (30, 15):
        short = dataclasses.replace(UNITS[0], fitted=UNITS[0].fitted[:rows])
        params = unet.init(common.unet(config), jax.random.key(0), 8)
        made.clear()
        fit(params, batch_of(fitting, params, [{batching.WHOLE: short}], batching.Shape(32, 8, 60), 4))
        assert len(made) == -(-rows // 4)

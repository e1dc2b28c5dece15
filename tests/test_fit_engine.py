"""The compiled fit: people over devices without a word between them, few compilations, the same numbers however it is cut."""

import jax
import numpy as np
import pytest

from data_pipelines.dataset.face_clips import ClipInfo
from facedyn.config import default_config
from facedyn.core import unet
from facedyn.stages.fit import iterative
from facedyn.stages.fit.units import FitUnit, shapes_of
from facedyn.stages.runtime import common

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")


class Clips:
    """What the engine uses of a FaceClipsReader: clips of noise."""

    image_size, channels = 8, 1

    def __init__(self, people: int, length: int = 60):
        random = np.random.default_rng(0)
        self._frames = random.integers(0, 256, (people, length, 8, 8, 1), np.uint8)
        self.clips = tuple(
            ClipInfo(f"c{i}", f"p{i}", "", "", "", 25.0, np.arange(length, dtype=np.int32), np.zeros(0)) for i in range(people)
        )

    def frames(self, record, positions):
        return self._frames[record, positions]


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
    config.fit.ridge, config.fit.innovations = 20.0, False
    config.fit.steps, config.fit.batch_size = 4, 4
    config.fit.update(fit)
    return config


UNITS = [unit(i, n) for i, n in enumerate((30, 12, 14, 25, 16, 13, 30, 15, 21))]
CLIPS = Clips(len(UNITS))


def fit_all(config, units=UNITS, most=None, engine=None):
    """{unit: (representation, loss, accuracy before, accuracy after)}, fitted as the stage does it."""
    engine = engine or iterative.Engine(config, CLIPS)
    params = engine.replicate(unet.init(common.unet(config), jax.random.key(0), 8))
    shapes = shapes_of([(1, UNITS)], engine.half_length)
    found = {}
    for shape, people, grouped in iterative.chunks_of(units, {s: engine.people(s, most or len(units)) for s in shapes}):
        results = engine(params, engine.load(grouped, shape, people, 1), shape)
        assert all(len(column) == people for column in results)
        found |= {u.unit_id: [column[p] for column in results] for p, u in enumerate(grouped)}
    return found


def assert_same(one, other):
    assert set(one) == set(other)
    largest = max(np.abs(vector).max() for vector, *_ in one.values())
    for name in one:
        np.testing.assert_allclose(one[name][0], other[name][0], rtol=0, atol=1e-5 * largest)
        np.testing.assert_allclose(one[name][1:], other[name][1:], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module", params=["adam", "gauss_newton"])
def reference(request):
    engine = iterative.Engine(settings(solver=request.param), CLIPS)
    assert engine.mesh.size == 4
    return request.param, fit_all(settings(solver=request.param), engine=engine), engine


def test_chunks_order_and_devices_do_not_matter(reference, monkeypatch):
    solver, expected, _ = reference
    assert_same(expected, fit_all(settings(solver=solver, chunk_size=4), UNITS[::-1]))
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    assert_same(expected, fit_all(settings(solver=solver, chunk_size=3)))


def test_features_that_do_not_fit_are_computed_anew(reference):
    solver, expected, engine = reference
    shape = max(shapes_of([(1, UNITS)], 2))
    assert engine.keeps_features(shape) == (solver == "adam")
    room = (engine.unit_bytes(shape, kept=False) + 1) / 2**30
    config = settings(solver=solver, memory_gb=room)
    small = iterative.Engine(config, CLIPS)
    assert not small.keeps_features(shape)
    assert small.people(shape, 9) == 4  # one on each device
    assert_same(expected, fit_all(config, engine=small))


def test_nothing_passes_between_devices(reference):
    solver, _, engine = reference
    config = engine_config = settings(solver=solver)
    params = engine.replicate(unet.init(common.unet(engine_config), jax.random.key(0), 8))
    shape = max(shapes_of([(1, UNITS)], 2))
    frames, windows, counts = engine.load(UNITS[:4], shape, 4, 1)[0]
    units = iterative.fit.Units(*jax.device_put((frames, windows, counts), engine._people))
    features = engine.no_features(tuple((4, *s[1:]) for s in engine._features(shape.rows)))
    carry = engine.start(4, shape.rows)
    compiled = [
        engine.advance.lower(params, carry, units._replace(features=features), engine.draws, 0, 1),
        engine.keep.lower(params, features, units, 0, 4),
        engine.evaluate.lower(params, carry.filters, units, 0),
        engine.finish.lower(carry),
    ]
    for lowered in compiled:
        text = lowered.compile().as_text()
        assert not [name for name in COLLECTIVES if name in text]
    assert config.fit.chunk_size == 0


def test_any_mix_of_lengths_compiles_a_handful_of_times():
    engine = iterative.Engine(settings(solver="gauss_newton"), CLIPS)
    mixes = [[unit(i, n) for i, n in enumerate(lengths)] for lengths in ((30, 3, 8, 13, 5, 9), (29, 8, 11, 26, 4, 10))]
    shapes = shapes_of([(1, mix) for mix in mixes], 2)
    compiled = []
    for seed, mix in enumerate(mixes):  # another scale has other parameters
        params = engine.replicate(unet.init(common.unet(settings()), jax.random.key(seed), 8))
        for shape, people, grouped in iterative.chunks_of(mix, {s: engine.people(s, 6) for s in shapes}):
            engine(params, engine.load(grouped, shape, people, 1), shape)
        compiled.append([f._cache_size() for f in (engine.advance, engine.finish, engine.evaluate, engine.start)])
    assert compiled[0] == compiled[1]
    assert max(compiled[1]) <= len(shapes) <= 4

"""What is compiled for a fit and for pretraining, lowered for TPU and CUDA on a machine that has neither.

So far from the hardware nothing can be said of speed or memory. What can be said: everything lowers, nobody's fit waits for
anybody else's, nothing goes back to Python in between, and nothing is computed in float64.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from test_fit_engine import settings

from facedyn.core import unet
from facedyn.stages import pretrain
from facedyn.stages.fit import batching, closed_form, iterative, learning
from facedyn.stages.runtime import common

PLATFORMS = ("tpu", "cuda")
ROWS, FRAMES, SIZE = 10, 20, 8
# As StableHLO has them.
COLLECTIVES = r"stablehlo\.(all_reduce|all_gather|all_to_all|collective_\w+|reduce_scatter)"
CALLBACKS = r"callback|stablehlo\.(infeed|outfeed|send|recv)\b"


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def lowered(f, *arrays) -> str:
    """The module for both platforms, as text."""
    exported = export.export(f, platforms=PLATFORMS)(*arrays)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def assert_goes_on_by_itself(name: str, text: str):
    assert not re.search(CALLBACKS, text), name
    assert not re.search(r"\bf64\b|xf64>", text), name


def rounded_products(text: str) -> list[str]:
    """The matrix products whose operands an accelerator may round, to TF32 or bfloat16."""
    return [line for line in text.splitlines() if "stablehlo.dot" in line and line.count("HIGHEST") < 2]


def assert_nobody_waits_for_anybody(name: str, text: str):
    assert "stablehlo." in text
    assert not re.search(COLLECTIVES, text), name
    assert_goes_on_by_itself(name, text)


@pytest.fixture(scope="module")
def mesh():
    found = batching.people_mesh()
    assert found.size == 4
    return found


def params_of(config):
    return jax.eval_shape(lambda: unet.init(common.unet(config), jax.random.key(0), SIZE))


@pytest.mark.parametrize("solver", ["adam", "gauss_newton"])
def test_the_fit_through_the_decoder(mesh, solver):
    config = settings(solver=solver)
    p, people = iterative.problem(config), mesh.size
    steps, params = iterative.compile_steps(config, p, mesh), params_of(config)
    windows, count = struct(people, ROWS, 5, dtype=jnp.int32), struct(people, dtype=jnp.int32)
    units = iterative.fit.Units(struct(people, FRAMES, SIZE, SIZE, 1, dtype=jnp.uint8), windows, count)
    carry = jax.eval_shape(lambda: steps.start(people, ROWS))
    shapes = iterative._feature_shapes(config, p, people, ROWS)
    features = jax.eval_shape(lambda: steps.no_features(shapes))
    draws, step = jax.eval_shape(lambda: p.solver.draws(jax.random.key(0))), struct(dtype=jnp.int32)
    some_steps = 3  # in one call, as on an accelerator
    cases = {
        "keep": (jax.jit(lambda *given: steps.keep(*given, 4)), params, features, units, step),
        "advance": (
            jax.jit(lambda *given: steps.advance(*given, some_steps)),
            params,
            carry,
            units._replace(features=features),
            draws,
            step,
        ),
        "finish": (steps.finish, carry),
        "evaluate": (steps.evaluate, params, carry.filters, units, step),
    }
    for name, (f, *arrays) in cases.items():
        assert_nobody_waits_for_anybody(name, lowered(f, *arrays))


def test_the_closed_form(mesh):
    config = settings(solver="least_squares", filter_kind="low_rank", filter_sites="all", rank=3, whiten=True)
    config.fit.blocks = ("filters", "innovations", "step_correlations", "whitened_covariances", "spectrum")
    sites, people, rank = closed_form.sites_of(config), mesh.size, config.fit.rank
    levels = {"skip0": 0, "decoder0": 0, "bottleneck": 1}
    basis = tuple(struct((SIZE >> levels[s.name]) ** 2 * config.model.channels[levels[s.name]], rank) for s in sites)
    rows = tuple(
        batching.Rows(*(struct(people, *shape, dtype=jnp.int32) for shape in ((n, 5), (n,), ()))) for n in (ROWS, ROWS // 2)
    )
    states, population = struct(people, FRAMES, len(sites), rank), struct(len(sites), 2, rank, rank)
    normal_equations, errors = learning.compile_sums(config.fit.whiten, mesh)
    frames = struct(8, SIZE, SIZE, 1, dtype=jnp.uint8)
    cases = {
        "encode": (closed_form.compile_encode(config, sites, mesh), params_of(config), basis, frames),
        "fit": (closed_form.compile_fit(config, mesh), population, struct(len(sites)), states, *rows),
        "normal equations": (normal_equations, states, rows[0]),
        "errors": (errors, population, states, *rows),
    }
    for name, (f, *arrays) in cases.items():
        text = lowered(f, *arrays)
        assert_nobody_waits_for_anybody(name, text)
        assert "stablehlo.dot" in text
        assert rounded_products(text) == [], name  # after the U-net nothing is; benchmarks/precision.py measures the rest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_of_pretraining(dtype):
    config = settings()
    config.model.dtype = dtype
    model, loss, transform = common.unet(config), common.rank_loss_settings(config), optax.adam(1e-3)
    update = pretrain.make_step(model, loss, transform, jax.sharding.Mesh(np.asarray(jax.devices()), ("data",)))
    params = params_of(config)
    state = dict(params=params, opt_state=jax.eval_shape(transform.init, params), step=struct(dtype=jnp.int32))
    text = lowered(update, state, struct(3, 8, 5, SIZE, SIZE, 1, dtype=jnp.uint8))
    assert_goes_on_by_itself("update", text)
    convolutions = re.findall(r"stablehlo\.convolution.*?-> tensor<[\dx]*x(\w+)>", text)
    assert set(convolutions) <= {dtype.replace("bfloat", "bf").replace("float", "f"), "f32"}
    assert dtype.replace("bfloat", "bf").replace("float", "f") in convolutions


def test_what_must_not_be_there_would_be_found(mesh):
    """The patterns find a collective, a callback, a product of rounded operands and a float64 in functions that have them."""
    summed = jax.jit(batching.over_people(mesh, lambda x: x + jax.lax.psum(x, "person"), batching.EVERYONE))
    assert re.search(COLLECTIVES, lowered(summed, struct(4)))
    noisy = jax.jit(lambda x: jax.debug.print("{}", x) or x)
    assert re.search(CALLBACKS, noisy.lower(struct()).as_text())
    assert rounded_products(lowered(jax.jit(lambda x: x @ x), struct(2, 2)))
    assert not rounded_products(lowered(jax.jit(lambda x: jnp.matmul(x, x, precision="highest")), struct(2, 2)))
    with jax.enable_x64(True):
        assert re.search(r"\bf64\b|xf64>", lowered(jax.jit(lambda x: x.astype(jnp.float64)), struct(2)))

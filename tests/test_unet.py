"""The U-net: shapes, normalisation, and the taps by which a frozen model takes filters in."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facedyn.config import default_config
from facedyn.core import person_filters, unet
from facedyn.stages.runtime import common

MODEL = unet.UNet((4, 6, 8), groups=4, maps=2)
apply = jax.jit(MODEL.apply)


@pytest.fixture(scope="module")
def params():
    return unet.init(MODEL, jax.random.key(0), 16)


@pytest.fixture(scope="module")
def frames():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8))


def test_group_norm_equals_flax(frames):
    h = 5 + jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 8)), jnp.float32)
    ours, reference = unet.GroupNorm(4), nn.GroupNorm(4, epsilon=1e-5)
    p = ours.init(jax.random.key(0), h)
    np.testing.assert_allclose(ours.apply(p, h), reference.apply(reference.init(jax.random.key(0), h), h), atol=2e-4)


def test_two_maps_of_the_image_s_shape_from_bytes_and_floats_alike(params, frames):
    maps = apply(params, frames)
    assert maps.shape == (3, 2, 16, 16, 3)
    assert maps.dtype == jnp.float32
    np.testing.assert_allclose(maps, apply(params, frames / 255.0), atol=1e-5)


def test_zero_filters_change_nothing_and_every_site_is_heard(params, frames):
    features = jax.jit(lambda p, x: unet.encode(MODEL, p, x))(params, frames)
    decode = jax.jit(lambda f: unet.decode(MODEL, params, features, person_filters.tap(f)))
    generic = jax.jit(lambda: unet.decode(MODEL, params, features))()
    sites = person_filters.sites(MODEL.channels, "all,dynamic_representation", MODEL.maps * MODEL.image_channels)
    filters = person_filters.init(sites, "pointwise")
    np.testing.assert_allclose(decode(filters), generic, rtol=1e-4, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda f: jnp.square(decode(f)).sum()))(filters)
    assert {s.name for s in sites} == set(gradient)
    assert all(float(jnp.abs(g).max()) > 0 for g in gradient.values())


def test_bfloat16_activations_stay_near_float32(params, frames):
    low = jax.jit(unet.UNet(MODEL.channels, MODEL.groups, MODEL.maps, dtype=jnp.bfloat16).apply)(params, frames)
    high = apply(params, frames)
    assert float(jnp.abs(low - high).mean()) < 0.05 * float(high.std())


def test_a_size_that_cannot_be_halved_is_refused(params):
    with pytest.raises(ValueError, match="must be multiples of 4"):
        MODEL.apply(params, jnp.zeros((1, 18, 18, 3)))


@pytest.mark.parametrize(("height", "width", "channels", "filters"), [(6, 8, 3, 4), (5, 6, 4, 8), (4, 7, 2, 4), (4, 4, 8, 16)])
def test_the_convolution_for_cpus_equals_the_library_s(height, width, channels, filters):
    """Neighbouring columns at once or one by one: same values, and same gradients for the input and the kernel."""
    random = np.random.default_rng(0)
    h = jnp.asarray(random.normal(size=(2, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(3, 3, channels, filters)), jnp.float32)
    target = jnp.asarray(random.normal(size=(2, height, width, filters)), jnp.float32)

    def library(h, kernel):
        return jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def both(convolve):
        return jax.jit(jax.value_and_grad(lambda h, k: jnp.square(convolve(h, k) - target).sum(), (0, 1)))(h, kernel)

    (value, (dh, dk)), (expected, (eh, ek)) = both(unet.convolve), both(library)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(dh, eh, atol=1e-4 * np.abs(eh).max())
    np.testing.assert_allclose(dk, ek, atol=1e-4 * np.abs(ek).max())


def test_kernels_start_with_a_variance_of_one_over_the_fan_in(params):
    """As `init` says (LeCun et al. 1998); the normalisation would hide another scale from every figure."""
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    scaled = np.concatenate([np.ravel(k) * np.prod(k.shape[:-1]) ** 0.5 for k in kernels])
    assert scaled.std() == pytest.approx(1, abs=5 / np.sqrt(2 * len(scaled)))


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_activations_have_the_type_of_the_config(name):
    config = default_config()
    config.data.image_size, config.model.channels, config.model.dtype = 16, (4, 6), name
    model, seen = common.unet(config), {}

    def whole(params, frames):
        features = unet.encode(model, params, frames)
        return features, unet.decode(model, params, features, lambda site, h: seen.setdefault(site, h))

    shapes = jax.eval_shape(lambda key: unet.init(model, key, 16), jax.random.key(0))
    features, maps = jax.eval_shape(whole, shapes, jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.uint8))
    result = seen.pop(person_filters.DYNAMIC_REPRESENTATION)
    assert {f.dtype for f in features} == {h.dtype for h in seen.values()} == {jnp.dtype(name)}
    assert {result.dtype, maps.dtype, *(leaf.dtype for leaf in jax.tree.leaves(shapes))} == {jnp.dtype("float32")}

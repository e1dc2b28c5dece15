"""The U-net: shapes, normalisation, and the taps by which a frozen model takes filters in."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facedyn.core import person_filters, unet

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
    sites = person_filters.sites(MODEL.channels, "all")
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

"""Person filters against ordinary convolutions, one person at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facedyn.core import person_filters as pf


def by_convolution(weights, h):
    """h + conv(h, weights) by the library's own convolution."""
    c = h.shape[-1]
    if weights.ndim == 2:
        kernel, groups = weights[None, None], 1
    elif weights.ndim == 3:
        kernel, groups = weights[:, :, None, :], c
    else:
        kernel, groups = weights, 1
    return h + jax.lax.conv_general_dilated(
        h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


@pytest.mark.parametrize("kind", pf.KINDS)
@pytest.mark.parametrize(
    ("jit", "dtype", "close"), [(False, "float32", 1e-5), (True, "float32", 1e-5), (True, "bfloat16", 0.03)]
)
def test_equal_to_a_loop_of_convolutions_forwards_and_backwards(kind, jit, dtype, close):
    random = np.random.default_rng(0)
    h = jnp.asarray(random.normal(size=(3, 2, 6, 5, 4)), dtype)  # [P, B, H, W, C]
    weights = jnp.asarray(random.normal(size=(3, *pf.shape(kind, 4))), jnp.float32)
    target = jnp.asarray(random.normal(size=h.shape), jnp.float32)

    def loss(apply):
        return lambda w, x, t: jnp.mean((apply(w, x).astype(jnp.float32) - t) ** 2)

    def apply(w, x):
        return pf.apply_filter(w, x, kind)

    batched = jax.vmap(apply)
    gradient = jax.vmap(jax.grad(loss(apply), (0, 1)))
    if jit:
        batched, gradient = jax.jit(batched), jax.jit(gradient)
    found, (dw, dh) = batched(weights, h), gradient(weights, h, target)
    assert (found.dtype, dw.dtype, dh.dtype) == (h.dtype, jnp.float32, h.dtype)

    def assert_near(one, expected):
        one, expected = np.asarray(one, np.float32), np.asarray(expected, np.float32)
        np.testing.assert_allclose(one, expected, rtol=0, atol=close * np.abs(expected).max())

    for p in range(3):
        own = h[p].astype(jnp.float32)
        assert_near(found[p], by_convolution(weights[p], own))
        ew, eh = jax.grad(loss(by_convolution), (0, 1))(weights[p], own, target[p])
        assert_near(dw[p], ew)
        assert_near(dh[p], eh)


@pytest.mark.parametrize("kind", pf.KINDS)
def test_batched_people_compile_to_no_convolution(kind):
    h, weights = jnp.ones((3, 2, 6, 6, 4)), jnp.ones((3, *pf.shape(kind, 4)))
    text = jax.jit(jax.vmap(jax.grad(lambda w, x: pf.apply_filter(w, x, kind).sum()))).lower(weights, h).as_text()
    assert "convolution" not in text


@pytest.mark.parametrize("kind", pf.KINDS)
def test_representation_and_filters_are_the_same_numbers(kind):
    chosen = pf.sites((4, 6, 8), "all")
    slots = pf.layout(chosen, kind)
    size = sum(s.size for s in slots)
    vector = jnp.arange(2.0 * size).reshape(2, size)
    filters = pf.unflatten(vector, slots)
    np.testing.assert_array_equal(pf.flatten(filters, slots), vector)
    assert {s.name: f.shape[1:] for s, f in zip(chosen, (filters[s.name] for s in chosen))} == {s.site: s.shape for s in slots}
    # A weight is traced back by its layout record.
    last = slots[-1]
    assert filters[last.site].reshape(2, -1)[1, -1] == vector[1, last.offset + last.size - 1]


def test_sites_by_name():
    assert [s.name for s in pf.sites((4, 6, 8))] == ["skip0", "skip1", "bottleneck"]
    assert [s.name for s in pf.sites((4, 6, 8), "bottleneck, skip0")] == ["skip0", "bottleneck"]
    with pytest.raises(ValueError, match="'skip7' is not a site"):
        pf.sites((4, 6, 8), "skip7")
    with pytest.raises(ValueError, match="'odd' is not a kind"):
        pf.init(pf.sites((4, 6)), "odd")

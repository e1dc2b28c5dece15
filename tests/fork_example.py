"""A fork of the pure core: an MLP-mixer over lines of pixels for a network, a loss of its own, everyone in one vmapped call."""

from functools import partial

import jax
import jax.numpy as jnp

from facedyn.core import fit, person_filters, solvers

WIDTH, HALF = 8, 2  # channels; frames before and after the centre frame
SITES, ADAM = [person_filters.Site(n, WIDTH) for n in ("shallow", "deep")], dict(learning_rate=0.02, steps=40, batch_size=8)


def init(key, size):  # for grey frames of size x size pixels: three mixers, each over lines and over channels
    shapes = {"embed": (size, WIDTH), "lines": (3, size, size), "channels": (3, WIDTH, WIDTH), "head": (WIDTH, size)}
    keys = jax.random.split(key, len(shapes))
    return {name: jax.random.normal(k, shape) / shape[-2] ** 0.5 for k, (name, shape) in zip(keys, shapes.items())}


def mix(params, i, h):  # [B, H, 1, 8] -> the same
    h = h + jnp.einsum("gh,bhwc->bgwc", params["lines"][i], jax.nn.gelu(h))
    return h + jax.nn.gelu(h) @ params["channels"][i]


def encode(params, frames):  # [B, H, W, 1] uint8 -> two feature maps [B, H, 1, 8]
    shallow = mix(params, 0, (frames / 255.0 - 0.5).swapaxes(2, 3) @ params["embed"])
    return shallow, mix(params, 1, shallow)


def decode(params, features, tap):  # -> one map [B, 1, H, W, 1]; `tap` puts the person filters in between
    h = mix(params, 2, tap("shallow", features[0]) + tap("deep", features[1]))
    return (h @ params["head"]).swapaxes(2, 3)[:, None]


def own_loss(maps, windows):  # [B, 1, H, W, 1], [B, 5, H, W, 1] -> [B]: how the last frame differs from the centre frame
    change = (windows[:, -1] / 255.0 - windows[:, HALF] / 255.0) * 10
    return jnp.square(maps[:, 0] - change).mean((1, 2, 3))


def fit_people(params, frames):  # frames of everyone [P, T, H, W, 1] uint8 -> representations [P, 128]
    windows = jnp.arange(frames.shape[1] - 2 * HALF)[:, None] + jnp.arange(2 * HALF + 1)[None]
    model, adam = fit.Model(partial(encode, params), partial(decode, params)), solvers.make("adam", **ADAM)
    fitted = fit.fit_people(model, own_loss, adam, SITES, "pointwise")
    filters = fitted(fit.equal_units(frames, windows), jax.random.key(0))
    return person_filters.flatten(filters, person_filters.layout(SITES, "pointwise"))

"""A fork in 40 lines: another encoder and decoder (an MLP-mixer), another loss, everyone fitted in one vmapped call.

It imports nothing but the pure core: no config, no files, no stage.
"""

from functools import partial

import jax
import jax.numpy as jnp

from facedyn.core import fit, person_filters, solvers

PATCH, WIDTH, HALF = 4, 8, 2  # side of a patch, channels, frames before and after the centre frame
SITES = (person_filters.Site("shallow", WIDTH), person_filters.Site("deep", WIDTH))


def init(key, size):
    """Parameters for square grey frames: every mixer has one matrix over places and one over channels."""
    places, pixels = (size // PATCH) ** 2, PATCH**2
    shapes = {"embed": (pixels, WIDTH), "head": (WIDTH, pixels)}
    shapes |= {f"{kind}{i}": (n, n) for i in range(3) for kind, n in (("places", places), ("channels", WIDTH))}
    keys = jax.random.split(key, len(shapes))
    return {name: jax.random.normal(k, shape) / shape[0] ** 0.5 for k, (name, shape) in zip(keys, shapes.items())}


def mix(params, i, h):  # [B, h, w, C] -> the same
    tokens = h.reshape(len(h), -1, WIDTH)
    tokens += jnp.einsum("nm,bmc->bnc", params[f"places{i}"], jax.nn.gelu(tokens))
    return (tokens + jax.nn.gelu(tokens) @ params[f"channels{i}"]).reshape(h.shape)


def encode(params, frames):  # [B, H, W, 1] uint8 -> two feature maps [B, H/4, W/4, 8]
    b, h, w, _ = frames.shape
    patches = (frames / 255.0 - 0.5).reshape(b, h // PATCH, PATCH, w // PATCH, PATCH).swapaxes(2, 3)
    shallow = mix(params, 0, patches.reshape(*patches.shape[:3], -1) @ params["embed"])
    return shallow, mix(params, 1, shallow)


def decode(params, features, tap):  # -> one map [B, 1, H, W, 1]; `tap` puts the person filters in between
    h = mix(params, 2, tap("shallow", features[0]) + tap("deep", features[1]))
    patches = (h @ params["head"]).reshape(*h.shape[:3], PATCH, PATCH).swapaxes(2, 3)
    return patches.reshape(len(h), 1, h.shape[1] * PATCH, h.shape[2] * PATCH, 1)


def own_loss(maps, windows):  # [B, 1, H, W, 1], [B, 2n+1, H, W, 1] -> [B]: how the last frame differs from the centre frame
    change = (windows[:, -1] / 255.0 - windows[:, HALF] / 255.0) * 10
    return jnp.square(maps[:, 0] - change).mean((1, 2, 3))


def fit_people(params, frames, steps=40):
    """Frames of everyone [P, T, H, W, 1] uint8 -> (representations [P, D], loss before [P], loss after [P])."""
    model, kind = fit.Model(partial(encode, params), partial(decode, params)), "pointwise"
    people, rows = len(frames), frames.shape[1] - 2 * HALF
    windows = jnp.arange(rows)[:, None] + jnp.arange(2 * HALF + 1)
    units = fit.Units(frames, jnp.broadcast_to(windows, (people, *windows.shape)), jnp.full(people, rows))
    solver = solvers.make("adam", learning_rate=0.02, steps=steps, batch_size=8)
    draws, start = solver.draws(jax.random.key(0)), fit.start(solver, SITES, kind, people, rows)
    fitted = jax.jit(lambda carry: fit.advance(model, own_loss, solver, carry, units, draws, 0, steps))(start).filters
    loss = jax.jit(lambda filters: fit.evaluate(model, (own_loss,), filters, units, 0, rows)[0] / rows)
    return person_filters.flatten(fitted, person_filters.layout(SITES, kind)), loss(start.filters), loss(fitted)

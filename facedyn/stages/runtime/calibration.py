"""How fast this machine's CPU is in what a run consists of: a few seconds of measurement, at the settings' own shapes."""

import functools
import os
import time

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from facedyn.core import cost, unet
from facedyn.core.cost import Network, Rates
from facedyn.core.rank_loss import rank_loss
from facedyn.stages.fit import batching, closed_form, shared
from facedyn.stages.runtime import common

# Of each measurement the fastest counts, of as many as fit into this time, at least two.
SECONDS = 0.4
FLOP_A_CALL = 6e9  # at most: as many frames in a call as the fit has, or fewer
ROWS, FEATURES = 512, 2048  # of the product measured for the trait heads


def measure(config, net: Network) -> Rates:
    """The rates of this process's CPU; two programs are compiled for each level of the U-net."""
    forward, backward = _of_unet(config, net)
    memory = batching.host_memory() / batching.HOST_SHARE
    simple, products, frames = _of_loss(config, net), _of_products(), _of_decoding(net)
    return Rates(forward, backward, simple, products, products, frames, memory, memory, 1, os.cpu_count() or 1)


def fastest(f, *args, seconds: float | None = None) -> float:
    """Seconds of one call, the fastest of those within `seconds` (None: SECONDS), without the first."""
    jax.block_until_ready(f(*args))
    found, end = [], time.perf_counter() + (SECONDS if seconds is None else seconds)
    while len(found) < 2 or time.perf_counter() < end:
        started = time.perf_counter()
        jax.block_until_ready(f(*args))
        found.append(time.perf_counter() - started)
    return min(found)


def _of_unet(config, net: Network) -> tuple[float, float]:
    """FLOP/s of the U-net, evaluated and differentiated: of a block of each level, weighed by its share of the work."""
    model, seconds, flop = common.unet(config), np.zeros(2), 0.0
    # Frames that stay in the caches, as those of a step of Adam do, go through up to twice as fast.
    at_once = closed_form.encode_frames(config) if shared.is_closed_form(config) else config.fit.batch_size
    for level, (side, channels) in enumerate(zip(net.sides, net.channels)):
        last = level == len(net.channels) - 1
        wide = net.channels[level - 1] if last else 2 * channels
        one = cost.block(side, wide, channels)
        count = int(np.clip(FLOP_A_CALL // one, 1, at_once))
        h = jnp.asarray(np.random.default_rng(0).standard_normal((count, side, side, wide), np.float32), model.dtype)
        initialise, evaluate, differentiate = _block(channels, config.model.groups, model.dtype)
        params = initialise(jax.random.key(0), h[:1])
        # What there is of the level: the encoder's block, and but for the last level the decoder's.
        share = cost.block(side, net.channels[level - 1] if level else net.image_channels, channels) + (not last) * one
        flop += share
        seconds += share / (count * one) * np.array([fastest(evaluate, params, h), fastest(differentiate, params, h) / 3])
    return flop / seconds[0], flop / seconds[1]


@functools.cache
def _block(channels: int, groups: int, dtype):
    """What is compiled of a block: (its parameters, evaluated, differentiated)."""
    block = unet.Block(channels, groups, dtype=dtype)
    differentiate = jax.jit(jax.grad(lambda p, h: jnp.asarray(block.apply(p, h), jnp.float32).sum(), (0, 1)))
    return jax.jit(block.init), jax.jit(block.apply), differentiate


@functools.cache
def _loss(settings):
    """The rank loss with its gradient, compiled."""
    return jax.jit(jax.value_and_grad(lambda m, w: rank_loss(m, w, settings).mean()))


def _of_loss(config, net: Network) -> float:
    """FLOP/s of the rank loss with its gradient."""
    settings, n = common.rank_loss_settings(config), config.rank_loss.half_length
    count = int(np.clip(2e6 // net.pixels, 1, 32))
    random = np.random.default_rng(0)
    windows = random.integers(0, 256, (count, 2 * n + 1, net.size, net.size, net.image_channels), np.uint8)
    maps = jnp.asarray(random.standard_normal((count, net.maps, *windows.shape[2:]), np.float32))
    return count * cost.window_loss(net, n) / fastest(_loss(settings), maps, jnp.asarray(windows))


def _of_decoding(net: Network) -> float:
    """Faces a second that one thread decodes; the others are taken to be busy."""
    random = np.random.default_rng(0)
    shape = (net.size, net.size, 3) if net.image_channels == 3 else (net.size, net.size)
    image = cv2.GaussianBlur(random.integers(0, 256, shape, np.uint8), (0, 0), 2.0)
    encoded = cv2.imencode(".png", image)[1]
    return 1 / fastest(lambda: cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))


def _of_products() -> float:
    z = np.random.default_rng(0).standard_normal((ROWS, FEATURES), np.float32)
    return ROWS**2 * FEATURES / fastest(lambda: z @ z.T)

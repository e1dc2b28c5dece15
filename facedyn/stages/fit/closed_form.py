"""Filters in closed form (core/low_rank.py): the U-net is only evaluated, once for every frame, never differentiated.

Frames pass through the U-net block by block and become states; whatever is fitted of a unit (all of it, its halves, the
same in shuffled order) comes from that one array of states.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from facedyn.core import blocks, low_rank, person_filters, unet
from facedyn.stages.fit import batching
from facedyn.stages.fit.batching import EVERYONE, SHARED, Batch, FitResult, Fitting, Shape, over_people
from facedyn.stages.fit.kept_states import KeptStates
from facedyn.stages.runtime import common

ENCODE_FRAMES = 256  # go through the U-net in one call
# Or on CPU as many as have so large a finest feature map, which stays in the caches: a sixth faster at 64 pixels. But not fewer
# than these.
CPU_ENCODE_BYTES, CPU_ENCODE_FRAMES = 2**22, 8


# Operation by operation, each of them would be compiled.
_own_whitening, _dynamics = jax.jit(low_rank.own_whitening), jax.jit(low_rank.dynamics)


class Shared(NamedTuple):
    """What is the same for everyone in a fit in closed form; a pytree.

    Attributes:
      params: of the U-net, the frozen generic model of a scale.
      basis: of each site, [h * w * c, K].
      population: the population filters, [S, 2, K, K].
      ridge: of each site's filters, with which the pool's held-back frames were predicted best, [S].
      readout: what a state looks like in pixels, [S, K, H * W * C].
      scaling: mean and standard deviation of each weight over the pool's people, [2, D]; [2, 0] where it was not learnt.
    """

    params: dict
    basis: tuple
    population: np.ndarray
    ridge: np.ndarray
    readout: np.ndarray
    scaling: np.ndarray = np.zeros((2, 0), np.float32)


def sites_of(config) -> tuple[person_filters.Site, ...]:
    """The sites of the filters."""
    of_maps = common.rank_loss_settings(config).maps * config.data.channels
    return person_filters.sites(tuple(config.model.channels), config.fit.filter_sites, of_maps)


def make_site_maps(config) -> Callable:
    """(params, frames [B, H, W, C], sites) -> their flat feature maps, float32 [B, h * w * c] each; compiled."""
    return _compile_site_maps(common.unet(config))


# What is compiled is kept for equal settings: a process compiles it once.
@functools.lru_cache(maxsize=8)
def _compile_site_maps(model: unet.UNet) -> Callable:
    def site_maps(params, frames, sites):
        found = unet.feature_maps(model, params, frames)  # under jit, what is not used is not computed
        return tuple(found[site.name].astype(jnp.float32).reshape(len(frames), -1) for site in sites)

    return jax.jit(site_maps, static_argnums=2)


def encode_frames(config) -> int:
    """Frames that go through the U-net in one call on a device."""
    if jax.default_backend() != "cpu":
        return ENCODE_FRAMES
    finest = 4 * config.data.image_size**2 * config.model.channels[0]
    return max(CPU_ENCODE_FRAMES, min(ENCODE_FRAMES, CPU_ENCODE_BYTES // finest))


def compile_encode(config, sites, mesh) -> Callable:
    """encode(params, basis, frames [B, H, W, C]) -> states [B, S, K], frames split over the devices."""
    return _compile_encode(common.unet(config), sites, mesh)


@functools.lru_cache(maxsize=8)
def _compile_encode(model: unet.UNet, sites, mesh) -> Callable:
    site_maps = _compile_site_maps(model)

    def encode(params, basis, frames):
        maps = zip(site_maps(params, frames, sites), basis)
        return jnp.stack([jnp.matmul(m, b, precision="highest") for m, b in maps], 1)

    return jax.jit(over_people(mesh, encode, SHARED, SHARED, EVERYONE))


def make_load(config, encode: Callable, mesh) -> Callable:
    """load(shared, reader, sources, people, n_frames) -> states of the units' frames, padded: float32 [P, T, S, K]."""
    block, place = encode_frames(config) * mesh.size, NamedSharding(mesh, EVERYONE)

    def load(shared, reader, sources, people, n_frames):
        found = np.zeros((people * n_frames, len(shared.basis), shared.basis[0].shape[1]), np.float32)
        lengths = [sum(map(len, own.values())) for own in sources]
        rows = np.concatenate([p * n_frames + np.arange(n) for p, n in enumerate(lengths)])

        def begin(frames):
            return encode(shared.params, shared.basis, jax.device_put(frames, place))

        for number, states in enumerate(batching.one_ahead(begin, batching.stream_frames(reader, sources, block))):
            places = rows[number * block : (number + 1) * block]
            found[places] = np.asarray(states)[: len(places)]
        return found.reshape(people, n_frames, *found.shape[1:])

    return load


def whitening(whiten: bool) -> Callable:
    """(states, rows, *other rows) -> [(states, *rows) of each], whitened by the first rows' covariance if `whiten`."""

    def whitened(states, rows, *others):
        own = low_rank.whiten(states, *rows) if whiten else states
        return [(own, *part) for part in (rows, *others)]

    return whitened


def compile_fit(config, mesh) -> Callable:
    """(population, ridge, states, fitted, held) -> (representation, loss, right order before, after, rows) of every unit."""
    return _compile_fit(config.fit.blocks, bool(config.fit.whiten), mesh)


@functools.lru_cache(maxsize=8)
def _compile_fit(names: tuple[str, ...], whiten: bool, mesh) -> Callable:
    whitened = whitening(whiten)

    def solve(population, ridge, rows):
        return low_rank.solve(*low_rank.normal_equations(*rows), population, ridge)

    def fit_one(population, ridge, states, fitted, held):
        """What is found in all rows; the figures are of filters that have not seen the rows held back."""
        fitted, held = whitened(states, fitted, held)
        figures = low_rank.held_back_quality(population, solve(population, ridge, fitted), fitted, held)
        _, windows, clip, count = low_rank.concatenate_rows(fitted, held)
        ((whole, *_),) = whitened(states, (windows, clip, count))
        own = solve(population, ridge, (whole, windows, clip, count))
        return blocks.represent(names, own, population, whole, windows, clip, count, unwhitened=states), *figures

    specs = SHARED, SHARED, EVERYONE, EVERYONE, EVERYONE
    return jax.jit(over_people(mesh, jax.vmap(fit_one, (None, None, 0, 0, 0)), *specs))


def make_fit(config, sites, mesh) -> Callable[..., FitResult]:
    """fit(shared, batch of states) -> FitResult; of `shared` the population filters and the ridge count."""
    compiled = compile_fit(config, mesh)

    def fit(shared, batch: Batch) -> FitResult:
        ridge = np.full(len(sites), config.fit.ridge, np.float32) if config.fit.ridge else shared.ridge
        found = []
        for some in batching.groups_of(mesh, batch, _group(config, mesh, batch.shape)):
            vectors, loss, before, after, rows = map(np.asarray, compiled(shared.population, ridge, *some))
            rows = np.where(rows > 0, rows, np.nan)
            found.append((vectors, loss / rows, before / rows, after / rows))
        return FitResult(*(np.concatenate(column) for column in zip(*found)))

    return fit


def make_fitting(config) -> Fitting:
    """Least squares."""
    c, sites, mesh = config.fit, sites_of(config), batching.people_mesh()
    slots = blocks.layout(config.fit.blocks, sites, c.rank)
    encode, block = compile_encode(config, sites, mesh), encode_frames(config) * mesh.size
    place = NamedSharding(mesh, EVERYONE)

    def pictures(shared, vector, window, frames):
        """The expected changes of the states as pixels: what of them the basis's frames have shown, mean over the sites."""
        frames = np.concatenate([frames, window[None, len(window) // 2]])
        padded = np.pad(frames, ((0, -len(frames) % block), *[(0, 0)] * 3))
        # Placed as in `load`, for which this is compiled.
        model = batching.to_devices(mesh, (shared.params, shared.basis))
        blocks_of_frames = (jax.device_put(padded[i : i + block], place) for i in range(0, len(padded), block))
        states, count = np.concatenate([encode(*model, some) for some in blocks_of_frames]), len(frames) - 1
        centred, way_back = states[count : count + 1] - states[:count].mean(0), np.eye(c.rank)[None]
        if c.whiten:
            rows = np.arange(len(states))[:, None], np.zeros(len(states), int), count  # padded: of one shape for all units
            own_whitening = np.asarray(_own_whitening(states, *rows))
            centred, way_back = np.einsum("sij,tsj->tsi", own_whitening, centred), np.linalg.inv(own_whitening)
        by_site = person_filters.unflatten(np.asarray(vector), slots)
        own, population = np.stack([by_site[site.name] for site in sites]), np.asarray(shared.population)
        images = [
            np.einsum("msj,skj,skd->md", np.asarray(_dynamics(f, centred))[0], way_back, np.asarray(shared.readout))
            for f in (population, population + own)
        ]
        return [image.reshape(2, *window.shape[1:]) / len(sites) for image in images]

    return Fitting(
        slots=slots,
        uses_all=True,
        mesh=mesh,
        shapes=batching.shapes_of,
        prefetch=False,
        load=KeptStates(make_load(config, encode, mesh)),
        fit=make_fit(config, sites, mesh),
        unit_bytes=lambda shape: 2 * _state_bytes(config, shape) + _work_bytes(config, shape),
        host_bytes=lambda shape: 3 * _state_bytes(config, shape),
        group=lambda shape: _group(config, mesh, shape),
        pictures=pictures,
    )


def _state_bytes(config, shape: Shape) -> int:
    return 4 * shape.frames * len(sites_of(config)) * config.fit.rank


def _work_bytes(config, shape: Shape) -> int:
    """Which rows are of one clip, and a handful of copies of the windows' states."""
    rows, length = shape.rows + shape.held_rows, 2 * config.rank_loss.half_length + 1
    return 4 * rows * (rows + 8 * length * len(sites_of(config)) * config.fit.rank)


def _group(config, mesh, shape: Shape) -> int:
    return batching.cpu_group(mesh, _work_bytes(config, shape))

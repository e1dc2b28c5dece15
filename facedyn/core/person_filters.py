"""Person filters: small residual maps put between the layers of the frozen generic model.

h <- h + A * h at every site, A a 1x1 ('pointwise', [C, C]), depthwise 3x3 ('depthwise', [3, 3, C]) or full 3x3
('full', [3, 3, C, C]) kernel that starts at zero; KINDS has them, and a fork's own (CONTRIBUTING.md). Written as matrix
products and sums over taps, never as a convolution: under `vmap` over people a convolution with each person's own kernel
becomes a grouped one, whose gradient is 20 to 130 times slower. A set of filters is a plain dict, site -> array;
concatenated it IS the representation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from facedyn.core.shapes import AnyArray

# Site -> weights.
Filters: TypeAlias = dict[str, Float[AnyArray, " ..."]]

# The site of the U-net's result, which the rank loss scores.
DYNAMIC_REPRESENTATION = "dynamic_representation"


class Site(NamedTuple):
    """Where a filter sits (a name that UNet.decode taps) and the channels of the feature map there."""

    name: str
    channels: int


class Slot(NamedTuple):
    """Where a site's weights lie in the representation vector: vector[offset : offset + size] has this shape."""

    site: str
    shape: tuple[int, ...]
    offset: int
    size: int


def sites(channels: tuple[int, ...], which: str = "connections", of_maps: int = 0) -> tuple[Site, ...]:
    """The sites of a U-net with these channels, from the finest skip down.

    Args:
      channels: of the U-net's levels.
      which: 'connections' (every skip and the bottleneck), 'all' (also after each of the decoder's blocks), names
        of sites, or several of these separated by commas. The dynamic representation is a site only by its name.
      of_maps: channels of the dynamic representation, all of its maps together; 0 = it is no site.

    >>> [site.name for site in sites((8, 16, 32))]
    ['skip0', 'skip1', 'bottleneck']

    Raises:
      ValueError: for a name that is no site.
    """
    last = len(channels) - 1
    connections = [Site(f"skip{level}", channels[level]) for level in range(last)] + [Site("bottleneck", channels[last])]
    everything = connections + [Site(f"decoder{level}", channels[level]) for level in range(last)]
    groups = {"connections": connections, "all": everything}
    by_name = {site.name: site for site in everything + [Site(DYNAMIC_REPRESENTATION, of_maps)] * bool(of_maps)}
    chosen = []
    for name in (name.strip() for name in which.split(",")):
        if name not in by_name | groups:
            raise ValueError(
                f"{name!r} is not a site for person filters; sites are {', '.join(by_name)}, 'connections', 'all'."
            )
        chosen += groups.get(name) or [by_name[name]]
    return tuple(site for site in by_name.values() if site in chosen)


def _taps(h: Float[AnyArray, "B H W C"]) -> list[tuple[int, int, Float[Array, "B H W C"]]]:
    """The nine 3x3 neighbours of every place, zeros around: (i, j, neighbours) each."""
    height, width = h.shape[1:3]
    padded = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [(i, j, padded[:, i : i + height, j : j + width]) for i in range(3) for j in range(3)]


def _pointwise(weights, h):
    return jnp.einsum("bhwc,cd->bhwd", h, weights)


def _depthwise(weights, h):
    return reduce(jnp.add, (weights[i, j][None, None, None] * shifted for i, j, shifted in _taps(h)))


def _full(weights, h):
    return reduce(jnp.add, (jnp.einsum("bhwc,cd->bhwd", shifted, weights[i, j]) for i, j, shifted in _taps(h)))


class Kind(NamedTuple):
    """A kind of person filter.

    Attributes:
      shape: channels of a feature map -> shape of the weights there.
      apply: (weights, h [B, H, W, C]) -> A * h, which is added to h; zero weights must give zeros.
    """

    shape: Callable[[int], tuple[int, ...]]
    apply: Callable[[AnyArray, AnyArray], jax.Array]


# {name for config.fit.filter_kind: Kind}
KINDS = {
    "pointwise": Kind(lambda c: (c, c), _pointwise),
    "depthwise": Kind(lambda c: (3, 3, c), _depthwise),
    "full": Kind(lambda c: (3, 3, c, c), _full),
}


def shape(kind: str, channels: int) -> tuple[int, ...]:
    """Of one filter's weights. Raises ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of person filter; kinds are {', '.join(KINDS)}.")
    return KINDS[kind].shape(channels)


def init(sites: Sequence[Site], kind: str) -> Filters:
    """Zero filters: the generic model unchanged, the same start for everyone."""
    return {site.name: jnp.zeros(shape(kind, site.channels)) for site in sites}


def apply_filter(
    weights: Float[AnyArray, " ..."], h: Float[AnyArray, "B H W C"], kind: str = "pointwise"
) -> Float[Array, "B H W C"]:
    """h + A * h; weights of the kind's shape."""
    return jnp.add(h, KINDS[kind].apply(weights.astype(h.dtype), h))


def tap(filters: Filters, kind: str = "pointwise") -> Callable[[str, AnyArray], AnyArray]:
    """The tap for UNet.decode that applies `filters` at their sites and leaves the other sites alone."""
    return lambda site, h: apply_filter(filters[site], h, kind) if site in filters else h


def layout(sites: Sequence[Site], kind: str) -> tuple[Slot, ...]:
    """The record by which a weight of the representation is traced back to its site and place.

    >>> for slot in layout(sites((8, 16)), "pointwise"):
    ...     print(*slot)
    skip0 (8, 8) 0 64
    bottleneck (16, 16) 64 256
    """
    slots, offset = [], 0
    for site in sites:
        dims = shape(kind, site.channels)
        size = math.prod(dims)
        slots.append(Slot(site.name, dims, offset, size))
        offset += size
    return tuple(slots)


def flatten(filters: Filters, slots: Sequence[Slot]) -> Float[Array, "*people D"]:
    """Filters -> representation; leading axes that all filters share (people) stay in front."""
    return jnp.concatenate([filters[s.site].reshape(*filters[s.site].shape[: -len(s.shape)], s.size) for s in slots], -1)


def unflatten(representation: Float[AnyArray, "*people D"], slots: Sequence[Slot]) -> Filters:
    """Representation -> filters, with the same leading axes."""
    return {
        s.site: representation[..., s.offset : s.offset + s.size].reshape(*representation.shape[:-1], *s.shape) for s in slots
    }

"""The named blocks of a representation in closed form: what each of them takes from the states of a fit unit.

`filters` say how the state is about to move. A linear filter of one state cannot tell a fast rise and a slow fall from the
reverse, as the mean of z_t+k z_t is that of z_t-k z_t, nor many small movements from few large ones. The `innovations` (its
prediction errors) can. Nor does it say what moves at the same moment: `step_correlations`. BLOCKS has them all.

Arrays as in `low_rank`: T frames, N rows (centre frames), S sites, K coordinates. Every block is a pure function
(filters, population, states [T, S, K], windows [N, 2n+1], clip [N], count) -> [S, ...] of the first `count` rows, and zeros
for a unit without rows; `filters` are what the unit adds to the `population` filters, both [S, 2, K, K].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from facedyn.core.low_rank import changes, clip_means, dynamics
from facedyn.core.person_filters import Slot

# Whose moments are taken: the errors of the changes before and after the centre frame, and the step to the next frame.
RESIDUALS = ("before", "after", "step")
MOMENTS = ("std", "skewness", "kurtosis")
# Of autocorrelations, in frames of a window (its stride is the scale).
LAGS = (1, 2, 4, 8)
# Added to what a logarithm is taken of, where states have a mean square of one: a still unit stays finite.
FLOOR = 1e-3
# A correlation counts as this at most, so that its Fisher transform is finite.
LARGEST_CORRELATION = 0.99


def _row_mean(windows, count):
    """x [N, ...] -> mean over the first `count` rows, 0 without any."""
    weights = (jnp.arange(len(windows)) < count) / jnp.maximum(count, 1)
    return lambda x: jnp.einsum("n,n...->...", weights, x, precision="highest")


def _centred(x, windows, clip, count):
    """x [N, S, K] less the mean of its clip's rows."""
    return x - clip_means(x, clip, jnp.arange(len(windows)) < count, clip)


def filters(own, population, states, windows, clip, count):
    """The unit's filters: [S, 2, K, K], before and after the centre frame."""
    return own


def innovations(own, population, states, windows, clip, count):
    """Moments of what the filters of population and unit leave: [S, 3, 3, K], RESIDUALS by MOMENTS.

    The log of the standard deviation as a share of the states' own, the skewness, and the log of the kurtosis.
    """
    mean = _row_mean(windows, count)
    now, change = changes(states, windows)
    centred = _centred(now, windows, clip, count)
    step = states[windows[:, windows.shape[-1] // 2 + 1]] - now
    errors = jnp.concatenate([change - dynamics(population + own, centred), step[:, None]], 1)  # [N, 3, S, K]
    errors = errors - mean(errors)[None]
    std, of_states = jnp.sqrt(mean(errors**2)), jnp.sqrt(mean(centred**2))
    scaled = errors / jnp.maximum(std, FLOOR)[None]
    found = (jnp.log((std + FLOOR) / (of_states + FLOOR)[None]), mean(scaled**3), jnp.log(mean(scaled**4) + FLOOR))
    # [3 residuals, 3 moments, S, K] before
    return jnp.where(count > 0, jnp.stack(found, 1).transpose(2, 0, 1, 3), 0)


def step_correlations(own, population, states, windows, clip, count):
    """Fisher-transformed correlations of the coordinates' steps to the next frame: [S, K (K-1) / 2].

    Of the pairs i < j in the order of numpy's `triu_indices`; 0 for a coordinate that stays still.
    """
    n, rank, mean = windows.shape[-1] // 2, states.shape[-1], _row_mean(windows, count)
    step = states[windows[:, n + 1]] - states[windows[:, n]]
    centred = step - mean(step)[None]
    weights = (jnp.arange(len(windows)) < count) / jnp.maximum(count, 1)
    covariance = jnp.einsum("n,nsi,nsj->sij", weights, centred, centred, precision="highest")
    std = jnp.maximum(jnp.sqrt(jnp.diagonal(covariance, axis1=1, axis2=2)), FLOOR)
    first, second = np.triu_indices(rank, 1)
    found = covariance[:, first, second] / (std[:, first] * std[:, second])
    return jnp.arctanh(jnp.clip(found, -LARGEST_CORRELATION, LARGEST_CORRELATION))


def autocorrelations(own, population, states, windows, clip, count):
    """Each coordinate's correlation with itself LAGS later: [S, lags, K], in [-1, 1]; 0 for one that stays still.

    Both frames lie in one window, so in one clip with no frame missing between; means are those of the clip. A lag longer than
    the window gives 0.
    """
    mean, length = _row_mean(windows, count), windows.shape[-1]
    found = []
    for lag in LAGS:
        if lag >= length:
            found.append(jnp.zeros(states.shape[1:]))
            continue
        first = (length - lag) // 2
        earlier, later = (_centred(states[windows[:, i]], windows, clip, count) for i in (first, first + lag))
        std = jnp.maximum(jnp.sqrt(mean(earlier**2) * mean(later**2)), FLOOR**2)
        found.append(mean(earlier * later) / std)
    return jnp.stack(found, 1)


def amplitude(own, population, states, windows, clip, count):
    """Log of each coordinate's standard deviation about its clip's mean: [S, K]."""
    now, _ = changes(states, windows)
    variance = _row_mean(windows, count)(_centred(now, windows, clip, count) ** 2)
    return jnp.where(count > 0, jnp.log(jnp.sqrt(variance) + FLOOR), 0)


class Block(NamedTuple):
    """A block of the representation.

    Attributes:
      shape: rank -> shape of a site's part.
      compute: see the module; its result is [S, *shape].
    """

    shape: Callable[[int], tuple[int, ...]]
    compute: Callable


BLOCKS = {
    "filters": Block(lambda rank: (2, rank, rank), filters),
    "innovations": Block(lambda rank: (len(RESIDUALS), len(MOMENTS), rank), innovations),
    "step_correlations": Block(lambda rank: (rank * (rank - 1) // 2,), step_correlations),
    "autocorrelations": Block(lambda rank: (len(LAGS), rank), autocorrelations),
    "amplitude": Block(lambda rank: (rank,), amplitude),
}


def slot_name(block: str, site: str) -> str:
    """Of a block's part at a site, in the layout record: 'skip0' for filters, 'skip0_innovations', ..."""
    return site if block == "filters" else f"{site}_{block}"


def layout(names, sites, rank: int) -> tuple[Slot, ...]:
    """The layout record of a representation of these blocks: block by block, site by site.

    >>> from facedyn.core.person_filters import Site
    >>> for slot in layout(("filters", "amplitude"), (Site("skip0", 4), Site("bottleneck", 8)), 2):
    ...     print(*slot)
    skip0 (2, 2, 2) 0 8
    bottleneck (2, 2, 2) 8 8
    skip0_amplitude (2,) 16 2
    bottleneck_amplitude (2,) 18 2
    """
    slots, offset = [], 0
    for name in names:
        shape = BLOCKS[name].shape(rank)
        size = int(np.prod(shape))
        for site in sites:
            slots.append(Slot(slot_name(name, site.name), shape, offset, size))
            offset += size
    return tuple(slots)


def sizes(names, sites, rank: int) -> list[int]:
    """How many numbers of the representation each block has; those without any, at rank 1, are left out."""
    found = [len(sites) * int(np.prod(BLOCKS[name].shape(rank))) for name in names]
    return [size for size in found if size]


def represent(names, own, population, states, windows, clip, count):
    """The representation of one unit, [D], in the order of `layout`."""
    parts = [BLOCKS[name].compute(own, population, states, windows, clip, count) for name in names]
    return jnp.concatenate([part.reshape(-1) for part in parts])

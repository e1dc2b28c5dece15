"""The prediction errors of person filters (how wide, how lopsided, how heavy-tailed), and what moves at the same moment.

A linear filter of one state cannot tell a fast rise and a slow fall from the reverse, as the mean of z_t+k z_t is that of
z_t-k z_t, nor many small movements from few large ones. What it leaves, the innovations of time-series analysis, can.
Nor does it say what moves at the same moment, which is the other half of a linear model of time series: `step_correlations`.
"""

import jax.numpy as jnp
import numpy as np

from facedyn.core.low_rank import changes, clip_means, dynamics
from facedyn.core.person_filters import Slot

# Whose moments are taken: the errors of the changes before and after the centre frame, and the step to the next frame.
RESIDUALS = ("before", "after", "step")
MOMENTS = ("spread", "skewness", "kurtosis")
# Added to what a logarithm is taken of, where states have a mean square of one: a still unit stays finite.
FLOOR = 1e-3
# A correlation counts as this at most, so that its Fisher transform is finite.
LARGEST_CORRELATION = 0.99


def innovations(filters, states, windows, clip, count):
    """Moments of what `filters`, those for everybody and the unit's own covariance, leave: [S, 3, 3, K], RESIDUALS by MOMENTS.

    The log of the standard deviation as a share of the states' own, the skewness, and the log of the kurtosis, over the
    first `count` rows. Arguments otherwise as of `low_rank.normal_equations`; zeros for a unit without rows.
    """
    where = jnp.arange(len(windows)) < count
    now, change = changes(states, windows)
    centred = now - clip_means(now, clip, where, clip)
    step = states[windows[:, windows.shape[-1] // 2 + 1]] - now
    left = jnp.concatenate([change - dynamics(filters, centred), step[:, None]], 1)  # [N, 3, S, K]
    weights = where / jnp.maximum(count, 1)

    def mean(x):
        return jnp.einsum("n,n...->...", weights, x, precision="highest")

    errors = left - mean(left)[None]
    std, own = jnp.sqrt(mean(errors**2)), jnp.sqrt(mean(centred**2))
    scaled = errors / jnp.maximum(std, FLOOR)[None]
    found = (jnp.log((std + FLOOR) / (own + FLOOR)[None]), mean(scaled**3), jnp.log(mean(scaled**4) + FLOOR))
    return jnp.where(count > 0, jnp.stack(found, 1).transpose(2, 0, 1, 3), 0)  # [3 of, 3 moments, S, K] before


def step_correlations(states, windows, count):
    """Fisher-transformed correlations of the coordinates' steps to the next frame, [S, K (K-1) / 2].

    Of the pairs i < j in the order of numpy's `triu_indices`, over the first `count` rows; arguments as of `innovations`. Zeros
    for a unit without rows, and for a coordinate that stays still.
    """
    n, rank = windows.shape[-1] // 2, states.shape[-1]
    weights = (jnp.arange(len(windows)) < count) / jnp.maximum(count, 1)
    step = states[windows[:, n + 1]] - states[windows[:, n]]
    centred = step - jnp.einsum("n,nsk->sk", weights, step, precision="highest")[None]
    covariance = jnp.einsum("n,nsi,nsj->sij", weights, centred, centred, precision="highest")
    spread = jnp.maximum(jnp.sqrt(jnp.diagonal(covariance, axis1=1, axis2=2)), FLOOR)
    first, second = np.triu_indices(rank, 1)
    found = covariance[:, first, second] / (spread[:, first] * spread[:, second])
    return jnp.arctanh(jnp.clip(found, -LARGEST_CORRELATION, LARGEST_CORRELATION))


def step_correlations_layout(sites, rank: int, offset: int) -> tuple[Slot, ...]:
    """Where each site's step correlations lie in the representation, from `offset` on: [rank (rank - 1) / 2]."""
    size = rank * (rank - 1) // 2
    return tuple(Slot(step_correlations_name(site.name), (size,), offset + i * size, size) for i, site in enumerate(sites))


def step_correlations_name(site: str) -> str:
    """Of the step correlations at a site, in the layout record."""
    return f"{site}_step_correlations"


def layout(sites, rank: int, offset: int) -> tuple[Slot, ...]:
    """Where each site's innovations lie in the representation, from `offset` on: [3, 3, rank]."""
    size = len(RESIDUALS) * len(MOMENTS) * rank
    shape = (len(RESIDUALS), len(MOMENTS), rank)
    return tuple(Slot(slot_name(site.name), shape, offset + i * size, size) for i, site in enumerate(sites))


def slot_name(site: str) -> str:
    """Of the innovations at a site, in the layout record."""
    return f"{site}_innovations"

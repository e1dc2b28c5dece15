"""Person filters in closed form: at every site, the linear map that predicts how its feature map changes.

The self-supervision is that of the rank loss, the order of the frames around a centre frame, but it predicts the frozen
model's feature maps instead of pixels: a change of a feature map depends mainly on what the face does, a change of pixels
as much on skin and light. A site's state is its feature map in a few shared coordinates (`basis`). A filter
A = (A_pre, A_suc) maps the state now, as it differs from the clip's mean, to the mean change of each half window; it is
the least-squares solution, so no step size, no number of steps and no sampling enters the representation.

Arrays here: T frames, N centre frames (rows), S sites, K coordinates of each.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from facedyn.core import pca
from facedyn.core.rank_loss import RankLoss, ranking_accuracy
from facedyn.core.shapes import AnyArray, Clips, Count, Part, SiteFilters, States, Windows

# Directions with less than this share of the leading one's variance are rounding, not components.
MIN_VARIANCE = 1e-6
# Share of the mean variance, and variance, that are added to every variance before states are whitened by them.
SHRINKAGE, SMALLEST_VARIANCE = 1e-2, 1e-6


def basis(maps: Float[AnyArray, "R D"], rank: int) -> Float32[np.ndarray, "D {rank}"]:
    """The principal components of how a site's feature map varies; `maps` have clip means subtracted.

    Scaled so that each coordinate `maps @ basis` has mean square one; columns of zeros where there are fewer. Works on the
    products of the rows, so D may be large; R^2 numbers are held.
    """
    maps = np.asarray(maps, np.float32)
    values, rows = pca.eigenvectors(maps @ maps.T, rank, MIN_VARIANCE)
    # Of unit length: maps.T @ rows / sqrt(values); with a mean square of one: that over sqrt(values / R).
    found = maps.T @ (rows * (np.sqrt(len(maps)) / values)).astype(np.float32)
    signs = np.sign(found[np.abs(found).argmax(0), np.arange(len(values))])
    return np.pad(found * signs, ((0, 0), (0, rank - len(values))))


def changes(states: States, windows: Windows) -> tuple[Float[Array, "N S K"], Float[Array, "N 2 S K"]]:
    """States now, of each row, and how they move.

    The change in the half window before is z_t - mean z_{t-ks}, after it mean z_{t+ks} - z_t: both in time's direction.
    """
    n = windows.shape[-1] // 2
    around = jnp.asarray(states)[windows]  # [N, 2n+1, S, K]
    now = around[:, n]
    return now, jnp.stack([now - around[:, :n].mean(1), around[:, n + 1 :].mean(1) - now], 1)


def clip_means(
    now: Float[AnyArray, "N S K"], clip: Clips, where: Bool[AnyArray, " N"], wanted: Int[AnyArray, " M"]
) -> Float[Array, "M S K"]:
    """Mean state of each wanted clip's rows, those in `where`.

    Zeros for a clip that has no row.
    """
    own = ((wanted[:, None] == clip[None]) & where[None]).astype(now.dtype)
    return jnp.einsum("mn,nsk->msk", own, now, precision="highest") / jnp.maximum(own.sum(1), 1)[:, None, None]


def whitening(covariance: Float[AnyArray, "K K"]) -> Float[Array, "K K"]:
    """W with W C W' = 1 for a positive definite C, lower triangular: row r holds coordinates up to r only.

    So the leading part of W whitens the leading part of C: a smaller rank is a part of a larger. By elimination without pivots;
    not by LAPACK, for the reason in `solve_positive_definite`.
    """
    k = len(covariance)

    def eliminate(i, both):
        share = jnp.where(jnp.arange(k) > i, both[:, i] / both[i, i], 0)
        return both - share[:, None] * both[i][None]

    both = jax.lax.fori_loop(0, k, eliminate, jnp.concatenate([covariance, jnp.eye(k)], 1))
    return both[:, k:] / jnp.sqrt(jnp.diagonal(both))[:, None]


def own_whitening(states: States, windows: Windows, clip: Clips, count: Count) -> Float[Array, "S K K"]:
    """`whitening` of the covariance of a unit's states over the first `count` rows, about the clips' means.

    Zeros for a unit without rows.
    """
    there = jnp.arange(len(windows)) < count
    now = states[windows[:, windows.shape[-1] // 2]]
    centred = jnp.where(there[:, None, None], now - clip_means(now, clip, there, clip), 0)
    covariance = jnp.einsum("nsi,nsj->sij", centred, centred, precision="highest") / jnp.maximum(count, 1)
    ridge = SHRINKAGE * jnp.trace(covariance, axis1=1, axis2=2) / states.shape[-1] + SMALLEST_VARIANCE
    found = jax.vmap(whitening)(covariance + ridge[:, None, None] * jnp.eye(states.shape[-1])[None])
    return jnp.where(count > 0, found, 0)


def whiten(states: States, windows: Windows, clip: Clips, count: Count) -> Float[Array, "T S K"]:
    """States times the unit's `own_whitening`.

    What is left of a person's face in them is the direction in which a movement shows; its size is 1 in every direction.
    """
    return jnp.einsum("sij,tsj->tsi", own_whitening(states, windows, clip, count), states, precision="highest")


def normal_equations(
    states: States, windows: Windows, clip: Clips, count: Count
) -> tuple[Float[Array, "S K K"], Float[Array, "S 2 K K"]]:
    """The normal equations of a unit's least-squares problem: (xtx, xty).

    Sums over the first `count` rows, so that those of several units add up. xtx_ij = sum z_i z_j and
    xty_mij = sum y_mi z_j, z the state less the clip's mean and y_m its change in half window m.
    """
    where = jnp.arange(len(windows)) < count
    now, change = changes(states, windows)
    centred = jnp.where(where[:, None, None], now - clip_means(now, clip, where, clip), 0)
    return (
        jnp.einsum("nsi,nsj->sij", centred, centred, precision="highest"),
        jnp.einsum("nmsi,nsj->smij", change, centred, precision="highest"),
    )


def concatenate_rows(fitted: Part, held: Part) -> Part:
    """The rows of two parts of a unit as one: (states, windows, clip, count) of the same states; counted rows stand first."""
    (states, windows, clip, count), (_, held_windows, held_clip, held_count) = fitted, held
    counted = jnp.concatenate([jnp.arange(len(windows)) < count, jnp.arange(len(held_windows)) < held_count])
    order = jnp.argsort(~counted, stable=True)
    windows, clip = jnp.concatenate([windows, held_windows]), jnp.concatenate([clip, held_clip])
    return states, windows[order], clip[order], count + held_count


def solve(
    xtx: Float[AnyArray, "S K K"], xty: Float[AnyArray, "S 2 K K"], population: SiteFilters, ridge: Float[AnyArray, " S"]
) -> Float[Array, "S 2 K K"]:
    """The filters that predict a unit's changes best.

        min_A  sum_t |y_t - (population + A) z_t|^2 + ridge |A|^2

    Like every person filter, A is what the person adds to `population`, the mean filters. The ridge is counted in frames, as
    states have a mean square of one: a unit of fewer frames than that stays near zero filters, and one without any is there.
    """
    left = xtx + jnp.asarray(ridge)[..., None, None] * jnp.eye(xtx.shape[-1])[None]
    missed = xty - jnp.einsum("smij,sjk->smik", population, xtx, precision="highest")
    # A (Z + ridge) = missed, and the bracket is symmetric: both halves side by side.
    found = jax.vmap(solve_positive_definite)(left, jnp.moveaxis(missed, 3, 1).reshape(*missed.shape[:1], missed.shape[3], -1))
    return jnp.moveaxis(found.reshape(found.shape[0], found.shape[1], *missed.shape[1:3]), 1, 3)


def solve_positive_definite(left: Float[AnyArray, "K K"], right: Float[AnyArray, "K M"]) -> Float[Array, "K M"]:
    """X of left X = right, `left` symmetric and positive definite: Gauss-Jordan elimination.

    Such a matrix needs no pivots. Not by LAPACK, whose batched calls in jaxlib wait for threads that other such calls hold: on
    two cores two of them in one program, of 20 people each, wait for ever (jaxlib 0.10).
    """
    k = len(left)

    def eliminate(i, both):
        row = both[i] / both[i, i]
        return (both - both[:, i, None] * row[None]).at[i].set(row)

    return jax.lax.fori_loop(0, k, eliminate, jnp.concatenate([left, right], 1))[:, k:]


def dynamics(filters: SiteFilters, centred: Float[AnyArray, "N S K"]) -> Float[Array, "N 2 S K"]:
    """The dynamic representation of a state, the expected changes."""
    return jnp.einsum("smij,nsj->nmsi", filters, centred, precision="highest")


def quality(
    filters: SiteFilters, states: States, windows: Windows, centred: Float[AnyArray, "N S K"], count: Count
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
    """Sums over the first `count` rows: (squared error of the expected changes, ranking accuracy, rows).

    `centred`: the rows' states as they differ from the clip's mean. The accuracy is that of the rank loss with
    the states as frames and the expected changes as dynamic representation; each site has equal weight.
    """
    where = jnp.arange(len(windows)) < count
    maps, (_, change) = dynamics(filters, centred), changes(states, windows)
    settings = RankLoss(half_length=windows.shape[-1] // 2, normalise=False)

    def of_site(maps, around):  # a state is an image of one place with K channels
        return ranking_accuracy(maps[:, :, None, None], around[:, :, None, None], settings)

    right = jax.vmap(of_site, (2, 2))(maps, states[windows]).mean(0)
    error = jnp.square(change - maps).mean((1, 2, 3))
    return jnp.where(where, error, 0).sum(), jnp.where(where, right, 0).sum(), where.sum()


def readout(states: Float[AnyArray, "R K"], frames: Float[AnyArray, "R D"]) -> Float32[np.ndarray, "K D"]:
    """What a site's state looks like: least squares of frames on states, clip means subtracted.

    States as `basis` makes them are uncorrelated with mean square one, so that a product is all it takes.
    """
    return np.asarray(states, np.float32).T @ np.asarray(frames, np.float32) / len(states)


def _held_centred(fitted: Part, held: Part) -> Float[Array, "held S K"]:
    """States of the held-back rows as they differ from the clip's mean in the fit."""
    now, _ = changes(*fitted[:2])
    now_held, _ = changes(*held[:2])
    return now_held - clip_means(now, fitted[2], jnp.arange(len(now)) < fitted[3], held[2])


def held_back_quality(
    population: SiteFilters, filters: SiteFilters, fitted: Part, held: Part
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
    """Sums over the held-back rows of a unit: (squared error, ranking accuracy without its filters, with them, rows).

    A clip's mean state is that of its rows in the fit.
    """
    states, windows, _, count = held
    centred = _held_centred(fitted, held)
    _, before, _ = quality(population, states, windows, centred, count)
    error, after, rows = quality(population + filters, states, windows, centred, count)
    return error, before, after, rows


def held_back_errors(population: SiteFilters, fitted: Part, held: Part, ridges: Float[AnyArray, " G"]) -> Float[Array, "G S"]:
    """Squared error at each site, summed over the held-back rows, with every candidate.

    What ridge is chosen by, on people who are in no score.
    """
    states, windows, _, count = held
    centred, (_, change) = _held_centred(fitted, held), changes(states, windows)
    xtx, xty = normal_equations(*fitted)
    there = (jnp.arange(len(windows)) < count)[:, None]

    def of(ridge):
        filters = population + solve(xtx, xty, population, jnp.full(len(population), ridge))
        return jnp.where(there, jnp.square(change - dynamics(filters, centred)).mean((1, 3)), 0).sum(0)

    return jax.lax.map(of, ridges)

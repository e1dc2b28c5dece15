"""The named blocks of a representation in closed form: what each of them takes from the states of a fit unit.

`filters` predict how the state changes. A linear filter of one state cannot distinguish a fast rise and a slow fall from the
reverse, as the mean of z_t+k z_t is that of z_t-k z_t, nor many small movements from few large ones. The `innovations` (its
prediction errors) can. `step_correlations` say what moves at the same moment, `amplitude` how large movements are, and
`autocorrelations` how long they last.

The size of a movement in every coordinate, and which coordinates move together, depend on the person's looks. So blocks are
computed from states that are whitened by the person's own covariance (`low_rank.whiten`; config.fit.whiten), except for
`amplitude`, which measures exactly that size. `whitened_covariances` whiten in any case; their eigenvalues, the `spectrum`,
are independent of the direction of a movement, too.

Coordinates are ordered, the leading principal component first: the part of a block for the first r coordinates (`leading`)
is what a fit of rank r would have found; for `filters` and `innovations` this holds approximately.

Arrays as in `low_rank`: T frames, N rows (centre frames), S sites, K coordinates. Every block is a pure function
(filters, population, states [T, S, K], windows [N, 2n+1], clip [N], count) -> [S, ...] of the first `count` rows, and zeros
for a unit without rows; `filters` are what the unit adds to the `population` filters, both [S, 2, K, K].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from facedyn.core.low_rank import changes, clip_means, dynamics, whiten
from facedyn.core.person_filters import Site, Slot
from facedyn.core.shapes import AnyArray, Clips, Count, SiteFilters, States, Windows

# Whose moments are taken: the errors of the changes before and after the centre frame, and the step to the next frame.
RESIDUALS = ("before", "after", "step")
MOMENTS = ("std", "skewness", "kurtosis")
# Of autocorrelations, in frames of a window (its stride is the scale).
LAGS = (1, 2, 4, 8)
# Added to what a logarithm is taken of, where states have a mean square of one: a still unit stays finite.
FLOOR = 1e-3
# Numbers of leading coordinates that count by themselves (`spectrum`, `weights`), as far as the fit has so many.
RANKS = (4, 8, 16, 32)
# A sweep rotates every pair of coordinates once; after so many float32 has nothing left to gain (measured up to rank 32).
SWEEPS = 6
# A correlation counts as this at most, so that its Fisher transform is finite.
LARGEST_CORRELATION = 0.99


def _row_mean(windows: Windows, count: Count) -> Callable[[jax.Array], jax.Array]:
    """x [N, ...] -> mean over the first `count` rows, 0 without any."""
    weights = (jnp.arange(len(windows)) < count) / jnp.maximum(count, 1)
    return lambda x: jnp.einsum("n,n...->...", weights, x, precision="highest")


def _centred(x: Float[AnyArray, "N S K"], windows: Windows, clip: Clips, count: Count) -> Float[Array, "N S K"]:
    """x less the mean of its clip's rows."""
    return jnp.asarray(x) - clip_means(x, clip, jnp.arange(len(windows)) < count, clip)


def filters(
    own: SiteFilters, population: SiteFilters, states: States, windows: Windows, clip: Clips, count: Count
) -> Float[AnyArray, "S 2 K K"]:
    """The unit's filters, before and after the centre frame."""
    return own


def innovations(
    own: SiteFilters, population: SiteFilters, states: States, windows: Windows, clip: Clips, count: Count
) -> Float[Array, "S 3 3 K"]:
    """Moments of what the filters of population and unit leave, RESIDUALS by MOMENTS.

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


def step_correlations(
    own: SiteFilters, population: SiteFilters, states: States, windows: Windows, clip: Clips, count: Count
) -> Float[Array, "S K*(K-1)//2"]:
    """Fisher-transformed correlations of the coordinates' steps to the next frame.

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


def autocorrelations(
    own: SiteFilters, population: SiteFilters, states: States, windows: Windows, clip: Clips, count: Count
) -> Float[Array, "S lags K"]:
    """Each coordinate's correlation with itself LAGS later, in [-1, 1]; 0 for one that stays still.

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


def amplitude(
    own: SiteFilters, population: SiteFilters, states: States, windows: Windows, clip: Clips, count: Count
) -> Float[Array, "S K"]:
    """Log of each coordinate's standard deviation about its clip's mean."""
    now, _ = changes(states, windows)
    variance = _row_mean(windows, count)(_centred(now, windows, clip, count) ** 2)
    return jnp.where(count > 0, jnp.log(jnp.sqrt(variance) + FLOOR), 0)


def whitened_covariances(
    own: SiteFilters, population: SiteFilters, states: States, windows: Windows, clip: Clips, count: Count
) -> Float[Array, "S lags K K"]:
    """Covariances of states LAGS apart, whitened by the unit's own covariance; rows are the later state.

    W E[z_t+lag z_t'] W' with W E[z_t z_t'] W' = 1 (`whitening`), means those of the clip. Whatever the size of the movements
    and their correlations at one moment: of a state that keeps its value all are 1, of one without memory all are 0. A lag
    longer than the window gives 0. Zeros for a unit without rows.
    """
    length, weights = windows.shape[-1], (jnp.arange(len(windows)) < count) / jnp.maximum(count, 1)
    whitened, found = whiten(states, windows, clip, count), []
    for lag in LAGS:
        if lag >= length:
            found.append(jnp.zeros((*states.shape[1:], states.shape[-1])))
            continue
        first = (length - lag) // 2
        earlier, later = (_centred(whitened[windows[:, i]], windows, clip, count) for i in (first, first + lag))
        found.append(jnp.einsum("n,nsi,nsj->sij", weights, later, earlier, precision="highest"))
    return jnp.stack(found, 1)


def spectrum(
    own: SiteFilters, population: SiteFilters, states: States, windows: Windows, clip: Clips, count: Count
) -> Float[Array, "S lags numbers"]:
    """What of `whitened_covariances` does not turn with the coordinates.

    Of the leading r coordinates, for each r of RANKS that the fit has: the r eigenvalues of the symmetric part
    (how much of each movement is left after the lag) and the r // 2 sizes of the skew one (how much of it goes round), in
    falling order.
    """
    return spectrum_of(whitened_covariances(own, population, states, windows, clip, count))


def spectrum_of(covariances: Float[AnyArray, "*stack K K"]) -> Float[Array, "*stack numbers"]:
    """`spectrum` of whitened covariances."""
    found = []
    for rank in ranks_of(covariances.shape[-1]):
        part = covariances[..., :rank, :rank]
        turned = part.swapaxes(-1, -2)
        skew = (part - turned) / 2
        squared = jnp.matmul(skew, skew.swapaxes(-1, -2), precision="highest")  # eigenvalues come in pairs
        found.append(symmetric_eigenvalues((part + turned) / 2))
        found.append(jnp.sqrt(jnp.maximum(symmetric_eigenvalues(squared)[..., : 2 * (rank // 2) : 2], 0)))
    return jnp.concatenate(found, -1)


def symmetric_eigenvalues(a: Float[AnyArray, "*stack K K"]) -> Float[Array, "*stack K"]:
    """Eigenvalues of symmetric matrices in falling order, by Jacobi's method.

    Every round rotates K / 2 disjoint pairs of coordinates at once; the pairs go round as in a round-robin tournament.
    (R. Brent and F. Luk, "The solution of singular-value and symmetric eigenvalue problems on multiprocessor arrays",
    SIAM J. Sci. Stat. Comput. 6, 1985.) Not by LAPACK, for the reason in `low_rank.solve_positive_definite`.
    """
    k = a.shape[-1]
    half = (k + k % 2) // 2
    start, turn = _tournament(2 * half)
    a = jnp.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, 2 * half - k)] * 2)[..., start, :][..., start]

    def rotate(_, a):
        """Every coordinate of the first half with that of the second in its place; then all change places."""
        app, aqq, apq = (
            jnp.diagonal(x, axis1=-2, axis2=-1) for x in (a[..., :half, :half], a[..., half:, half:], a[..., :half, half:])
        )
        # The smaller of the two angles that make a_pq zero.
        angle = 0.5 * jnp.arctan2(2 * apq, aqq - app)
        angle = jnp.where(jnp.abs(angle) > jnp.pi / 4, angle - jnp.sign(angle) * jnp.pi / 2, angle)
        cos, sin = jnp.cos(angle)[..., None], jnp.sin(angle)[..., None]
        p, q = a[..., :half, :], a[..., half:, :]
        a = jnp.concatenate([cos * p - sin * q, sin * p + cos * q], -2)
        cos, sin = cos.swapaxes(-1, -2), sin.swapaxes(-1, -2)
        p, q = a[..., :half], a[..., half:]
        return jnp.concatenate([cos * p - sin * q, sin * p + cos * q], -1)[..., turn, :][..., turn]

    a = jax.lax.fori_loop(0, SWEEPS * (2 * half - 1), rotate, a)
    # What was padded has the eigenvalue 0, and after whole sweeps all are in their first places: it is not among the first k.
    found = jnp.zeros(a.shape[:-1]).at[..., start].set(jnp.diagonal(a, axis1=-2, axis2=-1))
    return -jnp.sort(-found[..., :k], axis=-1)


def _tournament(k: int) -> tuple[Int[np.ndarray, " {k}"], Int[np.ndarray, " {k}"]]:
    """(order of 0 .. k - 1, which change places after each round), k even.

    In each round those of the first half meet those of the second; after k - 1 rounds every two have met once, and all stand in
    their first places.
    """
    places = np.concatenate([np.arange(k // 2), np.arange(k // 2, k)[::-1]])
    return places, np.argsort(places)[np.concatenate([[0, k - 1], np.arange(1, k - 1)])[places]]


def ranks_of(rank: int) -> tuple[int, ...]:
    """RANKS as far as a fit of this rank has them."""
    return tuple(r for r in RANKS if r <= rank) or (rank,)


def _of_pairs(rank: int) -> Int[np.ndarray, "K K"]:
    """How many leading coordinates each number of a matrix is about."""
    each = np.arange(rank) + 1
    return np.maximum(each[:, None], each[None])


class Block(NamedTuple):
    """A block of the representation.

    Attributes:
      shape: rank -> shape of a site's part.
      compute: see the module; its result is [S, *shape].
      about: rank -> about how many leading coordinates each number is, an int array that can be broadcast to the shape.
      nested: whether what is about r coordinates is part of what is about more; else it stands by itself.
      whitened: whether it is asked of the whitened states where there are such.
    """

    shape: Callable[[int], tuple[int, ...]]
    compute: Callable
    about: Callable[[int], np.ndarray]
    nested: bool = True
    whitened: bool = True


def _each(rank: int) -> Int[np.ndarray, " K"]:
    return np.arange(rank) + 1


BLOCKS = {
    "filters": Block(lambda rank: (2, rank, rank), filters, _of_pairs),
    "innovations": Block(lambda rank: (len(RESIDUALS), len(MOMENTS), rank), innovations, _each),
    "step_correlations": Block(
        lambda rank: (rank * (rank - 1) // 2,), step_correlations, lambda rank: np.triu_indices(rank, 1)[1] + 1
    ),
    "autocorrelations": Block(lambda rank: (len(LAGS), rank), autocorrelations, _each),
    "amplitude": Block(lambda rank: (rank,), amplitude, _each, whitened=False),
    "whitened_covariances": Block(lambda rank: (len(LAGS), rank, rank), whitened_covariances, _of_pairs),
    "spectrum": Block(
        lambda rank: (len(LAGS), sum(r + r // 2 for r in ranks_of(rank))),
        spectrum,
        lambda rank: np.concatenate([np.full(r + r // 2, r) for r in ranks_of(rank)]),
        nested=False,
    ),
}


def slot_name(block: str, site: str) -> str:
    """Of a block's part at a site, in the layout record: 'skip0' for filters, 'skip0_innovations', ..."""
    return site if block == "filters" else f"{site}_{block}"


def layout(names: Sequence[str], sites: Sequence[Site], rank: int) -> tuple[Slot, ...]:
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


def leading(names: Sequence[str], sites: Sequence[Site], rank: int, r: int) -> Bool[np.ndarray, " D"]:
    """Which numbers of a representation of this rank are about its leading r coordinates.

    >>> from facedyn.core.person_filters import Site
    >>> leading(("filters", "amplitude"), (Site("skip0", 4),), 2, 1).astype(int)
    array([1, 0, 0, 0, 1, 0, 0, 0, 1, 0])
    """
    found = []
    for name in names:
        block = BLOCKS[name]
        about = np.broadcast_to(block.about(rank), block.shape(rank)).reshape(-1)
        if not len(about):
            continue
        # What is about other numbers of coordinates than r: of those that there are, the largest that r has room for.
        there = about[about <= r]
        chosen = about <= r if block.nested else about == (there.max() if len(there) else about.min())
        found.append(np.tile(chosen, len(sites)))
    return np.concatenate(found)


def bands(names: Sequence[str], sites: Sequence[Site], rank: int) -> Int[np.ndarray, " D"]:
    """Of which block each number of a representation is, by its place in `names`."""
    of_blocks = [len(sites) * int(np.prod(BLOCKS[name].shape(rank))) for name in names]
    return np.repeat(np.arange(len(of_blocks)), of_blocks)


def weights(names: Sequence[str], sites: Sequence[Site], rank: int) -> Float[np.ndarray, " D"]:
    """What z-scored features are multiplied with before a head sees them, of mean square 1.

    Every block has the same variance in all, whatever its size, and within it each of RANKS has an equal share, spread over
    what is about so many leading coordinates: those, which say most, count most. That took the place of a choice among the
    ranks, which chance decides with a hundred people: mean PCC 0.661 for 0.633 on the demo's people (docs/method.md).
    """
    of_bands, squared = bands(names, sites, rank), np.zeros(len(bands(names, sites, rank)))
    for r in ranks_of(rank):
        chosen = leading(names, sites, rank, r)
        squared += chosen / np.maximum(np.bincount(of_bands, chosen), 1)[of_bands]
    return np.sqrt(squared * len(squared) / squared.sum())


def represent(
    names: Sequence[str],
    own: SiteFilters,
    population: SiteFilters,
    states: States,
    windows: Windows,
    clip: Clips,
    count: Count,
    unwhitened: States | None = None,
) -> Float[Array, " D"]:
    """The representation of one unit, in the order of `layout`.

    unwhitened: the states before they were whitened, for the blocks that ask for these; None: `states`.
    """
    parts = []
    for name in names:
        chosen = states if BLOCKS[name].whitened or unwhitened is None else unwhitened
        parts.append(BLOCKS[name].compute(own, population, chosen, windows, clip, count))
    return jnp.concatenate([part.reshape(-1) for part in parts])

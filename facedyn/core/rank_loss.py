"""The rank loss: a dynamic representation is right when it puts the frames around its centre frame in their order.

A window holds the frames x_{t+ks}, k = -n..n. A dynamic representation of x_t has two maps, one for the half window
before and one for the half after; each must give its half's frames scores that rise in time. The centre frame is the
model's input and belongs to neither half: pairs with it would be won by copying the input. With
`direction='centred'` one map scores the whole window instead. See docs/method.md, section 1.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Real, Shaped

from facedyn.core.shapes import AnyArray

# Dynamic representations; windows, uint8 or in [0, 1]; which of a window's frames are not missing (None: all).
Maps: TypeAlias = Float[AnyArray, "B M H W C"]
Windows: TypeAlias = Real[AnyArray, "B window H W C"]
There: TypeAlias = Bool[AnyArray, "B window"] | None

# Scores are comparable between normalised and plain frame features when a typical change, in units of the
# full range of a pixel, has norm one.
TYPICAL_CHANGE = 0.05


@dataclasses.dataclass(frozen=True)
class RankLoss:
    """Settings of the rank loss, and the loss itself: `RankLoss()(maps, windows)`, see `rank_loss`.

    Attributes:
      half_length: n, frames before and after the centre frame.
      direction: 'two_maps' (default) or 'centred' (one map for the whole window).
      kind: 'hinge' (mean max(0, margin - (S_j - S_i))), 'logistic' (RankNet, Burges et al. 2005) or 'listmle' (Xia
        et al. 2008).
      margin: of the hinge.
      l2: weight of mean(D^2).
      frame_features: 'centred' (the half window's mean frame subtracted) or 'running_mean' (the same, of the means of
        all frames of the half so far: VideoDarwin, Fernando et al. 2015). What is subtracted is the same for all frames
        of a half, so without normalisation it does not touch their order.
      normalise: frame features to unit length; otherwise they keep their amplitude.
    """

    half_length: int = 4
    direction: str = "two_maps"
    kind: str = "hinge"
    margin: float = 1.0
    l2: float = 1e-4
    frame_features: str = "centred"
    normalise: bool = True

    def __post_init__(self):
        for field, valid in (
            ("direction", ("two_maps", "centred")),
            ("kind", ("hinge", "logistic", "listmle")),
            ("frame_features", ("centred", "running_mean")),
        ):
            if getattr(self, field) not in valid:
                raise ValueError(f"rank_loss.{field} is {getattr(self, field)!r}; it must be one of {', '.join(valid)}.")
        if self.half_length < 2:
            raise ValueError("rank_loss.half_length must be at least 2: a half window of one frame has no order.")

    @property
    def maps(self) -> int:
        """Maps of a dynamic representation under this loss."""
        return 2 if self.direction == "two_maps" else 1

    def __call__(self, maps: Maps, windows: Windows) -> Float[Array, " B"]:
        """See `rank_loss`."""
        return rank_loss(maps, windows, self)

    def accuracy(self, maps: Maps, windows: Windows) -> Float[Array, " B"]:
        """See `ranking_accuracy`."""
        return ranking_accuracy(maps, windows, self)


def halves(windows: Shaped[AnyArray, "B window *rest"], settings: RankLoss) -> Shaped[AnyArray, "B M n *rest"]:
    """The parts of a window that a map each puts in order, in time's order; `rest` is any number of axes."""
    n = settings.half_length
    if settings.direction == "centred":
        return windows[:, None]
    return jnp.stack([windows[:, :n], windows[:, n + 1 :]], 1)


def frame_features(windows: Windows, settings: RankLoss, where: There = None) -> Float32[Array, "B M n H*W*C"]:
    """Windows -> v, one row a frame of a part.

    `where`, False for a missing frame, keeps it out of the mean frame; its own row is then meaningless.
    """
    parts = jnp.asarray(halves(windows, settings))
    parts = parts.reshape(*parts.shape[:3], -1)
    x = parts.astype(jnp.float32) / 255.0 if parts.dtype == jnp.uint8 else parts.astype(jnp.float32)
    if where is None:
        weight = jnp.ones(x.shape[:3] + (1,), x.dtype)
    else:
        weight = jnp.asarray(halves(where, settings)[..., None], x.dtype)
    if settings.frame_features == "running_mean":
        x = jnp.cumsum(weight * x, -2) / jnp.maximum(jnp.cumsum(weight, -2), 1)
    mean = (weight * x).sum(-2, keepdims=True) / jnp.maximum(weight.sum(-2, keepdims=True), 1)
    v = weight * (x - mean)
    if settings.normalise:
        return v * jax.lax.rsqrt(jnp.square(v).sum(-1, keepdims=True) + 1e-10)
    return v / (TYPICAL_CHANGE * v.shape[-1] ** 0.5)


def scores(maps: Maps, features: Float[AnyArray, "B M n H*W*C"]) -> Float[Array, "B M n"]:
    """S_k = <D, v_k> / sqrt(H W C), of maps D and frame features v.

    The factor makes a D with entries of order one give margins of order one at the best, whatever the resolution.
    """
    flat = maps.reshape(*maps.shape[:2], -1).astype(jnp.float32)
    return jnp.einsum("bmd,bmkd->bmk", flat, features, precision="highest") * flat.shape[-1] ** -0.5


def pairs(length: int) -> tuple[Int[Array, " pairs"], Int[Array, " pairs"]]:
    """Chronological pairs i < j of `length` frames, as two index arrays."""
    return jnp.triu_indices(length, 1)


def _differences(
    maps: Maps, windows: Windows, settings: RankLoss, where: There
) -> tuple[Float[Array, "B M pairs"], Bool[Array, "B M pairs"], Float[Array, "B M n"], Bool[Array, "B M n"]]:
    """S_j - S_i of every chronological pair and whether both frames are there; S, and whether a frame is there."""
    s = scores(maps, frame_features(windows, settings, where))
    there = jnp.ones(s.shape, bool) if where is None else jnp.asarray(halves(where, settings), bool)
    i, j = pairs(s.shape[-1])
    return s[..., j] - s[..., i], there[..., i] & there[..., j], s, there


def rank_loss(maps: Maps, windows: Windows, settings: RankLoss, where: There = None) -> Float[Array, " B"]:
    """The loss of each window; `where` is False for a missing frame.

    hinge: mean over the pairs i < j of each part of max(0, margin - (S_j - S_i)); plus l2 * mean(D^2).
    A pair with a missing frame is left out; a window without any pair has only the l2 term.

    >>> maps, windows = jnp.zeros((1, 2, 4, 4, 1)), jnp.ones((1, 9, 4, 4, 1))
    >>> float(rank_loss(maps, windows, RankLoss())[0])  # nothing is told apart: the whole margin
    1.0
    """
    difference, valid, s, there = _differences(maps, windows, settings, where)
    if settings.kind == "listmle":
        # Negative log likelihood (Plackett-Luce) of drawing the frames from the last to the first, a frame's mean.
        per_frame = jax.lax.cumlogsumexp(jnp.where(there, s, -1e9), axis=s.ndim - 1) - s
        penalty = jnp.where(there, per_frame, 0).sum((1, 2)) / jnp.maximum(there.sum((1, 2)), 1)
    else:
        if settings.kind == "hinge":
            per_pair = jax.nn.relu(settings.margin - difference)
        else:
            per_pair = jax.nn.softplus(-difference)
        penalty = jnp.where(valid, per_pair, 0).sum((1, 2)) / jnp.maximum(valid.sum((1, 2)), 1)
    return penalty + settings.l2 * jnp.square(maps).mean((1, 2, 3, 4))


def ranking_accuracy(maps: Maps, windows: Windows, settings: RankLoss, where: There = None) -> Float[Array, " B"]:
    """Share of chronological pairs that the maps put in the right order, of each window; a tie counts a half.

    NaN for a window without a pair.

    >>> brighter = jnp.linspace(0, 1, 9).reshape(1, 9, 1, 1, 1)  # a face, frame by frame
    >>> windows = jnp.broadcast_to(brighter, (1, 9, 4, 4, 1))
    >>> float(ranking_accuracy(jnp.ones((1, 2, 4, 4, 1)), windows, RankLoss(normalise=False))[0])
    1.0
    """
    difference, valid, _, _ = _differences(maps, windows, settings, where)
    right = jnp.where(difference == 0, 0.5, (difference > 0).astype(jnp.float32))
    count = valid.sum((1, 2))
    return jnp.where(count > 0, jnp.where(valid, right, 0).sum((1, 2)) / jnp.maximum(count, 1), jnp.nan)


def dynamic_image(windows: Windows, settings: RankLoss, where: There = None) -> Float[Array, "B M H W C"]:
    """Approximate rank pooling, sum_t (2t - T - 1) v_t of each part (Bilen et al. 2016).

    It sees the window itself, so as a dynamic representation it is an oracle that the U-net, which sees only the
    centre frame, cannot reach.
    """
    v = frame_features(windows, settings, where)
    length = v.shape[-2]
    coefficient = 2.0 * jnp.arange(1, length + 1) - length - 1
    return jnp.einsum("k,bmkd->bmd", coefficient, v, precision="highest").reshape(v.shape[:2] + windows.shape[2:])


def copied_input(windows: Windows, settings: RankLoss) -> Float[Array, "B M H W C"]:
    """The trivial solution as a control: the centre frame less its mean, with the sign that autocorrelation asks for."""
    x = jnp.asarray(windows[:, settings.half_length], jnp.float32)
    x = x - x.mean((1, 2), keepdims=True)
    # Frames before the centre come nearer to it in time, frames after it go away from it.
    return jnp.stack([x, -x], 1) if settings.maps == 2 else x[:, None]

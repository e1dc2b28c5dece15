"""Surrogates: states that keep one thing of a person and lose another, so that a claim about the other can fail.

`swap_dynamics` keeps a person's covariance, which is looks as much as movement (how a movement shows in feature maps depends
on the face), and takes the movement over time from somebody else: if it still identifies people, it is not by movement.
`reverse` keeps all but the direction of time. Pure functions on the host, float64 inside.

Arrays as in `low_rank`: T frames, S sites, K coordinates, N rows.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from facedyn.core.shapes import AnyArray, States

# Directions with less than this share of the leading one's variance are rounding, and stay still.
MIN_VARIANCE = 1e-8


def centred(states: States, clip: Int[np.ndarray, " T"] | None = None) -> Float64[np.ndarray, "T S K"]:
    """States less their mean over each clip; clip: to which each frame belongs, None = all to one."""
    states = np.asarray(states, np.float64)
    if clip is None:
        return states - states.mean(0)
    _, clip = np.unique(clip, return_inverse=True)
    sums = np.zeros((clip.max() + 1, *states.shape[1:]))
    np.add.at(sums, clip, states)
    return states - (sums / np.bincount(clip)[:, None, None])[clip]


def covariance(states: States, clip: Int[np.ndarray, " T"] | None = None) -> Float64[np.ndarray, "S K K"]:
    """Of states about the means of their clips."""
    found = centred(states, clip)
    return np.einsum("tsi,tsj->sij", found, found) / len(found)


def roots(covariances: Float64[np.ndarray, "S K K"]) -> tuple[Float64[np.ndarray, "S K K"], Float64[np.ndarray, "S K K"]]:
    """Symmetric square root and inverse square root of covariances; the inverse is 0 where nothing varies.

    Symmetric, not triangular: of all roots it turns the coordinates least, so that they keep their meaning (A. Kessy et al.,
    "Optimal whitening and decorrelation", The American Statistician 2018).
    """
    values, vectors = np.linalg.eigh(covariances)
    there = values > MIN_VARIANCE * values.max(-1, keepdims=True)
    root = np.sqrt(np.where(there, values, 0))
    inverse = np.divide(1, root, out=np.zeros_like(root), where=there & (root > 0))
    return tuple(np.einsum("sik,sk,sjk->sij", vectors, scale, vectors) for scale in (root, inverse))


def whiten(states: States, clip: Int[np.ndarray, " T"] | None = None) -> Float32[np.ndarray, "T S K"]:
    """States without their clips' means and with the identity as covariance."""
    found = centred(states, clip)
    _, inverse = roots(covariance(states, clip))
    return np.einsum("tsi,sij->tsj", found, inverse).astype(np.float32)


def swap_dynamics(
    own: States,
    other: Float[AnyArray, "T_other S K"],
    own_clip: Int[np.ndarray, " T"] | None = None,
    other_clip: Int[np.ndarray, " T_other"] | None = None,
) -> Float32[np.ndarray, "T_other S K"]:
    """Somebody else's movement over time with this person's covariance, frame by frame as `other`.

        z'_t = C_own^(1/2) C_other^(-1/2) (z_t - mean of its clip)

    Args: own, other: states of this person and of the other; *_clip: which clip a frame is of, None = all of one.
    Returns: states about means of 0. Where the other does not move at all, neither does the surrogate.
    """
    colour, _ = roots(covariance(own, own_clip))
    return np.einsum("tsi,sij->tsj", whiten(other, other_clip).astype(np.float64), colour).astype(np.float32)


def reverse(windows: Int[AnyArray, "... window"]) -> Int[np.ndarray, "... window"]:
    """The windows of a clip that is played backwards: the same frames, the last one first."""
    return np.asarray(windows)[..., ::-1]

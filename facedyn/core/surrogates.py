"""Surrogates: states that keep one thing of a person and lose another, so that a claim about the other can fail.

`swap_dynamics` keeps a person's covariance, which is looks as much as movement (how a movement shows in feature maps depends
on the face), and takes the movement over time from somebody else: if it still identifies people, it is not by movement.
`reverse` keeps all but the direction of time. Pure functions on the host, float64 inside.

Arrays as in `low_rank`: T frames, S sites, K coordinates, N rows.
"""

import numpy as np

# Directions with less than this share of the leading one's variance are rounding, and stay still.
MIN_VARIANCE = 1e-8


def centred(states, clip=None) -> np.ndarray:
    """states [T, S, K] less their mean over each clip, float64; clip: to which each frame belongs, int [T]; None = one clip."""
    states = np.asarray(states, np.float64)
    if clip is None:
        return states - states.mean(0)
    _, clip = np.unique(clip, return_inverse=True)
    sums = np.zeros((clip.max() + 1, *states.shape[1:]))
    np.add.at(sums, clip, states)
    return states - (sums / np.bincount(clip)[:, None, None])[clip]


def covariance(states, clip=None) -> np.ndarray:
    """Of states [T, S, K] about the means of their clips: float64 [S, K, K]."""
    found = centred(states, clip)
    return np.einsum("tsi,tsj->sij", found, found) / len(found)


def roots(covariances) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric square root and inverse square root of covariances [S, K, K]; the inverse is 0 where nothing varies.

    Symmetric, not triangular: of all roots it turns the coordinates least, so that they keep their meaning (A. Kessy et al.,
    "Optimal whitening and decorrelation", The American Statistician 2018).
    """
    values, vectors = np.linalg.eigh(covariances)
    there = values > MIN_VARIANCE * values.max(-1, keepdims=True)
    root = np.sqrt(np.where(there, values, 0))
    inverse = np.divide(1, root, out=np.zeros_like(root), where=there & (root > 0))
    return tuple(np.einsum("sik,sk,sjk->sij", vectors, scale, vectors) for scale in (root, inverse))


def whiten(states, clip=None) -> np.ndarray:
    """States [T, S, K] without their clips' means and with the identity as covariance, float32."""
    found = centred(states, clip)
    _, inverse = roots(covariance(states, clip))
    return np.einsum("tsi,sij->tsj", found, inverse).astype(np.float32)


def swap_dynamics(own, other, own_clip=None, other_clip=None) -> np.ndarray:
    """Somebody else's movement over time with this person's covariance: float32 [T', S, K], frame by frame as `other`.

        z'_t = C_own^(1/2) C_other^(-1/2) (z_t - mean of its clip)

    Args: own [T, S, K], other [T', S, K]: states of this person and of the other; *_clip: which clip a frame is of, int;
      None = all of one.
    Returns: states about means of 0. Where the other does not move at all, neither does the surrogate.
    """
    colour, _ = roots(covariance(own, own_clip))
    return np.einsum("tsi,sij->tsj", whiten(other, other_clip).astype(np.float64), colour).astype(np.float32)


def reverse(windows) -> np.ndarray:
    """The windows [..., 2n+1] of a clip that is played backwards: the same frames, the last one first."""
    return np.asarray(windows)[..., ::-1]

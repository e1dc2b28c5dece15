"""What clips say by classical means, for the baselines: pixels and images in, one vector a person out.

A run is a stretch of a clip without a missing frame, [T, H, W], grey in [0, 1]; a clip with gaps has several. No function
sees a label, and none looks across a gap.
"""

import itertools

import cv2
import numpy as np

from data_pipelines.picks import picks
from facedyn.core.pca import eigenvectors

LAGS = (1, 2, 4, 8)
# The ridge of the ranking machine, as a share of the mean squared length of a centred frame.
RANKING_RIDGE = 0.1
FLOW_GRID, FLOW_PAIRS = 4, 200
# Farneback's parameters, for faces of few pixels: pyr_scale, levels (one coarser), winsize (a fifth of the face), iterations,
# poly_n, poly_sigma, flags.
FLOW = (0.5, 1, 7, 2, 5, 1.1, 0)


def runs(frame_indices) -> list[slice]:
    """Positions between which no frame is missing: slices of `frame_indices`, int [T], strictly increasing."""
    cuts = np.flatnonzero(np.diff(frame_indices) != 1) + 1
    edges = [0, *cuts.tolist(), len(frame_indices)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]


def grey(frames, size: int) -> np.ndarray:
    """Frames uint8 [T, H, W, C] -> float32 [T, s, s] in [0, 1]: mean over the channels, s = min(H, size) by area means.

    Of a motion (C = 2) x and y are no colours of one thing: side by side, [T, s, 2 s].
    """
    if frames.shape[-1] == 2:
        return np.concatenate([grey(frames[..., i : i + 1], size) for i in (0, 1)], -1)
    out = frames.mean(-1, dtype=np.float32) / 255
    if frames.shape[1] > size:
        out = np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in out])
    return out


def rank_pooling(run, ridge: float = RANKING_RIDGE) -> np.ndarray:
    """A ranking machine's weights over a run: the direction along which its frames rise in time. [T, H, W] -> [H * W].

    Least-squares regression of the frames' order on the centred frames (the pointwise form of B. Fernando et al., "Modeling
    video evolution for action recognition", CVPR 2015; there, support vector regression), scaled to unit length. A run played
    backwards gets minus the weights, a run without movement zeros.
    """
    x = run.reshape(len(run), -1).astype(np.float64)
    x = x - x.mean(0)
    order = np.arange(len(x)) - (len(x) - 1) / 2
    gram = x @ x.T
    power = np.trace(gram) / len(x)
    if power < 1e-12:
        return np.zeros(x.shape[1], np.float32)
    weights = x.T @ np.linalg.solve(gram + ridge * power * np.eye(len(x)), order)
    return (weights / max(np.linalg.norm(weights), 1e-12)).astype(np.float32)


def dynamic_images(run, half_length: int, scale: int) -> np.ndarray:
    """Dynamic images of all windows of 2n + 1 frames, `scale` apart: [T, H, W] -> [T - 2ns, H, W], empty for a short run.

    sum_k k x_{t+ks}, k = -n..n, over sum_k k^2: approximate rank pooling (H. Bilen et al., "Dynamic image networks for action
    recognition", CVPR 2016); its unit is change a step.
    """
    reach, length = half_length * scale, len(run) - 2 * half_length * scale
    out = np.zeros((max(length, 0), *run.shape[1:]), np.float32)
    if length > 0:
        for k in range(1, half_length + 1):
            after, before = reach + k * scale, reach - k * scale
            out += k * (run[after : after + length] - run[before : before + length])
        out /= sum(k * k for k in range(1, half_length + 1)) * 2
    return out


def signed_means(images) -> np.ndarray:
    """Mean of the positive and of the negative parts: [N, H, W] -> [2 H W], as a plain mean over windows would cancel out."""
    flat = images.reshape(len(images), -1)
    positive = np.maximum(flat, 0).mean(0)
    return np.concatenate([positive, positive - flat.mean(0)])


def principal_images(runs, components: int) -> np.ndarray:
    """The leading principal components of how frames differ from their run's mean: runs of [T, H, W] -> [H * W, components].

    Orthonormal columns, in falling order of spread; columns of zeros where there are fewer.
    """
    scatter = np.zeros(())
    for run in runs:
        x = run.reshape(len(run), -1).astype(np.float64)
        x = x - x.mean(0)
        scatter = scatter + x.T @ x
    _, vectors = eigenvectors(scatter, components)
    return np.pad(vectors, ((0, 0), (0, components - vectors.shape[1]))).astype(np.float32)


def linear_dynamics(tracks, lags=LAGS) -> np.ndarray:
    """How tracks move: their spread, autocorrelations at `lags` and the correlations of their increments.

    Args: tracks: runs of [T, K], each centred here by itself; moments are pooled over the runs.
    Returns: float32 [K + K * lags + K (K - 1) / 2]; 0 where a track does not move, NaN where no run is long enough.
    """
    tracks = [np.asarray(track, np.float64) - track.mean(0) for track in tracks]
    variance = np.concatenate(tracks).var(0)

    def share(values, by):
        return np.divide(values, by, out=np.zeros_like(values), where=by > 1e-18)

    found = [np.sqrt(variance)]
    for lag in lags:
        products = [track[lag:] * track[:-lag] for track in tracks if len(track) > lag]
        found.append(share(np.concatenate(products).mean(0), variance) if products else np.full_like(variance, np.nan))
    steps = np.concatenate([np.diff(track, axis=0) for track in tracks])
    upper = np.triu_indices(len(variance), 1)
    if len(steps):
        covariance = steps.T @ steps / len(steps)
        spread = np.sqrt(np.diagonal(covariance))
        found.append(share(covariance, np.outer(spread, spread))[upper])
    else:
        found.append(np.full(len(upper[0]), np.nan))
    return np.concatenate(found).astype(np.float32)


def optical_flow(runs) -> np.ndarray:
    """Statistics of the flow between neighbouring frames on a coarse grid: runs of [T, H, W] -> [6 * FLOW_GRID^2].

    Per cell, over time: mean flow rightwards, downwards, leftwards and upwards, mean and spread of its magnitude, in pixels a
    frame (G. Farneback, "Two-frame motion estimation based on polynomial expansion", SCIA 2003). At most FLOW_PAIRS pairs of
    frames are looked at, evenly spaced. NaN without two neighbouring frames.
    """
    pairs = [pair for run in runs for pair in itertools.pairwise(run)]
    cells = []
    for i in picks(len(pairs), FLOW_PAIRS):
        first, second = (np.round(frame * 255).astype(np.uint8) for frame in pairs[i])
        flow = cv2.calcOpticalFlowFarneback(first, second, np.empty((*first.shape, 2), np.float32), *FLOW)
        magnitude = np.sqrt((flow**2).sum(-1, keepdims=True))
        cells.append(_cell_means(np.concatenate([np.maximum(flow, 0), np.maximum(-flow, 0), magnitude], -1), FLOW_GRID))
    if not cells:
        return np.full(6 * FLOW_GRID**2, np.nan, np.float32)
    cells = np.stack(cells)  # [pairs, cells, 5]
    return np.concatenate([cells.mean(0).T.reshape(-1), cells[..., 4].std(0)]).astype(np.float32)


def _cell_means(image, grid):  # [H, W, D] -> [grid^2, D]
    """Mean over the places of each cell; cells differ by one place where the grid does not divide the image."""
    edges = [np.arange(grid) * side // grid for side in image.shape[:2]]
    sums = np.add.reduceat(np.add.reduceat(image, edges[0], 0), edges[1], 1)
    sizes = [np.diff([*edge, side]) for edge, side in zip(edges, image.shape[:2])]
    return (sums / np.outer(*sizes)[..., None]).reshape(grid**2, -1)

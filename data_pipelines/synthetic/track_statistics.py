"""Statistics of action-unit tracks that tell how a person moves; the oracle's input.

They are pooled over the units of a region (brows and eyes, mouth, head), so that a hundred people are enough for a ridge.
"""

import numpy as np

from data_pipelines.synthetic.dynamics import HEAD, INDEX, LOWER, UPPER

LAGS = (1, 2, 4, 8)
LEAD_LAGS = (1, 2, 3)
PAIRS = (
    ("smile_left", "eye_widen"),
    ("smile_right", "eye_widen"),
    ("jaw_drop", "brow_raise"),
    ("jaw_drop", "head_pitch"),
    ("lip_pucker", "head_yaw"),
)


def dynamics_statistics(clips: list[np.ndarray]) -> np.ndarray:
    """How a person moves, from all of its clips' tracks [T, U], T > 9: float64 [34], the mean over the clips.

    Per region: spread, autocorrelation at lags 1, 2, 4 and 8, skewness of the increments (positive: fast rise, slow fall),
    kurtosis of the values and of the increments. Then rate, autocorrelation and asymmetry of the blink, correlations of the
    increments of pairs of units, the correlation of the two corners of the mouth, and the left corner's lead.
    """
    return np.mean([_clip_statistics(np.asarray(tracks, np.float64)) for tracks in clips], axis=0)


def time_asymmetry(tracks: np.ndarray) -> np.ndarray:
    """Skewness of each unit's increments [U]: 0 in expectation for a movement that looks the same played backwards."""
    return _moment(np.diff(np.asarray(tracks, np.float64), axis=0), 3)


def _clip_statistics(tracks):
    steps = np.diff(tracks, axis=0)
    spread = np.log(tracks.std(0) + 1e-3)
    per_unit = [spread, *(_autocorrelation(tracks, lag) for lag in LAGS), _moment(steps, 3)]
    per_unit += [np.log(_moment(tracks, 4) + 1e-3), np.log(_moment(steps, 4) + 1e-3)]
    regions = [[INDEX[name] for name in names] for names in (UPPER, LOWER, HEAD)]
    pooled = [values[units].mean() for values in per_unit for units in regions]
    shut = tracks[:, INDEX["blink"]] > 0.5
    onsets = np.sum(shut[1:] & ~shut[:-1])
    blink = [onsets / len(tracks) * 25, _autocorrelation(tracks, 4)[INDEX["blink"]], time_asymmetry(tracks)[INDEX["blink"]]]
    pairs = [_correlation(steps[:, INDEX[a]], steps[:, INDEX[b]]) for a, b in PAIRS]
    pairs.append(_correlation(tracks[:, INDEX["smile_left"]], tracks[:, INDEX["smile_right"]]))
    left, right = steps[:, INDEX["smile_left"]], steps[:, INDEX["smile_right"]]
    lead = np.mean([_correlation(left[:-k], right[k:]) - _correlation(left[k:], right[:-k]) for k in LEAD_LAGS])
    return np.array([*pooled, *blink, *pairs, lead])


def _moment(x, order):
    centred = x - x.mean(0)
    return (centred**order).mean(0) / (centred.std(0) + 1e-9) ** order


def _autocorrelation(x, lag):
    centred = x - x.mean(0)
    return (centred[lag:] * centred[:-lag]).mean(0) / (centred.var(0) + 1e-9)


def _correlation(a, b):
    return np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std() + 1e-9)

"""From a tracked face to steady crops: where the eyes are in every frame, smoothed, and the similarity that puts them in place.

Jitter of the crop would be false dynamics of the face, so what is smoothed are the crop's own parameters: middle between the
eyes, size, angle. Nothing is smoothed across the ends of a track, so neither across a scene cut nor a loss of the face.
"""

import bisect

import cv2
import numpy as np

from data_pipelines.faces.tracking import Track, similarity

EYE_LINE = 0.33  # height of the eyes in the crop, share of its side
DETECTION_SECONDS = 4.0  # the detections' noise is averaged over so many times smoothing_seconds
REACH = 4  # standard deviations, beyond which a Gaussian is taken for 0
BLOCK = 50  # frames whose eyes are told at a time
SEEN_WEIGHT = (0.05, 0.3, 1.0)  # of a detection by the number of eyes seen in it


def canonical_eyes(size: int, crop_scale: float) -> np.ndarray:
    """Where the eyes lie in a crop whose side is `crop_scale` times their distance: [2, 2] (x, y), pixels."""
    half = size / crop_scale / 2
    return np.array([[size / 2 - half, EYE_LINE * size], [size / 2 + half, EYE_LINE * size]])


def eye_parameters(eyes: np.ndarray) -> np.ndarray:
    """(x, y of the middle, log of the distance, angle in radians) [N, 4] of eyes [N, 2, 2]; angles without jumps of 2 pi."""
    difference = eyes[:, 1] - eyes[:, 0]
    angle = np.unwrap(np.arctan2(difference[:, 1], difference[:, 0]))
    return np.column_stack([eyes.mean(1), np.log(np.hypot(*difference.T)), angle])


def eyes_of(parameters: np.ndarray) -> np.ndarray:
    """The inverse of `eye_parameters`: eyes [N, 2, 2]."""
    half = np.exp(parameters[:, 2:3]) / 2 * np.column_stack([np.cos(parameters[:, 3]), np.sin(parameters[:, 3])])
    return np.stack([parameters[:, :2] - half, parameters[:, :2] + half], 1)


def gaussian_smooth(values, times, at, seconds: float, weights=None) -> np.ndarray:
    """Values [N, D] at `times` [N], seen at the times `at` [M] through a Gaussian of standard deviation `seconds`: [M, D].

    A local straight line is fitted, not a local mean: a face that drifts steadily is followed to the very ends of its track.
    seconds = 0 interpolates linearly.
    """
    values, times, at = np.asarray(values, float), np.asarray(times, float), np.asarray(at, float)
    if seconds <= 0 or len(times) == 1:
        return np.column_stack([np.interp(at, times, column) for column in values.T])
    weights = np.ones(len(times)) if weights is None else np.asarray(weights, float)
    t = (times - at[:, None]) / seconds  # [M, N]
    w = weights * np.exp(-0.5 * t * t) + 1e-12
    m0, m1, m2 = w.sum(1, keepdims=True), (w * t).sum(1, keepdims=True), (w * t * t).sum(1, keepdims=True)
    determinant = m0 * m2 - m1 * m1
    # Where all detections lie on one side or on one spot the line is not determined; the mean takes its place smoothly.
    return w * (m2 + 0.02 * m0 - m1 * t) / (determinant + 0.02 * m0 * m0) @ values


def look_ahead(smoothing_seconds: float) -> float:
    """Seconds of a track that must be known beyond a frame before its eyes can be told."""
    return REACH * (1 + DETECTION_SECONDS) * smoothing_seconds


def track_eyes(track: Track, smoothing_seconds: float) -> np.ndarray:
    """Eyes [T, 2, 2] in the T frames of the track, as `eyes_between` tells them block by block."""
    n = len(track.seconds)
    blocks = [eyes_between(track, i, min(i + BLOCK, n), smoothing_seconds) for i in range(0, n, BLOCK)]
    return np.concatenate(blocks)


def eyes_between(track: Track, first: int, last: int, smoothing_seconds: float) -> np.ndarray:
    """Eyes [last - first, 2, 2] in the frames first, ..., last - 1 of the track, counted from its start.

    The flow of the frames tells the motion, the detections the place: carried back along the flow to one frame, the
    detections should all agree, so there they are cleaned of outliers and averaged over a second or so, and then carried
    forward again. The crop's parameters are then smoothed with standard deviation `smoothing_seconds`. At 0 the eyes are, in
    the frames with a fine detection, exactly the detected ones. Looks no further along the track than `look_ahead`.
    """
    near = REACH * smoothing_seconds  # of the second smoothing, whose input reaches as far as the first one's output
    far = look_ahead(smoothing_seconds)
    seconds = track.seconds
    # Detections that are not fine only say that the face is there.
    all_seen = [frame - track.start for frame, face in track.faces.items() if face.fine or track.last_fine < 0]
    begin, end = seconds[first], seconds[last - 1]
    # All detections in reach, and one more where there would be none on a side.
    i = min(_at(seconds, all_seen, begin - far), max(bisect.bisect_right(all_seen, first) - 1, 0))
    j = max(_at(seconds, all_seen, end + far), bisect.bisect_left(all_seen, last - 1) + 1)
    seen = np.array(all_seen[i:j])
    here = bisect.bisect_left(seconds, begin - near), bisect.bisect_right(seconds, end + near)  # for the second smoothing
    origin = min(here[0], seen[0])
    forward = np.tile(np.eye(3), (max(here[1], seen[-1] + 1) - origin, 1, 1))
    for k, motion in enumerate(track.motions[origin : origin + len(forward) - 1]):
        forward[k + 1, :2] = motion[:, :2] @ forward[k, :2]
        forward[k + 1, :2, 2] += motion[:, 2]
    back = np.linalg.inv(forward[seen - origin])
    faces = [track.faces[track.start + int(frame)] for frame in seen]
    parameters = eye_parameters(_all_moved(back, np.stack([face.eyes for face in faces])))
    weights = np.array([SEEN_WEIGHT[face.eyes_seen] for face in faces])
    if smoothing_seconds > 0:
        weights = weights * _inliers(parameters)
    times = np.array(seconds[here[0] : here[1]])
    of_seen = np.array([seconds[frame] for frame in seen])
    parameters = gaussian_smooth(parameters, of_seen, times, DETECTION_SECONDS * smoothing_seconds, weights)
    eyes = _all_moved(forward[here[0] - origin : here[1] - origin], eyes_of(parameters))
    wanted = np.array(seconds[first:last])
    return eyes_of(gaussian_smooth(eye_parameters(eyes), times, wanted, smoothing_seconds))


def _at(seconds, frames, time):
    """How many of the `frames` lie before `time`."""
    return bisect.bisect_left(frames, time, key=lambda frame: seconds[frame])


def _all_moved(matrices, points):
    """Points [N, 2, 2] after the matrices [N, 3, 3], each by its own."""
    return np.einsum("nij,npj->npi", matrices[:, :2, :2], points) + matrices[:, None, :2, 2]


def _inliers(parameters, window: int = 7) -> np.ndarray:
    """Weight [N] of each detection: near 0 where a parameter is far from the median of its neighbours in time."""
    n = len(parameters)
    if n < 5:
        return np.ones(n)
    # Relative to the distance of the eyes, so that all four parameters have one unit.
    unit = np.array([np.exp(np.median(parameters[:, 2]))] * 2 + [1, 1])
    values = parameters / unit
    reach = np.clip(np.arange(n)[:, None] + np.arange(-(window // 2), window // 2 + 1), 0, n - 1)
    away = np.abs(values - np.median(values[reach], axis=1))
    usual = 1.48 * np.median(away, axis=0) + 0.005
    # Without a step: a detection at the limit must not count in one block of frames and not in the next.
    return 1 / (1 + (away / (4 * usual)).max(1) ** 12)


def crop_matrices(eyes: np.ndarray, size: int, crop_scale: float) -> np.ndarray:
    """Similarities [T, 2, 3] from the frame's pixels to the crop's that map eyes [T, 2, 2] to their canonical places."""
    target = canonical_eyes(size, crop_scale)
    return np.stack([similarity(pair, target) for pair in eyes])


def crop_jitter(matrices: np.ndarray, size: int) -> float:
    """Unrest of the crop, in its pixels: root mean square of the second differences in time of its corners' places.

    A crop that stands still or glides has 0; white noise of standard deviation s in the places gives 2.4 s.
    """
    if len(matrices) < 3:
        return float("nan")
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], float)
    inverse = np.stack([cv2.invertAffineTransform(m) for m in matrices])
    places = np.einsum("tij,cj->tci", inverse[:, :, :2], corners) + inverse[:, None, :, 2]  # [T, 4, 2], frame pixels
    per_pixel = np.hypot(matrices[:, 0, 0], matrices[:, 1, 0])[1:-1]
    second = (places[2:] - 2 * places[1:-1] + places[:-2]) * per_pixel[:, None, None]
    return float(np.sqrt(np.mean(second**2)))

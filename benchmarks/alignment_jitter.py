"""How steady the crops are, beside crops aligned to the detected eyes of every frame without smoothing.

    python benchmarks/alignment_jitter.py --manifest clips.csv --yunet-model yunet.onnx [--frames 150]

The middle between the eyes is followed from crop to crop by optical flow of the upper face, which knows nothing of the detector
or of the smoothing. Jitter: the standard deviation of its step from frame to frame (pixels of the crop, x and y together), over
the near-still pairs: those between which the face, flow in the video's own frames says, moves by less than 1 % of the eyes'
distance. What is left there in any alignment is the noise of the flow.
"""

import argparse
import dataclasses
import itertools

import cv2
import numpy as np

from data_pipelines.faces.alignment import crop_matrices, track_eyes
from data_pipelines.faces.clip_faces import PrepareSettings, follow_faces
from data_pipelines.faces.identity import main_tracks
from data_pipelines.faces.video import Video
from data_pipelines.manifest import read_manifest

STILL = 0.01  # of the eyes' distance, from one frame to the next


class Beginning:
    """The first frames of a video."""

    def __init__(self, video, frames):
        self._video, self._frames = video, frames

    def passing_frames(self):
        return itertools.islice(self._video.passing_frames(), self._frames)


def eyes_by_frame(entry, settings, frames):
    """{frame: eyes [2, 2]} of the main person."""
    tracker, _, _ = follow_faces(Beginning(Video(entry.path), frames), settings)
    found = {}
    for track in main_tracks(tracker.finish()):
        eyes = track_eyes(track, settings.smoothing_seconds)
        found |= {track.start + i: pair for i, pair in enumerate(eyes)}
    return found


def step(before, after, region):
    """Median step [2] of corners in the region (x, y, width, height) from one grey image to the next; NaN where untold."""
    x, y, width, height = (int(v) for v in region)
    mask = np.zeros_like(before)
    mask[max(y, 0) : y + height, max(x, 0) : x + width] = 255
    points = cv2.goodFeaturesToTrack(before, 60, 0.01, 3, mask=mask)
    if points is None or len(points) < 8:
        return np.full(2, np.nan)
    moved, good, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=(13, 13), maxLevel=2)
    moved, points = moved[good[:, 0] > 0, 0], points[good[:, 0] > 0, 0]
    return np.median(moved - points, axis=0) if len(points) >= 8 else np.full(2, np.nan)


def clip_jitter(entry, ways, frames):
    """{way: jitter over the near-still pairs}, and how many pairs there are."""
    eyes = {name: eyes_by_frame(entry, settings, frames) for name, settings in ways.items()}
    matrices = {
        name: dict(zip(found, crop_matrices(np.array(list(found.values())), 112, 2.5))) for name, found in eyes.items() if found
    }
    if len(matrices) < len(ways):
        return {}, 0
    shared = set.intersection(*(set(m) for m in matrices.values()))
    steps, last = {name: [] for name in ways}, {}
    for number, (_, _, bgr) in enumerate(Beginning(Video(entry.path), frames).passing_frames()):
        if number not in shared:
            last = {}
            continue
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        here = eyes[next(iter(ways))][number]
        distance = np.linalg.norm(here[1] - here[0])
        crops = {}
        for name in ways:
            m = matrices[name][number]
            shrink = 1 / np.hypot(m[0, 0], m[1, 0])
            # A blur that fits the reduction: nothing flickers that lies between the pixels looked at.
            source = cv2.GaussianBlur(grey, (0, 0), 0.4 * shrink) if shrink > 1 else grey
            crops[name] = cv2.warpAffine(source, m, (112, 112), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if last:
            middle = here.mean(0)
            region = (*(middle - [1.0 * distance, 0.7 * distance]), 2 * distance, 1.2 * distance)
            if np.linalg.norm(step(last["frame"], grey, region)) < STILL * distance:
                for name in ways:
                    steps[name].append(step(last[name], crops[name], (12, 8, 88, 54)))
        last = crops | {"frame": grey}
    found = {name: np.array(of) for name, of in steps.items()}
    n = len(next(iter(found.values())))
    return ({name: float(np.sqrt(np.nanvar(of, axis=0).sum())) for name, of in found.items()} if n >= 10 else {}), n


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--yunet-model", default="")
    parser.add_argument("--frames", type=int, default=150, help="of each clip")
    arguments = parser.parse_args()
    smoothed = PrepareSettings(yunet_model=arguments.yunet_model)
    ways = {"smoothed": smoothed, "unsmoothed": dataclasses.replace(smoothed, smoothing_seconds=0.0, detect_every=1)}
    rows = []
    for entry in read_manifest(arguments.manifest):
        jitter, n = clip_jitter(entry, ways, arguments.frames)
        if jitter:
            rows.append((n, jitter))
            print(f"{entry.clip_id}: {n} near-still pairs, " + ", ".join(f"{k} {v:.3f}" for k, v in jitter.items()), flush=True)
    weights = [n for n, _ in rows]
    total = {name: np.sqrt(np.average([jitter[name] ** 2 for _, jitter in rows], weights=weights)) for name in ways}
    print(f"\n{len(rows)} clips, {sum(weights)} near-still pairs: " + ", ".join(f"{k} {v:.3f}" for k, v in total.items()))
    ratios = [jitter["smoothed"] / jitter["unsmoothed"] for _, jitter in rows]
    print(f"smoothed / unsmoothed {total['smoothed'] / total['unsmoothed']:.3f}; median of the clips {np.median(ratios):.3f}")


if __name__ == "__main__":
    main()

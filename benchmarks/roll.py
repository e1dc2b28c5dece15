"""How far the head leans in the crops that `prepare` cuts: clip by clip, with both detectors.

    python benchmarks/roll.py --manifest clips.csv people.csv --yunet-model yunet.onnx [--video tilt20.mp4] [--json out.json]

An independent estimate says how far the head leans in the video's own frames: YuNet's landmarks of the eyes at full size, the
mean of the frame and of its mirror image, because landmarks err to one side. What is left of it in the crop is that angle
minus the one by which the crop is turned. Printed for each clip and each detector, and for all frames together: the mean,
median and 95th percentile of the size of what is left, in degrees, and the share of frames with at most 3. Single frames of
the estimate err by a degree or two themselves, so the same is also printed for the mean over five frames (`steady`).

--mesh FOLDER: a second estimate, which benchmarks/roll_mesh.py wrote there. The same is then printed against that one, against
the mean of both, and for the frames in which the two are within 3 degrees of one another; and how often they are.
--half 0 or 1: only every second clip, to choose a setting on one half and to report the other.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib

import cv2
import numpy as np
import pandas as pd

from data_pipelines.dataset.clip_files import start_worker
from data_pipelines.faces.alignment import track_eyes
from data_pipelines.faces.clip_faces import PrepareSettings, make_tracker
from data_pipelines.faces.detection import overlap
from data_pipelines.faces.identity import main_tracks
from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry, read_manifest

DETECTORS = ("yunet", "haar")
LEVEL = 3.0  # degrees
STEADY = 5  # looks at the frames over which the estimate is averaged for the second figure


class Reference:
    """The independent estimate for frames of one size."""

    def __init__(self, yunet_model, shape):
        self._network = cv2.FaceDetectorYN.create(str(yunet_model), "", shape[1::-1], 0.5)
        self._width = shape[1]

    def faces(self, bgr):
        """[(box [4], how far the head leans, degrees)] of the faces seen both in the frame and in its mirror image."""
        straight, mirrored = (self._network.detect(image)[1] for image in (bgr, bgr[:, ::-1].copy()))
        found = []
        for one in [] if straight is None or mirrored is None else straight:
            boxes = mirrored[:, :4].copy()
            boxes[:, 0] = self._width - boxes[:, 0] - boxes[:, 2]
            other = mirrored[np.argmax([overlap(one[:4], box) for box in boxes])]
            if overlap(one[:4], boxes[np.argmax([overlap(one[:4], box) for box in boxes])]) > 0.5:
                (x0, y0), (x1, y1) = one[4:8].reshape(2, 2)
                (right, y2), (left, y3) = other[4:8].reshape(2, 2)
                # In the mirror the first eye is the second one's image.
                across, down = (x1 - x0) + (left - right), (y1 - y0) + (y2 - y3)
                found.append((one[:4], float(np.degrees(np.arctan2(down, across)))))
        return found


def reference_of(path, yunet_model, every):
    """{frame: [(box, degrees)]} of every so many frames; frames count in the order in which they come."""
    looked, network = {}, {}
    for number, (_, _, bgr) in enumerate(Video(path).passing_frames()):
        if number % every == 0:
            if bgr.shape not in network:
                network[bgr.shape] = Reference(yunet_model, bgr.shape)
            looked[number] = network[bgr.shape].faces(bgr)
    return looked


def followed(path, settings):
    """{frame: (eyes [2, 2])} of the main person's crops, as `prepare` cuts them."""
    tracker = make_tracker(settings)
    for number, seconds, bgr in Video(path).passing_frames():
        tracker.step(number, seconds, bgr)
    found = {}
    for track in main_tracks(tracker.finish()):
        found |= {track.start + i: pair for i, pair in enumerate(track_eyes(track, settings.smoothing_seconds))}
    return found


def left_over(eyes, reference):
    """Degrees that the head leans in the crop, [T], NaN where the estimate does not know it: in its frames that have crops."""
    left = []
    for frame, faces in reference.items():
        if frame not in eyes:
            continue
        (x0, y0), (x1, y1) = eyes[frame]
        middle, distance = eyes[frame].mean(0), np.hypot(x1 - x0, y1 - y0)
        inside = [
            degrees
            for (x, y, width, height), degrees in faces
            if x < middle[0] < x + width and y < middle[1] < y + height and width > distance
        ]
        turned = np.degrees(np.arctan2(y1 - y0, x1 - x0))
        left.append((inside[0] - turned + 180) % 360 - 180 if inside else np.nan)
    return np.array(left)


def mesh_of(folder, clip_id):
    """What benchmarks/roll_mesh.py wrote of a clip, as `reference_of` gives it."""
    stored = json.loads((pathlib.Path(folder) / f"{clip_id}.json").read_text())
    return {int(frame): [(np.array(face[:4]), face[4]) for face in faces] for frame, faces in stored.items()}


def estimates(eyes, reference, mesh):
    """{estimate: what is left [T]} by YuNet's landmarks, and by the mesh and both where that is known."""
    by_yunet = left_over(eyes, reference)
    if mesh is None:
        return {"yunet": by_yunet}
    by_mesh = left_over(eyes, mesh)
    agree = np.abs(by_yunet - by_mesh) <= LEVEL
    return {
        "yunet": by_yunet,
        "mesh": by_mesh,
        "mean of both": (by_yunet + by_mesh) / 2,
        "where both agree": np.where(agree, (by_yunet + by_mesh) / 2, np.nan),
        "one from the other": by_mesh - by_yunet,
    }


def steadied(left):
    """The running mean over STEADY neighbours; NaN where one of them is."""
    return np.convolve(left, np.full(STEADY, 1 / STEADY), "valid") if len(left) >= STEADY else np.array([left.mean()])


def figures(left):
    """{mean, p50, p95, level, known} of what is left."""
    known = left[np.isfinite(left)]
    if not len(known):
        return {"known": 0.0}
    size = np.abs(known)
    named = {"mean": known.mean(), "p50": np.median(size), "p95": np.percentile(size, 95), "level": np.mean(size <= LEVEL)}
    return {name: float(value) for name, value in named.items()} | {"known": len(known) / len(left)}


def measure_clip(entry, yunet_model, detectors, every, folder):
    """{detector: {estimate: what is left [T]}}."""
    reference = reference_of(entry.path, yunet_model, every)
    mesh, found = mesh_of(folder, entry.clip_id) if folder else None, {}
    for name in detectors:
        settings = PrepareSettings(detector=name, yunet_model=yunet_model)
        found[name] = estimates(followed(entry.path, settings), reference, mesh)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", nargs="*", default=[])
    parser.add_argument("--video", nargs="*", default=[], help="further files")
    parser.add_argument("--yunet-model", required=True)
    parser.add_argument("--detectors", nargs="+", default=DETECTORS)
    parser.add_argument("--every", type=int, default=3, help="the estimate is made for every so many frames")
    parser.add_argument("--mesh", default="", help="a folder that benchmarks/roll_mesh.py wrote")
    parser.add_argument("--half", type=int, choices=(0, 1))
    parser.add_argument("--json", default="")
    arguments = parser.parse_args()
    entries = [entry for manifest in arguments.manifest for entry in read_manifest(manifest)]
    entries += [ClipEntry(pathlib.Path(path).stem, "p", pathlib.Path(path)) for path in arguments.video]
    entries = entries if arguments.half is None else entries[arguments.half :: 2]
    n, rows, joined = len(entries), [], {}
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0)), initializer=start_worker) as pool:
        more = arguments.yunet_model, arguments.detectors, arguments.every, arguments.mesh
        for entry, found in zip(entries, pool.map(measure_clip, entries, *([one] * n for one in more))):
            for name, by_estimate in found.items():
                for estimate, left in by_estimate.items():
                    rows.append({"clip_id": entry.clip_id, "detector": name, "by": estimate, **figures(left)})
                    joined.setdefault((name, estimate), []).append(left)
    for (name, estimate), parts in joined.items():
        every = {"ALL": parts, "ALL, steady": [steadied(part) for part in parts]}
        rows += [{"clip_id": what, "detector": name, "by": estimate, **figures(np.concatenate(p))} for what, p in every.items()]
    with pd.option_context("display.width", 200, "display.max_rows", None):
        print(pd.DataFrame(rows).round(3).to_string(index=False))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

"""How often each detector finds the main face in real clips, and how well the Haar cascades agree with YuNet.

    python benchmarks/face_detection.py --manifest clips.csv --yunet-model yunet.onnx [--json out.json] [--every 1]

Per clip and in total: `direct` = both detectors look at the whole of every frame; `pipeline` = what `prepare` does, a
detection every fifth frame and the face followed in between. IoU compares the boxes as the detectors give them: Haar's is a
square from the brows to the chin, YuNet's a rectangle from the forehead to the chin, so two perfect boxes reach about 0.7.
The main face is the largest one. Jitter: `alignment.crop_jitter` of the crops that `prepare` would cut, in their pixels.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import time

import cv2
import numpy as np
import pandas as pd

from data_pipelines.dataset.clip_files import start_worker
from data_pipelines.faces.alignment import crop_jitter, crop_matrices, track_eyes
from data_pipelines.faces.clip_faces import PrepareSettings, follow_faces
from data_pipelines.faces.detection import make_detector, overlap
from data_pipelines.faces.identity import main_tracks
from data_pipelines.faces.tracking import moved_face
from data_pipelines.faces.video import Video
from data_pipelines.manifest import read_manifest

DETECTORS = ("yunet", "haar")


def measure_clip(entry, yunet_model, every):
    """One row: counts of frames, seconds spent, jitter."""
    row = {"clip_id": entry.clip_id, "direct_frames": 0, "direct_iou_ok": 0, "direct_iou_sum": 0.0, "direct_both": 0}
    detectors = {name: make_detector(name, yunet_model) for name in DETECTORS}
    row |= {f"direct_{name}{what}": 0 for name in DETECTORS for what in ("", "_seconds")}
    for number, (_, _, image) in enumerate(Video(entry.path).passing_frames()):
        if number % every == 0:
            boxes = {}
            for name, detector in detectors.items():
                start = time.perf_counter()
                faces = detector.detect(image)
                row[f"direct_{name}_seconds"] += time.perf_counter() - start
                if faces:
                    boxes[name] = max(faces, key=lambda face: face.box[2] * face.box[3]).box
                    row[f"direct_{name}"] += 1
            row["direct_frames"] += 1
            if len(boxes) == 2:
                iou = overlap(boxes["haar"], boxes["yunet"])
                row["direct_both"] += 1
                row["direct_iou_ok"] += iou >= 0.5
                row["direct_iou_sum"] += iou
    tracked = {}
    for name in DETECTORS:
        settings = PrepareSettings(detector=name, yunet_model=yunet_model)
        start = time.perf_counter()
        tracker, numbers, _ = follow_faces(Video(entry.path), settings)
        tracks = main_tracks(tracker.finish())
        row[f"pipeline_{name}_seconds"] = time.perf_counter() - start
        tracked[name] = {k: box for track in tracks for k, box in track_boxes(track).items()}
        row["pipeline_frames"], row[f"pipeline_{name}"] = len(numbers), len(tracked[name])
        eyes = [track_eyes(track, settings.smoothing_seconds) for track in tracks]
        jitters = [crop_jitter(crop_matrices(e, settings.image_size, settings.crop_scale), settings.image_size) for e in eyes]
        row[f"jitter_{name}"] = float(np.nanmean(jitters)) if jitters else np.nan
    ious = [overlap(box, tracked["yunet"][k]) for k, box in tracked["haar"].items() if k in tracked["yunet"]]
    row |= {
        "pipeline_both": len(ious),
        "pipeline_iou_ok": sum(iou >= 0.5 for iou in ious),
        "pipeline_iou_sum": float(sum(ious)),
    }
    return row


def track_boxes(track):
    """{frame: box}: the detected one, or the last detected one carried on by the flow."""
    boxes, here = {}, None
    for i in range(len(track.seconds)):
        if i:
            here = moved_face(track.motions[i - 1], here)
        here = track.faces.get(track.start + i, here)
        boxes[track.start + i] = here.box
    return boxes


def shares(rows):
    """The table that is printed, from rows of counts."""
    table = pd.DataFrame({"clip_id": rows.clip_id, "frames": rows.pipeline_frames})
    for way in ("direct", "pipeline"):
        for name in DETECTORS:
            table[f"{way}_{name}"] = rows[f"{way}_{name}"] / rows[f"{way}_frames"]
        table[f"{way}_haar_iou"] = rows[f"{way}_iou_ok"] / rows[f"{way}_frames"]
        table[f"{way}_mean_iou"] = rows[f"{way}_iou_sum"] / rows[f"{way}_both"]
        for name in DETECTORS:
            table[f"{way}_{name}_ms"] = 1e3 * rows[f"{way}_{name}_seconds"] / rows[f"{way}_frames"]
    for name in DETECTORS:
        table[f"jitter_{name}"] = rows[f"jitter_{name}"]
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--yunet-model", required=True)
    parser.add_argument("--every", type=int, default=1, help="direct detection in every n-th frame only")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", default="")
    arguments = parser.parse_args()
    entries = read_manifest(arguments.manifest)
    with concurrent.futures.ProcessPoolExecutor(arguments.workers, initializer=start_worker) as pool:
        n = len(entries)
        rows = pd.DataFrame(pool.map(measure_clip, entries, [arguments.yunet_model] * n, [arguments.every] * n))
    total = rows.drop(columns=["clip_id", "jitter_yunet", "jitter_haar"]).sum()
    total = pd.DataFrame(
        [dict(total) | {"clip_id": "TOTAL"} | {f"jitter_{name}": rows[f"jitter_{name}"].mean() for name in DETECTORS}]
    )
    table = shares(pd.concat([rows, total], ignore_index=True))
    with pd.option_context("display.width", 300, "display.max_columns", 40):
        print(table.round(3).to_string(index=False))
    print(f"OpenCV {cv2.__version__}; *_haar_iou: share of all frames in which Haar's box overlaps YuNet's with IoU >= 0.5.")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"settings": dataclasses.asdict(PrepareSettings()), "rows": table.to_dict("records")}, file, indent=1)


if __name__ == "__main__":
    main()

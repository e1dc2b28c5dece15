"""A face that everybody shares: what preparing it costs beside the face as filmed, and a sheet of pictures to look at.

    python benchmarks/shared_face.py --manifest CLIPS.csv --yunet-model YUNET.onnx [--clips ID ...] [--sheet SHEET.png]
        [--minutes 1 4]

Seconds are those of the processor, so that what else runs beside does not count. `--minutes` prepares the first clip to and fro
for so long at 1280 x 720, and says how much memory that took at most.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from data_pipelines.faces import shared_face
from data_pipelines.faces.clip_faces import PrepareSettings, process_clip
from data_pipelines.faces.images import decode_image
from data_pipelines.manifest import ClipEntry, read_manifest

CHANNELS = {"own": 1, "canonical": 1, "motion": 2}
COLUMNS = 9  # pictures of a clip on the sheet


def prepared(entry, appearance, yunet_model, keep):
    """(ClipFaces, seconds of the processor a decoded frame) of a clip at 64 pixels."""
    settings = PrepareSettings(image_size=64, channels=CHANNELS[appearance], appearance=appearance, yunet_model=yunet_model)
    started = time.process_time()
    faces = process_clip(entry, settings, keep)
    return faces, (time.process_time() - started) / max(faces.row.n_decoded, 1)


def strip(faces, kept, appearance) -> np.ndarray:
    """Some pictures of a clip side by side, RGB, evenly spaced over its frames."""
    last = faces.frame_indices[-1]
    chosen = [int(np.abs(faces.frame_indices - at).argmin()) for at in np.linspace(0, last, COLUMNS)]
    pictures = []
    for i in chosen:
        picture = decode_image(kept[faces.positions[i]], CHANNELS[appearance])
        picture = shared_face.as_colours(picture) if appearance == "motion" else np.repeat(picture, 3, -1)
        pictures.append(cv2.resize(picture, (128, 128), interpolation=cv2.INTER_CUBIC))
    return np.hstack(pictures)


def peak_mib(entry, appearance, yunet_model, minutes) -> float:
    """Peak memory, MiB, of a process of its own that prepares the clip played to and fro for so long."""
    from prepare import long_video

    with tempfile.TemporaryDirectory() as folder:
        long = long_video(entry, pathlib.Path(folder) / "long.mp4", minutes, (1280, 720))
        command = [sys.executable, __file__, "--alone", str(long.path), appearance, str(yunet_model)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def alone(path, appearance, yunet_model) -> None:
    """Prepares one file and prints the peak memory of this process."""
    cv2.setNumThreads(1)
    faces, _ = prepared(ClipEntry("long", "person", pathlib.Path(path)), appearance, yunet_model, lambda image: None)
    print(faces.row.n_kept, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    if sys.argv[1:2] == ["--alone"]:
        alone(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=pathlib.Path, required=True)
    parser.add_argument("--yunet-model", required=True)
    parser.add_argument("--clips", nargs="*", default=[])
    parser.add_argument("--sheet", type=pathlib.Path)
    parser.add_argument("--minutes", nargs="*", type=float, default=[])
    args = parser.parse_args()
    cv2.setNumThreads(1)
    entries = [entry for entry in read_manifest(args.manifest) if not args.clips or entry.clip_id in args.clips]
    costs, strips = {appearance: [] for appearance in CHANNELS}, []
    for entry in entries:
        for appearance in CHANNELS:
            kept = []
            faces, seconds = prepared(entry, appearance, args.yunet_model, kept.append)
            costs[appearance].append(seconds)
            row = faces.row
            print(
                f"{entry.clip_id} {appearance}: {1000 * seconds:.1f} ms a frame, {row.n_kept} of {row.n_found} kept,", end=" "
            )
            print(f"{row.n_hidden} hidden, beyond the range {row.beyond_range:.4f} {row.reason}")
            strips.append(strip(faces, kept, appearance))
    for appearance, seconds in costs.items():
        ratio = np.mean(seconds) / np.mean(costs["own"])
        print(f"{appearance}: {1000 * np.mean(seconds):.1f} ms of a core a frame, {ratio:.1f} times the face as filmed")
    if args.sheet:
        cv2.imwrite(str(args.sheet), np.vstack(strips)[..., ::-1])
    for minutes in args.minutes:
        for appearance in ("own", "canonical"):
            peak = peak_mib(entries[0], appearance, args.yunet_model, minutes)
            print(f"{minutes:g} minutes of 720p, {appearance}: {peak:.0f} MiB")


if __name__ == "__main__":
    main()

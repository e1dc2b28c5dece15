"""Do windows cross a cut, a jump cut or a cross-fade, and do shots end where none is?

    python benchmarks/shot_borders.py --manifest people.csv [--yunet-model yunet.onnx] [--clips 20] [--seed 0]

Joins random clips of the manifest, two or three each: cut together, faded into each other over 8 to 30 frames (`fade`), over 1
to 5 (`short`) or over 50 (`slow`), faded into black and out of it over 12 frames each (`dip`), or one clip from which time was
taken out (`jump`). Each becomes a small video, which is prepared. Printed: in how many of them a window crosses a border,
in how many more than one person was kept, or a frame that shows two pictures, and how many borders are told in the unchanged
clips, where each is a false alarm unless the clip itself has a cut.
"""

import argparse
import pathlib
import tempfile
import unittest.mock

import av
import cv2
import numpy as np

from data_pipelines.dataset.windows import centre_positions
from data_pipelines.faces import clip_faces
from data_pipelines.faces.clip_faces import PrepareSettings, numbered_apart
from data_pipelines.faces.cuts import CutDetector
from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry, read_manifest

SIZE = 360, 288
WAYS = ("cut", "fade", "jump", "short", "slow", "dip")
FADES = {"fade": (8, 30), "short": (1, 5), "slow": (50, 50)}  # frames, at least and at most
DIP = 12  # frames into black, and as many out of it


def frames_of(entry, most=75):
    """Up to `most` frames of a clip, all of one size."""
    frames = []
    for _, _, image in Video(entry.path):
        factor = max(SIZE[0] / image.shape[1], SIZE[1] / image.shape[0])
        size = round(np.ceil(image.shape[1] * factor)), round(np.ceil(image.shape[0] * factor))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        x, y = (size[0] - SIZE[0]) // 2, (size[1] - SIZE[1]) // 4
        frames.append(image[y : y + SIZE[1], x : x + SIZE[0]])
        if len(frames) == most:
            break
    return frames


def joined(way, clips, random):
    """(frames, the first frames of new shots, person of each frame; '' where two fade into each other)."""
    if way == "jump":
        (person, frames), *_ = clips
        at, out = len(frames) // 3, len(frames) // 3
        return frames[:at] + frames[at + out :], [at], [person] * (len(frames) - out)
    frames, borders, people = [], [], []
    for number, (person, more) in enumerate(clips):
        if way == "dip":
            more = dimmed(more, number > 0, number < len(clips) - 1)
        low, high = FADES.get(way, (0, 0))
        mixed = min(int(random.integers(low, high + 1)), len(more) - 12) if frames else 0
        if frames:
            borders.append(len(frames) - mixed // 2)
        for i in range(mixed):
            part = (i + 1) / (mixed + 1)
            frames[i - mixed] = cv2.addWeighted(frames[i - mixed], 1 - part, more[i], part, 0)
            people[i - mixed] = ""
        shown = [person] * (len(more) - mixed)
        if way == "dip":  # what is dimmed to less than 0.83 was not filmed so
            shown[: (DIP - 2) * (number > 0)] = [""] * ((DIP - 2) * (number > 0))
            shown[len(shown) - (DIP - 2) * (number < len(clips) - 1) :] = [""] * ((DIP - 2) * (number < len(clips) - 1))
        frames, people = frames + more[mixed:], people + shown
    return frames, borders, people


def dimmed(frames, at_start, at_end):
    """The frames of a clip that comes out of black, or goes into it."""
    share = np.ones(len(frames))
    if at_start:
        share[:DIP] = np.arange(DIP) / DIP
    if at_end:
        share[len(share) - DIP :] = 1 - (np.arange(DIP) + 1) / DIP
    return [np.uint8(frame * part) for frame, part in zip(frames, share)]


def write(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE, "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())


def crossings(numbers, frames, borders):
    """Windows of scale 1 and half-length 4 that cross a border; `frames`: the video's frames at the `numbers`."""
    centres = centre_positions(numbers, 1, 4)
    first, last = frames[centres - 4], frames[centres + 4]
    return sum(int(((first < border) & (last >= border)).sum()) for border in borders)


def prepared(path, settings):
    """(the clip's row, kept numbers [T], the video's frame of each [T]): the numbers themselves are raised at borders."""
    segments = []

    def kept(found):
        segments.extend(found)
        return numbered_apart(found)

    with unittest.mock.patch.object(clip_faces, "numbered_apart", kept):
        faces = clip_faces.process_clip(ClipEntry("joined", "p", path), settings, lambda image: None)
    return (
        faces.row,
        faces.frame_indices,
        np.array([frame for segment in segments for frame in segment])[: len(faces.frame_indices)],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--yunet-model", default="")
    parser.add_argument("--clips", type=int, default=20, help="of each kind")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--unchanged", type=int, default=1, help="only every n-th of the unchanged clips")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    entries, random = read_manifest(arguments.manifest), np.random.default_rng(arguments.seed)
    settings = PrepareSettings(yunet_model=arguments.yunet_model)
    for way in arguments.ways.split(","):
        crossed = windows = mixed = faded = told = 0
        for _ in range(arguments.clips):
            chosen = random.choice(len(entries), 1 if way == "jump" else int(random.integers(2, 4)), replace=False)
            chosen = chosen[:2] if way == "slow" else chosen  # the middle one of three would be in two fades at once
            frames, borders, people = joined(way, [(entries[i].person_id, frames_of(entries[i])) for i in chosen], random)
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "joined.mp4"
                write(path, frames)
                row, numbers, at = prepared(path, settings)
            n_windows = crossings(numbers, at, borders) if len(numbers) else 0
            crossed, windows = crossed + (n_windows > 0), windows + n_windows
            shown = {people[min(frame, len(people) - 1)] for frame in at}
            mixed, faded = mixed + (len(shown - {""}) > 1), faded + ("" in shown)
            told += "abruptly" in row.reason
        crossing = f"{windows} windows cross a border, in {crossed} of them"
        wrong = f"two people in {mixed}, frames of two pictures in {faded}"
        print(f"{way}: {arguments.clips} videos, {crossing}, {wrong}, told in {told}", flush=True)
    alarms = {entry.clip_id: 0 for entry in entries[:: arguments.unchanged]}
    for entry in entries[:: arguments.unchanged]:
        detector = CutDetector()
        alarms[entry.clip_id] = sum(detector.step(image) is not None for _, _, image in Video(entry.path).passing_frames())
    print(f"borders told in {len(alarms)} unchanged clips:", {name: n for name, n in alarms.items() if n} or "none")


if __name__ == "__main__":
    main()

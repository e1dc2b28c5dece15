"""Who is who among the tracks of a clip: broken tracks of one person are joined, another person's never are.

A track is described by what its aligned face looks like: by OpenCV's SFace network where its ONNX file is given, else by
edges of the inner face, which tell people apart within one video but not across cameras and years.
"""

import dataclasses
import pathlib

import cv2
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces.tracking import Track, by_chance, similarity

SIDE = 112  # of the aligned face, pixels
EYES = np.array([[38.29, 51.6], [73.53, 51.6]])  # where SFace was taught to expect the eyes in it
DESCRIBED_EVERY = 5  # frames of a track
HIDDEN_SECONDS = 3.0  # who was hidden for no longer is expected back at the same place


class Appearance:
    """Edges of the inner face, its light evened out.

    `same`: two tracks of a likeness (cosine) of at least that are one person. Among 121 clips of 40 people (halves of one
    clip against clips of different people) no two people reached 0.80 and 98 % of the halves did; of tracks of two
    descriptions 91 % did. `same_in_place`: enough where the face was only hidden. `another`: means of up to ten descriptions
    of one track that are less alike are of two people: 98.8 % of pairs of people are, and some heads that turn far
    (benchmarks/RESULTS.md).
    """

    same, same_in_place, another = 0.80, 0.74, 0.74

    def __init__(self):
        self._edges = cv2.HOGDescriptor((64, 64), (16, 16), (8, 8), (8, 8), 9)

    def describe(self, bgr: np.ndarray) -> np.ndarray:
        """A vector of length 1 from an aligned face, BGR uint8 [SIDE, SIDE, 3]."""
        grey = cv2.cvtColor(cv2.resize(bgr, (64, 64), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        edges = np.asarray(self._edges.compute(cv2.equalizeHist(grey))).ravel()
        edges = edges - edges.mean()
        return edges / (np.linalg.norm(edges) + 1e-6)


class SFace:
    """OpenCV's face recognition network, from the path of its ONNX file."""

    same, same_in_place, another = 0.363, 0.2, 0.363  # the first is OpenCV's own threshold of the cosine

    def __init__(self, model_path):
        if not pathlib.Path(model_path).is_file():
            raise InputError(f"There is no SFace model at {model_path}; config.data.sface_model must name its ONNX file.")
        try:
            self._network = cv2.FaceRecognizerSF.create(str(model_path), "")
        except cv2.error as error:
            raise InputError(f"The file {model_path} cannot be loaded as an SFace model; download it again.") from error

    def describe(self, bgr: np.ndarray) -> np.ndarray:
        """A vector of length 1 from an aligned face, BGR uint8 [SIDE, SIDE, 3]."""
        vector = np.asarray(self._network.feature(bgr), np.float64).ravel()
        return vector / (np.linalg.norm(vector) + 1e-9)


def make_describer(sface_model: str = ""):
    """The SFace of that file, or Appearance where none is named."""
    return SFace(sface_model) if sface_model else Appearance()


def aligning(eyes: np.ndarray) -> np.ndarray:
    """The similarity [2, 3] that puts eyes [2, 2] where `describe` wants them."""
    return similarity(eyes, EYES)


@dataclasses.dataclass
class Person:
    """Tracks of one person, disjoint in time, by start; weight: visible area of the face x frames; vector: its looks."""

    tracks: list[Track]
    weight: float
    vector: np.ndarray | None

    @property
    def n_frames(self) -> int:
        return sum(len(track.seconds) for track in self.tracks)


def track_weight(track: Track) -> float:
    """Area of the face, pixels, x frames."""
    boxes = np.array([face.box for face in track.faces.values()])
    return float(np.median(boxes[:, 2]) ** 2 * len(track.seconds))


def people(tracks, vectors, describer, which: str = "auto") -> list[Person]:
    """The people of a clip, the one with most visible area x time first.

    vectors: {track: vector or None}, the sum of what `describer` said of it. `which` = 'left' or 'right': only faces whose
    middle lies in that half of the frame. Tracks `by_chance` never count.

    A track joins the person it is most similar to, if similar enough and never seen together with it. Where the face was only
    hidden for some seconds, in the same shot, and comes back at the same place, less likeness is enough.
    """
    tracks = [track for track in tracks if not by_chance(track) and _in_half(track, which)]
    found = []
    for track in sorted(tracks, key=track_weight, reverse=True):
        _join(found, Person([track], track_weight(track), vectors.get(track)), describer)
    merged = True
    while merged:  # what was apart while either was little known
        merged = False
        for person in sorted(found, key=lambda person: person.weight):
            others = [other for other in found if other is not person]
            if _join(others, person, describer, only_join=True):
                found, merged = others, True
                break
    return sorted(found, key=lambda person: -person.weight)


def main_tracks(tracks) -> list[Track]:
    """The heaviest track and those that do not overlap it, by start: the main person where a clip shows one person only."""
    chosen = []
    for track in sorted((t for t in tracks if not by_chance(t)), key=track_weight, reverse=True):
        if all(track.newest < other.start or track.start > other.newest for other in chosen):
            chosen.append(track)
    return sorted(chosen, key=lambda track: track.start)


def _join(found, person, describer, only_join=False):
    """Adds the person to the one of `found` it is; else appends it. Says whether it was joined."""
    best, margin = None, 0.0
    for other in found:
        if any(a.start <= b.newest and b.start <= a.newest for a in other.tracks for b in person.tracks):
            continue
        needed = describer.same_in_place if _in_place(other, person) else describer.same
        likeness = _likeness(other, person)
        if likeness >= needed and (best is None or likeness - needed > margin):
            best, margin = other, likeness - needed
    if best is None:
        if not only_join:
            found.append(person)
        return False
    if best.vector is not None and person.vector is not None:
        best.vector = (best.weight * best.vector + person.weight * person.vector) / (best.weight + person.weight)
    best.tracks = sorted(best.tracks + person.tracks, key=lambda track: track.start)
    best.weight += person.weight
    return True


def _likeness(one, other):
    """Cosine of what two people look like, -1 to 1; -1 where one was not described."""
    if one.vector is None or other.vector is None:
        return -1.0
    return float(one.vector @ other.vector / (np.linalg.norm(one.vector) * np.linalg.norm(other.vector) + 1e-9))


def _in_place(one, two):
    """Whether two people's tracks follow one another in one shot, soon and at the same place."""
    for a in one.tracks:
        for b in two.tracks:
            first, then = (a, b) if a.start < b.start else (b, a)
            if first.shot == then.shot and then.seconds[0] - first.seconds[-1] < HIDDEN_SECONDS:
                before, after = first.faces[max(first.faces)].box, then.faces[min(then.faces)].box
                apart = np.abs(before[:2] + before[2:] / 2 - after[:2] - after[2:] / 2).max()
                if apart < 0.75 * before[2] and 0.67 < before[2] / after[2] < 1.5:
                    return True
    return False


def _in_half(track, which):
    if which == "auto":
        return True
    x = np.median([face.middle[0] for face in track.faces.values()]) / track.shape[1]
    return (x <= 0.5) == (which == "left")

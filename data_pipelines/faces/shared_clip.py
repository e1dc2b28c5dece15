"""The second pass over a clip's crops, where everybody is to have one face: see `shared_face`.

The reference frame must be known before the first picture is made, so the crops of the first pass wait in a temporary file;
memory does not grow with the length of the clip.
"""

import dataclasses
import tempfile
import zlib

import cv2
import numpy as np

from data_pipelines.faces import reasons, shared_face
from data_pipelines.faces.appearances import CANONICAL
from data_pipelines.faces.images import decode_image, encode_image
from data_pipelines.faces.landmark_face import LandmarkFace, deviations
from data_pipelines.picks import picks

SAID_ABOVE = 0.05  # a clip of which more frames are left out for hidden faces has a note that says so
# To be raised with every change of the code that changes such pictures: clips of an older number are done again.
VERSION = 1


class Waiting:
    """Encoded crops in a temporary file, in the order in which `keep` got them; a context manager."""

    def __init__(self, folder=None):
        """folder: where the file lies, for as long as the clip is processed; None = the system's temporary folder."""
        self._file, self._ends = tempfile.TemporaryFile(dir=folder, prefix="crops-"), [0]  # noqa: SIM115

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()

    def keep(self, encoded: bytes) -> None:
        """Adds a crop, grey, as `encode_image` made it."""
        packed = zlib.compress(encoded, 1)  # our PNGs are not deflated
        self._file.write(packed)
        self._ends.append(self._ends[-1] + len(packed))

    def crop(self, i: int) -> np.ndarray:
        """Crop i, uint8 [H, H]."""
        self._file.seek(self._ends[i])
        return decode_image(zlib.decompress(self._file.read(self._ends[i + 1] - self._ends[i])), 1)[..., 0]


def first_pass(settings):
    """The settings by which the crops are cut out that flow is computed on: grey, and large enough."""
    side = max(settings.image_size, shared_face.FLOW_SIDE)
    return dataclasses.replace(
        settings,
        image_size=side,
        channels=1,
        image_format="png",
        # In pixels of the crop that is asked for.
        max_enlargement=settings.max_enlargement * side / settings.image_size,
    )


def shared(faces, crops: Waiting, settings, keep):
    """The ClipFaces of the second pass, whose images are handed on to `keep`.

    faces: of the first pass; crops: its images. Frames of whose face too much is hidden are left out, and counted in the row.
    """
    first = first_pass(settings)
    scale = settings.image_size / first.image_size
    row = dataclasses.replace(faces.row, jitter=faces.row.jitter * scale)
    if not len(faces.positions):
        return dataclasses.replace(faces, row=row)
    picture, towards = _picture(first, settings)
    reference, flow = _reference(faces.positions, crops, settings.crop_scale), shared_face.make_flow()
    window = shared_face.face_window(first.image_size, settings.crop_scale)
    used, beyond = [], []
    for i, position in enumerate(faces.positions):
        displacement, hidden = shared_face.motion_of(reference, crops.crop(position), flow, window, towards)
        if hidden <= shared_face.HIDDEN_ABOVE:
            image, share = picture(displacement, settings.image_size)
            keep(encode_image(image, settings.image_format))
            used.append(i)
            beyond.append(share)
    row = dataclasses.replace(
        row, n_hidden=len(faces.positions) - len(used), beyond_range=float(np.mean(beyond)) if used else np.nan
    )
    if row.n_hidden > SAID_ABOVE * len(faces.positions):
        row = dataclasses.replace(row, reason=reasons.joined(row.reason, _of_hidden(row, len(faces.positions))))
    positions = np.arange(len(used), dtype=np.int32)
    return dataclasses.replace(faces, row=row, frame_indices=faces.frame_indices[used], positions=positions)


def draw(points: np.ndarray, of_frames, settings, keep) -> None:
    """Hands on the pictures of the frames `of_frames`, which are among those of a clip's landmarks [T, N, 2].

    Raises InputError for a number N that no known markup has.
    """
    first = first_pass(settings)
    face = LandmarkFace(points.shape[1], first.image_size, settings.crop_scale)
    picture, towards = _picture(first, settings)
    of_all = deviations(points)
    for frame in of_frames:
        image, _ = picture(face.displacement(of_all[frame], towards), settings.image_size)
        keep(encode_image(image, settings.image_format))


def _picture(first, settings):
    """((displacement, size) -> (picture, share of its numbers out of range), the way that the displacement must be told)."""
    return (_canonical(first, settings), "reference") if settings.appearance == CANONICAL else (shared_face.coded, "frame")


def _of_hidden(row, n):
    return (
        f"{row.n_hidden} of {n} frames with the face were left out: over {shared_face.HIDDEN_ABOVE:.0%} of it is hidden there, "
        "or cannot be followed"
    )


def _reference(positions, crops, crop_scale):
    """The reference frame, uint8 [H, H]: of as many frames as memory may hold, evenly spaced."""
    sample = np.stack([crops.crop(positions[i]) for i in picks(len(positions), shared_face.SAMPLE)])
    return sample[shared_face.choose_reference(sample, crop_scale)]


def _canonical(first, settings):
    """(displacement, size) -> (the moved face uint8 [size, size, C], NaN)."""
    face = shared_face.shared_face(first.image_size, settings.crop_scale, settings.channels)

    def picture(displacement, size):
        moved = shared_face.carried_over(face, displacement)
        if size != len(moved):
            moved = cv2.resize(moved, (size, size), interpolation=cv2.INTER_AREA).reshape(size, size, -1)
        return moved, np.nan

    return picture

"""The face that everybody shares, moved by a clip's landmarks: no pixel of the video, and no shape of the face, is in it.

Of every frame's landmarks the head's place, size and roll are taken out (`landmarks.without_similarity`). How far they are then
from where they usually are in the clip is put on the shared face, at the places that landmarks have in a mean face; between
them it is interpolated, triangle by triangle (a piecewise affine warp, as in T. Cootes, G. Edwards and C. Taylor, "Active
appearance models", PAMI 2001). mean_face.npz: MediaPipe's mesh of eleven speakers of the GRID corpus
(M. Cooke et al., JASA 2006, CC BY 4.0), their mean, in units of the eyes' distance around the eyes' middle.
"""

import functools
import pathlib

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces import shared_face
from data_pipelines.faces.alignment import EYE_LINE
from data_pipelines.faces.landmarks import without_similarity

MEAN_FACE = pathlib.Path(__file__).with_name("mean_face.npz")
MESH, WITH_IRISES = 468, 478
# The points of MediaPipe's mesh that lie where the 68 of iBUG's markup do (C. Sagonas et al., ICCV workshops 2013).
OF_68 = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)  # jaw
OF_68 += (71, 63, 105, 66, 107, 336, 296, 334, 293, 301)  # brows
OF_68 += (168, 197, 5, 4, 75, 97, 2, 326, 305)  # nose
OF_68 += (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)  # eyes
OF_68 += (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87)  # lips
# Corners of the eyes by the number of points: first the eye that is left in the image.
CORNERS = {68: ((36, 39), (42, 45)), MESH: ((33, 133), (362, 263))}
CORNERS[WITH_IRISES] = CORNERS[MESH]
NOSE, SHORTER = 0.66, 0.8  # below the tip of its nose the shared face is shorter than the mean face
STILL_POINTS = 12  # around the crop
BACKWARDS = 4  # steps of the fixed point that turns a displacement round


def mean_face(n: int) -> np.ndarray:
    """Where n landmarks lie in a mean face: float64 [n, 2], x to the right, y down, of the eyes' distance, around their middle.

    Raises InputError for a number of landmarks that no known markup has.
    """
    if n not in CORNERS:
        raise InputError(f"Files of {n} landmarks cannot move the shared face; it takes those of 68, {MESH} or {WITH_IRISES}.")
    with np.load(MEAN_FACE) as file:
        points = np.asarray(file["points"], np.float64)
    return points[list(OF_68)] if n == 68 else points[:n]


def deviations(points: np.ndarray) -> np.ndarray:
    """How far landmarks [T, N, 2] are from where they usually are in the clip: float64 [T, N, 2], of the eyes' distance.

    Raises InputError where both eyes lie in one place.
    """
    shapes = without_similarity(points)
    usual = np.median(shapes, 0)
    left, right = (usual[list(corners)].mean(0) for corners in CORNERS[points.shape[1]])
    across = right - left
    distance = np.hypot(*across)
    if not distance > 0:
        raise InputError("Its landmarks are of no face: both eyes lie in one place.")
    cos, sin = across / distance
    upright = np.array([[cos, -sin], [sin, cos]])  # the line through the eyes becomes the x axis
    return (shapes - usual) @ upright / distance


class LandmarkFace:
    """Displacements of the shared face in an aligned crop of `side` pixels, from the deviations of N landmarks."""

    def __init__(self, n: int, side: int, crop_scale: float):
        """Raises InputError as `mean_face`."""
        self._eyes = side / crop_scale  # their distance, pixels
        self._corners, self._shares = _triangles(n, side, crop_scale)
        self._window = shared_face.face_window(side, crop_scale)[..., None]

    def displacement(self, deviation: np.ndarray, towards: str) -> np.ndarray:
        """Of a frame's deviation [N, 2]: float32 [side, side, 2], as `shared_face.motion_of` gives it, 0 around the face.

        towards: 'frame': where each place of the face at rest went; 'reference': where each place of the moved face came from.
        """
        of_points = np.concatenate([deviation * self._eyes, np.zeros((STILL_POINTS, 2))])
        went = np.einsum("hwk,hwkc->hwc", self._shares, of_points[self._corners]).astype(np.float32) * self._window
        if towards == "frame":
            return went
        came = -went
        for _ in range(BACKWARDS):  # what is at x came from x + came, which went away by -came
            came = -shared_face.sampled(went, came)
        return came


@functools.lru_cache(maxsize=4)
def _triangles(n, side, crop_scale):
    """(numbers [side, side, 3] of the points around each pixel, their shares [side, side, 3]) by a Delaunay triangulation.

    The points are the n landmarks and, behind them, STILL_POINTS.
    """
    from scipy.spatial import Delaunay  # imported late: few worker processes need it

    triangles = Delaunay(np.concatenate([_places(n, side, crop_scale), _still_points(side)]))
    y, x = np.mgrid[:side, :side]
    at = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    # A pixel on the outline may lie outside by rounding: it belongs to the nearest triangle's corner, which is still.
    inside = triangles.find_simplex(at, tol=1e-6)
    found = np.maximum(inside, 0)
    to_shares = triangles.transform[found]
    two = np.einsum("nij,nj->ni", to_shares[:, :2], at - to_shares[:, 2])
    shares = np.concatenate([two, 1 - two.sum(1, keepdims=True)], 1) * (inside >= 0)[:, None]
    return triangles.simplices[found].reshape(side, side, 3), shares.reshape(side, side, 3).astype(np.float32)


def _places(n, side, crop_scale):
    """Of the n landmarks on the shared face in the crop, [n, 2], pixels."""
    points = mean_face(n)
    points[:, 1] -= (1 - SHORTER) * np.maximum(points[:, 1] - NOSE, 0)
    return points * side / crop_scale + [side / 2 - 0.5, EYE_LINE * side - 0.5]


def _still_points(side):
    """Corners and sides of the crop, [STILL_POINTS, 2]."""
    ends = np.linspace(0, side - 1, STILL_POINTS // 4 + 1)[:-1]
    edge = np.zeros_like(ends)
    last = edge + side - 1
    sides = (ends, edge), (last, ends), (last - ends, last), (edge, last - ends)
    return np.concatenate([np.stack(of_side, 1) for of_side in sides])

"""Landmarks and action units that come with the data: OpenFace's CSV, or the points of any face mesh as CSV or npz.

They have no looks in them but the shape of the face, and the place of the head is taken out (`without_similarity`). What is
left, `tracks`, moves; its principal components are states as those of a feature map are (`facedyn.core.low_rank`), from which
the same blocks are computed: the baselines `landmark_dynamics` and `action_unit_dynamics`.
"""

import csv
import dataclasses
import pathlib
import re

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.files import check_size

SUFFIXES = (".npz", ".csv")
MAX_BYTES = 1 << 30
POINT, UNIT = re.compile(r"([xy])_(\d+)"), re.compile(r"AU\d+_r")
# Points that no expression moves, by how many there are: eye corners and the nose bridge, of a mesh the forehead too.
STABLE = {
    68: (27, 28, 29, 30, 36, 39, 42, 45),
    468: (33, 133, 362, 263, 168, 6, 197, 195, 10, 151, 109, 338),
}
STABLE[478] = STABLE[468]  # the same mesh, with the irises behind


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """Of the frames of a clip: their numbers int64 [T], points float64 [T, N, 2], intensities of action units [T, M].

    N or M is 0 where the file has none. Frames without a face are not among them.
    """

    frames: np.ndarray
    points: np.ndarray
    units: np.ndarray


def find_landmarks(folder, clip_id: str) -> pathlib.Path | None:
    """The file of a clip in a folder, CLIP_ID.npz or CLIP_ID.csv; None where there is none."""
    places = [pathlib.Path(folder) / f"{clip_id}{suffix}" for suffix in SUFFIXES]
    return next((place for place in places if place.is_file()), None)


def read_landmarks(path) -> Landmarks:
    """Reads a file of landmarks.

    npz: `landmarks` [T, N, 2] or [T, N, 3], of which x and y count, and `frames` [T] (0, 1, ... where absent); NaN in frames
    without a face. CSV: the columns x_0, y_0, x_1, ... and AU01_r, ... as far as there are any, `frame` (lines count where
    absent), and `success`, of which 0 leaves the line out; separated by commas, semicolons or tabs.
    Raises InputError where the file is none of that, or has neither points nor action units.
    """
    path = pathlib.Path(path)
    check_size(path, MAX_BYTES, "The file of landmarks")
    try:
        found = _of_npz(path) if path.suffix == ".npz" else _of_csv(path)
    except (OSError, ValueError, KeyError, IndexError, UnicodeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as landmarks ({type(error).__name__}: {error}).") from error
    return _with_a_face(found, path)


def _of_npz(path):
    with np.load(path, allow_pickle=False) as file:
        if "landmarks" not in file:
            raise InputError(f"{path} has no array `landmarks` [frames, points, 2 or 3]; it has {', '.join(file.files)}.")
        points = np.asarray(file["landmarks"], np.float64)
        frames = np.asarray(file["frames"] if "frames" in file else np.arange(len(points)), np.int64)
    if points.ndim != 3 or points.shape[2] not in (2, 3) or len(frames) != len(points):
        raise InputError(
            f"{path} has landmarks of shape {points.shape} and {len(frames)} frames; they must be [frames, points, 2 or 3]."
        )
    return Landmarks(frames, points[..., :2], np.zeros((len(points), 0)))


def _of_csv(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        separator = max(",;\t", key=header.count)
        names = [name.strip().strip('"') for name in header.strip().split(separator)]
        lines = [line for line in csv.reader(file, delimiter=separator) if line]
    at = {name: i for i, name in enumerate(names)}
    points = sorted({int(m[2]) for name in names if (m := POINT.fullmatch(name))})
    units = [name for name in names if UNIT.fullmatch(name)]

    def column(name):
        # Decimal commas, where commas do not separate.
        return [_number(line[at[name]] if separator == "," else line[at[name]].replace(",", ".")) for line in lines]

    frames = np.asarray(column("frame") if "frame" in at else np.arange(len(lines)), np.int64)
    xy = [np.stack([column(f"{axis}_{i}") for i in points], -1) for axis in "xy"] if points else [np.zeros((len(lines), 0))] * 2
    of_units = np.stack([column(name) for name in units], -1) if units else np.zeros((len(lines), 0))
    success = np.asarray(column("success")) > 0 if "success" in at else np.ones(len(lines), bool)
    return Landmarks(frames[success], np.stack(xy, -1)[success], of_units[success])


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _with_a_face(found, path):
    if not found.points.shape[1] + found.units.shape[1]:
        raise InputError(f"{path} has no landmarks (columns x_0, y_0, ...) and no action units (AU01_r, ...).")
    known = np.isfinite(found.points).all((1, 2)) & np.isfinite(found.units).all(1)
    frames, first = np.unique(found.frames[known], return_index=True)
    return Landmarks(frames, found.points[known][first], found.units[known][first])


def stable_points(n: int) -> tuple[int, ...]:
    """Those of n points that no expression moves; all of them where the mesh is not known."""
    return STABLE.get(n, tuple(range(n)))


def without_similarity(points: np.ndarray, stable=None) -> np.ndarray:
    """Points [T, N, 2] with place, size and roll of the head taken out by the stable ones: float64 [T, N, 2].

    Each frame is moved, turned and scaled so that its stable points lie, by least squares, on their mean shape, which is
    centred and of root mean square 1 (S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", PAMI 1991). stable: their numbers; None = `stable_points`.
    """
    stable = list(stable_points(points.shape[1]) if stable is None else stable)
    as_complex = points[..., 0] + 1j * points[..., 1]
    of_head = as_complex[:, stable]
    place = of_head.mean(1, keepdims=True)
    of_head = of_head - place
    shape = of_head[0]
    for _ in range(3):  # of the mean shape and what fits it: no more is needed where frames differ little
        turn = _turn(of_head, shape)
        shape = (of_head * turn).mean(0)
        shape = shape / max(np.sqrt(np.mean(np.abs(shape) ** 2)), 1e-12)
    shape = shape * np.exp(-1j * np.angle(np.vdot(of_head[0], shape)))  # upright as the first frame
    found = (as_complex - place) * _turn(of_head, shape)
    return np.stack([found.real, found.imag], -1)


def _turn(of_head, shape):
    """Of each frame, the scale and rotation as a complex number, [T, 1], by which its points [T, S] fit the shape [S] best."""
    power = np.sum(np.abs(of_head) ** 2, 1, keepdims=True)
    return np.sum(of_head.conj() * shape, 1, keepdims=True) / np.maximum(power, 1e-12)


def tracks(found: Landmarks, what: str) -> np.ndarray:
    """What moves of a clip, float64 [T, D]: 'landmarks' without similarity, or intensities of 'action_units'."""
    if what == "landmarks":
        return without_similarity(found.points).reshape(len(found.frames), -1) if found.points.size else found.units[:, :0]
    return found.units

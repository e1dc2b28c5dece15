"""The quality table: one row per clip of the manifest, also for those that were left out, with the reason.

A clip that is in the dataset has verdict 'ok'; its `reason` may still hold a note (truncated file, a second face).
"""

import dataclasses
import inspect
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:  # imported late: no worker process needs it
    import pandas as pd

NAN = float("nan")
LIGHT_EVERY = 5  # brightness and sharpness are told from the first crop and every fifth after it
# Share of a clip's frames. Flagged frames stay: without them the clip would be full of gaps, and windows do not cross gaps.
SAID_ABOVE = 0.5  # a clip of which more than half is flagged is a clip of that kind, and its row says so
# Where hardly a frame shows anything, what moves in the crops is noise. A blurred, small or turned face still moves.
TOO_DARK_ABOVE = 0.9
# Flags in words; the columns n_tiny, ... count the frames that have them.
FLAGS = {"tiny": "tiny", "blurred": "blurred", "dark": "dark", "turned": "turned away"}


@dataclasses.dataclass(frozen=True)
class QualityRow:
    """What prepare saw in a clip.

    n_decoded: pictures of the file that could be decoded, repeated ones included. n_frames: those that were looked at: without
    the repeated ones, and at the rate of config.data.fps where that asks for another than the file's. In n_found of these the
    main face was found (detected, or followed between two detections), a share of share_found; n_kept are in the dataset.
    n_two_faces: frames with more than one face; n_gaps: places where kept frames do not follow one another; jitter: unrest of
    the crop, pixels of the crop (see `alignment.crop_jitter`);
    mean_confidence: of the detections, 0 to 1; face_size: mean width of the detected box, pixels of the video;
    brightness: mean grey value of the crops, 0 to 255; sharpness: mean variance of their Laplacian; fps: frames per second.
    n_tiny, n_blurred, n_dark, n_turned: how many of the kept frames are flagged (see `flags`), estimated from those looked at.
    n_repeated: frames left out because they show the picture before them again. n_people: how many were seen, in the half of
    the picture that `main_person` names; other_share: the second one's visible area x time, as a share of both the main
    person's and that: 0 = there is no other, 0.5 = as much. With another config.data.appearance than 'own': n_hidden of the
    frames with the face were left out, as too much of it is hidden there; beyond_range: mean share of the displacements
    that are larger than the picture of a motion can hold.
    """

    clip_id: str
    person_id: str
    path: str
    verdict: str = "ok"
    reason: str = ""
    n_decoded: int = 0
    n_frames: int = 0
    n_found: int = 0
    n_kept: int = 0
    share_found: float = NAN
    n_two_faces: int = 0
    n_gaps: int = 0
    jitter: float = NAN
    mean_confidence: float = NAN
    face_size: float = NAN
    brightness: float = NAN
    sharpness: float = NAN
    fps: float = NAN
    n_tiny: int = 0
    n_blurred: int = 0
    n_dark: int = 0
    n_turned: int = 0
    n_repeated: int = 0
    n_people: int = 0
    other_share: float = 0.0
    n_hidden: int = 0
    beyond_range: float = NAN

    def left_out(self, reason: str) -> "QualityRow":
        """The same clip, but not in the dataset, for this reason."""
        return dataclasses.replace(self, verdict="left_out", reason=reason, n_kept=0)


def flags(settings, n: int, enlargements, light, turns=()) -> dict[str, int]:
    """{'n_tiny': ..., ...} of a clip of n frames, by the thresholds of the settings.

    enlargements: pixels of the crop for one of the frame; light: (brightness, sharpness); turns: `Face.turn` of detections.
    Each of as many frames as were looked at.
    """
    # The defaults, seen with YuNet in the first 80 frames of 31 real, mostly frontal clips at 112 pixels, of which they flag
    # none: enlargement 0.23 to 1.07; sharpness 36 to 1870, and 4 to 14 once the crop is blurred by a Gaussian of 2 pixels;
    # brightness 70 to 146, while YuNet still finds a face darkened to about 10; turn -0.49 to 0.43. A turn of 1 is 45
    # degrees because the tip of the nose lies about as far before the eyes as each of them is from their middle.
    brightness, sharpness = np.asarray(light, float).reshape(-1, 2).T
    turns = np.asarray(turns, float)
    flagged = {
        "n_tiny": np.asarray(enlargements) > settings.max_enlargement,
        "n_blurred": sharpness < settings.min_sharpness,
        "n_dark": brightness < settings.min_brightness,
        "n_turned": np.abs(turns[np.isfinite(turns)]) > settings.max_turn,
    }
    return {name: round(n * float(np.mean(hits))) if len(hits) else 0 for name, hits in flagged.items()}


def flag_notes(row: QualityRow):
    """Yields a sentence for each flag that more than half of the kept frames have."""
    for flag, word in FLAGS.items():
        share = getattr(row, f"n_{flag}") / max(row.n_kept, 1)
        if share > SAID_ABOVE:
            yield f"the face is {word} in {share:.0%} of its frames"


def row_from(values: dict) -> QualityRow:
    """A QualityRow from a row of a stored table, which may have more columns, or, of an older version, fewer."""
    return QualityRow(**{field.name: values[field.name] for field in dataclasses.fields(QualityRow) if field.name in values})


def frames_seen(table: "pd.DataFrame") -> "pd.Series":
    """n_frames of each row; of a table of an older version, which lacks them, n_decoded, which meant the same there."""
    frames = table.n_frames if "n_frames" in table else 0 * table.n_decoded
    return frames.where(frames > 0, table.n_decoded)


def column_types() -> dict[str, type]:
    """{name of a column: str, int or float}."""
    return inspect.get_annotations(QualityRow)


def quality_table(rows) -> "pd.DataFrame":
    """A DataFrame with the columns of QualityRow, in the order of `rows`."""
    import pandas as pd

    return pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=[f.name for f in dataclasses.fields(QualityRow)])


def brightness_and_sharpness(image: np.ndarray) -> tuple[float, float]:
    """Mean grey value and variance of the Laplacian of uint8 [H, W, C]."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[-1] == 3 else image[..., 0]
    return float(grey.mean()), float(cv2.Laplacian(grey, cv2.CV_32F).var())


def mean_light(light) -> dict[str, float]:
    """{brightness, sharpness} of QualityRow: means of (brightness, sharpness) of some crops; NaN where there are none."""
    means = np.asarray(light, float).reshape(-1, 2)
    means = means.mean(0) if len(means) else (NAN, NAN)
    return {"brightness": float(means[0]), "sharpness": float(means[1])}


def longest_run(frame_indices) -> int:
    """Length of the longest stretch of consecutive numbers in the strictly increasing `frame_indices`."""
    frame_indices = np.asarray(frame_indices)
    if not len(frame_indices):
        return 0
    breaks = np.flatnonzero(np.diff(frame_indices) != 1) + 1
    return int(np.diff(np.concatenate([[0], breaks, [len(frame_indices)]])).max())

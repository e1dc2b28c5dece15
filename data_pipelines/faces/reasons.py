"""The sentences of the quality table about who was seen in a clip, and about what ended its preparation."""

import numpy as np

from data_pipelines.faces.quality import QualityRow

COUNTS = 0.05  # of the main person's visible area x time, or frames: who is seen for less is not counted among a clip's people


def of_error(error: BaseException) -> str:
    """The reason of a clip that an error of ours ended: its type and one sentence."""
    lines = str(error).strip().splitlines()
    said = lines[0].strip().rstrip(".") if lines else "without a message"
    return f"Preparing this clip ended with an error ({type(error).__name__}: {said}); the log has its traceback."


def joined(*sentences: str) -> str:
    """The sentences that say something, joined by "; ": only the last one keeps its full stop."""
    *others, last = [sentence for sentence in sentences if sentence] or [""]
    return "; ".join([*(sentence.rstrip(".") for sentence in others), last])


def repeated(row: QualityRow) -> str:
    """The sentence about pictures that were left out because they repeat the one before; '' where there are none."""
    if not row.n_repeated:
        return ""
    one, several = "was left out: it repeats the one before it", "were left out: they repeat those before them"
    return f"{row.n_repeated} of {row.n_decoded} pictures {one if row.n_repeated == 1 else several}"


def no_face(tracker, settings, n: int) -> str:
    """The reason of a clip of n frames without a face."""
    if tracker.largest_too_small:
        return (
            f"The largest face in its {n} frames is {tracker.largest_too_small:.0f} pixels wide; "
            f"config.data.min_face_pixels asks for {settings.min_face_pixels}."
        )
    side = f" in the {settings.main_person} half" if settings.main_person != "auto" else ""
    return f"No face was found{side} in any of its {n} frames."


def about_people(row: QualityRow, settings, n_only_others: int, n_cuts: int):
    """Yields the sentences about a clip in which faces were found.

    n_only_others: frames that show another person, but not this one.
    """
    lost = row.n_frames - row.n_found
    if lost:
        seen = f", {n_only_others} of which show another person" if n_only_others else ""
        yield f"{lost} of {row.n_frames} frames without this person's face were left out{seen}"
    if row.n_people > 1:
        half = f" in the {settings.main_person} half" if settings.main_person != "auto" else ""
        yield (
            f"{row.n_people} people were seen{half}; the one with the largest visible face area x time was kept, "
            f"the second has {row.other_share:.0%} of both together"
        )
    elif settings.main_person != "auto" and row.n_two_faces:
        yield f"the face in the {settings.main_person} half was followed"
    if row.n_two_faces:
        yield f"more than one face in {row.n_two_faces} of {row.n_frames} frames"
    if n_cuts:
        yield f"the picture changed abruptly {'once' if n_cuts == 1 else f'{n_cuts} times'} (a cut, a jump or a fade)"


def shares(found) -> dict:
    """{n_people, other_share} of QualityRow from `identity.people`."""
    return shares_of([person.weight for person in found]) if found else {}


def shares_of(weights) -> dict:
    """The same from the weights of the people, the heaviest first."""
    n_people = sum(weight >= COUNTS * weights[0] for weight in weights)
    return {"n_people": n_people, "other_share": float(weights[1] / (weights[0] + weights[1])) if len(weights) > 1 else 0.0}


def covered(tracks, n: int) -> np.ndarray:
    """How many of the tracks each of n frames belongs to, int32 [n]."""
    counts = np.zeros(n, np.int32)
    for track in tracks:
        counts[track.start : track.newest + 1] += 1
    return counts

"""What the report shows beyond the tables, computed from representations and data set: see `report.inputs.Views`."""

import collections
import contextlib
import hashlib
import itertools
import pathlib

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces.video import Video
from data_pipelines.remote import is_url
from facedyn.core import identification
from facedyn.core.pca import leading_coordinates
from facedyn.report.inputs import Alike, PeopleMap, SplitOfData, Views, left_out, worst_used
from facedyn.stages.fit import fit_scores
from facedyn.stages.fit.units import evenly
from facedyn.stages.runtime import common
from facedyn.stages.traits import trait_features
from facedyn.store import representations

FRAMES_OF_CLIP = 3
# People in the map and among the similarities, at most, evenly spaced by their ids: more cannot be told apart on a page.
PEOPLE_IN_MAP, PEOPLE_IN_MATRIX = 2000, 400
# A clip that was left out has no crops: of its own frames the first this many are read, and the last of them is shown.
FRAMES_READ = 12


def views(config, workdir, quality) -> Views:
    """What can be made of what there is. quality: the quality table or None."""
    folder, pictures = pathlib.Path(workdir) / representations.FOLDER, config.report.faces
    face_clips, no_data = None, ""
    try:
        face_clips = common.open_data(common.data_dir(config, workdir), config)
    except InputError as error:  # the page does without: an older workdir, or data that was moved
        no_data = str(error)
    clips = {}
    if pictures and quality is not None and len(quality):
        clips = _frames_of_left_out(quality) | (_frames_of_worst(quality, face_clips) if face_clips else {})
    split = split_of(face_clips) if face_clips else None
    return Views(people_map(folder), alike(folder, quality), clips, split, no_data)


def people_map(folder) -> PeopleMap | None:
    """Of people with finite filters, or None where there are fewer than three."""
    rows, vectors = representations.read_parts(folder, _keep_people(PEOPLE_IN_MAP))
    people = sorted(set(rows["person_id"].astype(str)))
    if len(people) < 3:
        return None
    blocks = trait_features.blocks_by_person(rows, vectors, people)
    return PeopleMap(people, *leading_coordinates([*blocks.values()], 2))


def alike(folder, quality=None) -> Alike | None:
    """Cosines of people, of all scales, as identification has them: of halves or, where none was fitted, of all their video."""
    keep = _keep_people(PEOPLE_IN_MATRIX)
    rows, vectors = representations.read_parts(folder / fit_scores.HALVES, keep)
    if len(rows):
        scales = sorted(rows["scale"].unique())
        first, second, _ = fit_scores.half_vectors(rows, vectors, scales)
        numbers, _, _ = fit_scores.half_vectors(rows, np.arange(len(rows))[:, None], scales)  # rows in their places
        people = rows["person_id"].to_numpy(str)[numbers[:, :1].astype(int)].reshape(-1)
    else:
        rows, vectors = representations.read_parts(folder, keep)
        people = np.array(sorted(set(rows["person_id"])), str)
        blocks = trait_features.blocks_by_person(rows, vectors, list(people)).values() if len(people) else ()
        first = second = (
            np.concatenate([np.where(np.isfinite(x), x, np.nanmean(x, 0)) for x in blocks], 1) if blocks else people
        )
    if len(people) < 2:
        return None
    order = np.argsort(leading_coordinates((first,), 1)[0][:, 0], kind="stable")  # so that similar people stand together
    values = np.array(identification.similarities(first, second))[np.ix_(order, order)]
    if first is second:
        np.fill_diagonal(values, np.nan)
        return Alike(list(people[order]), values)
    return Alike(list(people[order]), values, _half_seconds(rows, quality))


def _half_seconds(rows, quality) -> float:
    """Seconds of video in half of what a person's filters are fitted to, the median; NaN where no frame rate is known."""
    fps = quality.loc[quality["verdict"] == "ok", "fps"].median() if quality is not None else np.nan
    frames = rows.assign(half=rows["unit_id"].str[-1]).groupby(["person_id", "half", "scale"])["n_frames"].sum()
    return float(frames.groupby(level=[0, 1]).max().median() / fps) if fps > 0 else np.nan


def _keep_people(most):
    """Which rows of a table to read: the finite ones of at most so many people."""

    def keep(rows):
        finite = np.asarray(rows["finite"], bool)
        return finite & rows["person_id"].isin(evenly(sorted(set(rows["person_id"][finite])), most))

    return keep


def split_of(face_clips) -> SplitOfData:
    """Twelve hexadecimal digits that name which clip of whom is in which split, and how many people each has."""
    lines = sorted({f"{clip.clip_id}\t{clip.person_id}\t{clip.split}" for clip in face_clips.clips})
    people = collections.Counter(split for _, split in {(clip.person_id, clip.split) for clip in face_clips.clips})
    return SplitOfData(hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12], dict(people))


def _frames_of_worst(quality, face_clips) -> dict:
    number = {clip.clip_id: i for i, clip in enumerate(face_clips.clips)}
    found = {}
    for clip_id, _, _ in worst_used(quality):
        if clip_id in number:
            last = len(face_clips.clips[number[clip_id]].frame_indices) - 1
            positions = np.linspace(0, last, FRAMES_OF_CLIP).round().astype(int)
            found[clip_id] = face_clips.frames(number[clip_id], positions)
    return found


def _frames_of_left_out(quality) -> dict:
    """One whole frame each of those whose video is a local file that can be decoded."""
    found = {}
    for clip_id, path, _ in left_out(quality):
        with contextlib.suppress(InputError):  # why it cannot be read is among the reasons already
            if not is_url(path):
                found[clip_id] = _early_frame(path)[None]
    return found


def _early_frame(path):
    """A frame of a video a little after its beginning, which is black in some, [H, W, 3]."""
    return collections.deque((frame for _, _, frame in itertools.islice(Video(path), FRAMES_READ)), maxlen=1)[0]

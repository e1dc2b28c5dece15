"""The baselines `landmark_dynamics` and `action_unit_dynamics`: what OpenFace, or any face mesh, sees move; no pictures.

Landmarks lose the head's place, size and roll; their principal components, or the intensities of the action units, are tracks,
and are described as those of `linear_dynamics` are. Files: config.data.landmarks/CLIP_ID.npz or .csv, else OpenFace's own CSV
beside the images that the manifest names.
"""

import pathlib

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces import landmarks
from data_pipelines.faces.openface import find_outputs
from data_pipelines.manifest import read_manifest
from facedyn.stages.runtime import messages
from facedyn.stages.traits import clip_features
from facedyn.store.scores import TRANSDUCTIVE, ScoreKey

# {baseline: what of the files moves}.
NAMES = {"landmark_dynamics": "landmarks", "action_unit_dynamics": "action_units"}
COMPONENTS = 8


def features(config, clips_of: dict[str, list[str]], names) -> dict:
    """{key: float32 [N, d]} of the baselines among `names`, a row of NaN for whom there is no file.

    clips_of: ids of the clips of each person or unit that is scored, in their order. A baseline for which there is no file at
    all is left out. Raises InputError for a file that cannot be read.
    """
    wanted, found = [name for name in NAMES if name in names], {}
    if not wanted:
        return found
    place = _places(config)
    files = {who: [path for clip in clips if (path := place(clip))] for who, clips in clips_of.items()}
    read = {who: [landmarks.read_landmarks(path) for path in paths] for who, paths in files.items()}
    for name in wanted:
        runs = {who: _runs(own, NAMES[name], config.traits.baseline_frames) for who, own in read.items()}
        several = [run for own in runs.values() for run in own]
        if several:
            key = ScoreKey(name, "ridge", note=TRANSDUCTIVE)  # the components are found without labels, but of these people
            found[key] = _described(list(runs.values()), several)
        elif config.data.landmarks:
            messages.warning(f"traits: the baseline {name} is left out, no file in {config.data.landmarks} has its columns")
    return found


def _places(config):
    """clip_id -> the clip's file, or None."""
    folder = config.data.landmarks
    if folder:
        return lambda clip_id: landmarks.find_landmarks(pathlib.Path(folder).expanduser(), clip_id)
    tables = {}
    if config.data.dataset == "manifest" and pathlib.Path(config.data.manifest).expanduser().is_file():
        for entry in read_manifest(config.data.manifest):
            outputs = [] if "://" in str(entry.path) else find_outputs(entry.path)
            tables |= {entry.clip_id: outputs[0].table} if len(outputs) == 1 and outputs[0].table else {}
    return tables.get


def _runs(files, what: str, most: int) -> list[np.ndarray]:
    """What moves in the files of one person, float [T, D] each, cut where a frame is missing; about `most` frames of all."""
    found = []
    for one in files:
        tracks = landmarks.tracks(one, what)[: -(-most // len(files))]
        if tracks.shape[1]:
            found += [tracks[run] for run in clip_features.runs(one.frames[: len(tracks)])]
    return found


def _described(of_people: list, several: list) -> np.ndarray:
    """Features [N, d] of people with runs each. Raises InputError where the files differ in what they hold."""
    widths = {run.shape[1] for run in several}
    if len(widths) > 1:
        numbers = " and ".join(map(str, sorted(widths)))
        raise InputError(
            f"The files of landmarks have different numbers of columns ({numbers}); all must come from one program."
        )
    basis = clip_features.principal_images(several, min(COMPONENTS, *widths))
    vectors = [clip_features.linear_dynamics([run @ basis for run in own]) if own else None for own in of_people]
    length = len(next(vector for vector in vectors if vector is not None))
    return np.stack([np.full(length, np.nan, np.float32) if vector is None else vector for vector in vectors])

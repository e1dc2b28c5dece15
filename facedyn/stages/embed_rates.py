"""Frames per second of new videos against those that the model was trained at: a scale is a number of frames.

Faster videos are resampled when they are prepared; those that are too slow cannot be, and are left out with a reason.
"""

import math
import pathlib
import statistics

import numpy as np
import pandas as pd

from data_pipelines import bounded
from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.faces.openface import OpenFaceVideo, find_outputs
from data_pipelines.faces.video import Video
from data_pipelines.remote import is_url
from facedyn.stages.runtime.data_settings import pretrain_data_dir

# Slower than this share of the model's rate, and a window takes so much more time that it holds another movement.
SLOWEST = 0.8
SAME = 0.01  # 29.97 is as good as 30


def training_fps(config, workdir) -> float:
    """Median frames per second of the clips that the generic model of WORKDIR learnt from; 0 where nothing tells it.

    By the dataset; where that is gone, by the quality table of all clips, else by config.data.fps.
    """
    try:
        clips = open_face_clips(pretrain_data_dir(config, workdir)).clips
        splits = set(config.pretrain.splits)
        rates = [clip.fps for clip in clips if clip.split in splits] or [clip.fps for clip in clips]
    except InputError:
        name = "pretrain_quality.parquet" if config.data.pretrain_manifest else "quality.parquet"
        rates = _rates_of_table(pathlib.Path(workdir) / name)
    rates = [rate for rate in rates if math.isfinite(rate) and rate > 0]
    return float(statistics.median(rates)) if rates else float(config.data.fps)


def _rates_of_table(path):
    try:
        table = bounded.read_table(path, columns=["verdict", "fps"]).to_pandas()
    except (OSError, ValueError):
        return []
    return table.loc[table["verdict"] == "ok", "fps"].tolist()


def judged(table: pd.DataFrame, entries, fps: float) -> tuple[pd.DataFrame, list[str]]:
    """(the quality table, ids of the clips that are too slow), for a model trained at `fps`; 0 leaves the table as it is.

    Clips far slower than that are left out; a usable one whose own rate is higher gets a note that it was resampled.
    """
    table, own, slow = table.copy(), {entry.clip_id: entry for entry in entries}, []
    for i in table.index[np.asarray(table["verdict"] == "ok") & bool(fps)]:
        clip_id, rate = table.at[i, "clip_id"], table.at[i, "fps"]
        if rate < SLOWEST * fps:
            slow.append(clip_id)
            table.loc[i, ["verdict", "n_kept"]] = "left_out", 0
            table.at[i, "reason"] = (
                f"It has {rate:.4g} frames per second; the model was trained at {fps:.4g}, and frames cannot be added."
            )
        elif (before := _own_rate(own[clip_id])) > (1 + SAME) * fps:
            note = f"its {before:.4g} frames per second were resampled to the model's {fps:.4g}"
            table.at[i, "reason"] = "; ".join(filter(None, (table.at[i, "reason"], note)))
    return table, slow


def _own_rate(entry):
    """Frames per second of the clip's file; 0 where nothing tells. Decodes nothing."""
    if entry.fps or is_url(entry.path):
        return entry.fps
    try:
        return (OpenFaceVideo if find_outputs(entry.path) else Video)(entry.path).fps
    except (InputError, OSError):
        return 0.0

r"""Faces that OpenFace has aligned already: a folder of NAME.csv and NAME_aligned/, a clip each; no detection is done.

  facedyn run --config=configs/openface.py --config.data.source=DIR --workdir=runs/openface

Whom a clip shows: the folder it lies in, or --config.data.person_pattern='(?P<person>\w+)_(?P<session>\d+)'.
Hardware: one GPU or TPU. Expected score: not measured.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "openface"
    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart

    config.report.title = "Facial dynamics of OpenFace's faces"
    return config

r"""Faces that OpenFace has aligned: a folder with NAME.csv and NAME_aligned/ for each clip; no face detection is done.

  facedyn run --config=configs/openface.py --config.data.source=DIR --workdir=runs/openface

The folder that a clip lies in says whom it shows, or --config.data.person_pattern='(?P<person>\w+)_(?P<session>\d+)'.
Hardware: one GPU or TPU. Expected score: not measured.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "openface"
    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart

    config.report.title = "Facial dynamics of OpenFace's faces"
    return config

r"""A folder of your own videos, without labels; no CSV needed.

  facedyn run --config=configs/folder.py --config.data.source=DIR --workdir=runs/folder

The sub-folder of DIR says whom a video shows; a file outside of the sub-folders is a person of its own. Or give a regular
expression that is searched for in the path: --config.data.person_pattern='(?P<person>\w+)_(?P<session>\d+)'.
Hardware: one GPU or TPU. Expected score: not measured. On a laptop take the smaller model of configs/videos.py:

  facedyn run --config=configs/videos.py --config.data.dataset=folder --config.data.source=DIR --workdir=runs/folder
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "folder"
    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart

    config.report.title = "Facial dynamics of my videos"
    return config

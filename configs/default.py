"""The reference settings: 112x112 RGB, U-net of 32/64/128/256 channels, scales 1, 2 and 4, Adam for the filters.

  facedyn run --config=configs/default.py --workdir=runs/default \
      --config.data.manifest=my_clips.csv --config.data.traits=openness,extraversion

Hardware: one GPU or TPU. Made for the size of the paper's and ChaLearn's data; not yet run at that size, so no time and no
score stand here.
"""

from facedyn.config import default_config


def get_config():
    return default_config()

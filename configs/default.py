"""The reference settings: 112x112 RGB, U-net of 32/64/128/256 channels, scales 1, 2 and 4, filters in closed form.

  facedyn run --config=configs/default.py --workdir=runs/default \
      --config.data.manifest=my_clips.csv --config.data.traits=openness,extraversion

Why filters in closed form with the other blocks: on the synthetic bench (200 people, 32x32; benchmarks/RESULTS.md)
they had a mean trait PCC of 0.69 [0.65, 0.72], filters by Gauss-Newton on the rank loss 0.22 [0.15, 0.28], by Adam 0.14 [0.08,
0.21].
The paper's method is configs/paper.py.
Hardware: one GPU or TPU. Made for the size of the paper's and ChaLearn's data. It was not yet run at that size, so no time and
no score are given here.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart

    config.fit.controls = ("swapped_dynamics", "untrained")  # is it movement or looks, and what is the training worth?
    return config

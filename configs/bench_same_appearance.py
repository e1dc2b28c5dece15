"""The bench with one change: everyone looks the same, also in the generic model's pool. Tracks and traits are the same.

    facedyn run --config=configs/bench_same_appearance.py --workdir=runs/bench_same_appearance

What tells people apart here is movement: split-half identification is to be read beside that of configs/bench.py. At scale 1
(`--config.rank_loss.scales=1`), 200 people, chance 0.005: top-1 0.395 [0.325, 0.465], of time-shuffled frames 0.005; with
`--config.fit.step_correlations=True` 0.490 [0.420, 0.560] and 0.065; with that and 480 people to learn from
(`--config.data.synthetic.pretrain_people=600`) 0.545 [0.475, 0.615] and 0.085. The true tracks' statistics have 0.93.
"""

import pathlib

from facedyn.config_files import load_config


def get_config():
    config = load_config(str(pathlib.Path(__file__).with_name("bench.py")))

    config.data.synthetic.same_appearance = True

    config.report.title = "Bench: synthetic faces that look the same and move differently"
    return config

"""The bench with one change: everyone looks alike, also in the generic model's pool. Tracks and traits are the same.

    facedyn run --config=configs/bench_same_appearance.py --workdir=runs/bench_same_appearance

What tells people apart here is movement: split-half identification is to be read beside that of configs/bench.py. At scale 1
(`--config.rank_loss.scales=1`), 200 people: top-1 0.245 [0.185, 0.305], of time-shuffled frames 0.010 [0.000, 0.025]
(chance 0.005), of the true tracks' statistics 0.64.
"""

import pathlib

from facedyn.command_line import load_config


def get_config():
    config = load_config(str(pathlib.Path(__file__).with_name("bench.py")))

    config.data.synthetic.same_appearance = True

    config.report.title = "Bench: synthetic faces that look alike and move as they do"
    return config

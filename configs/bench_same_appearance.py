"""The bench with one change: everyone looks the same, also in the generic model's pool. Tracks and traits are the same.

    facedyn run --config=configs/bench_same_appearance.py --workdir=runs/bench_same_appearance

What tells people apart here is movement: identification is to be read beside that of configs/bench.py.
"""

import pathlib

from facedyn.config_files import load_config


def get_config():
    config = load_config(str(pathlib.Path(__file__).with_name("bench.py")))

    config.data.synthetic.same_appearance = True

    config.report.title = "Bench: synthetic faces that look the same and move differently"
    return config

"""The bench with one change: everyone looks the same, the generic model's people too. Movements and traits are as before.

    facedyn run --config=configs/bench_same_appearance.py --workdir=runs/bench_same_appearance

Here only movement can identify people: compare the identification with that of configs/bench.py.
"""

import pathlib

from facedyn.config_files import load_config


def get_config():
    config = load_config(str(pathlib.Path(__file__).with_name("bench.py")))

    config.data.synthetic.same_appearance = True

    config.report.title = "Bench: synthetic faces that look the same and move differently"
    return config

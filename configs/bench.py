"""The synthetic bench on which methods are compared: 200 people with known dynamics, 600 frames each, and 300 to learn from.

    facedyn run --config=configs/bench.py --workdir=runs/bench

Mean trait PCC 0.688 [0.652, 0.724]; linear_dynamics 0.563 [0.520, 0.605], paired difference 0.125 [0.086, 0.164]; true tracks
0.839; with somebody else's movement -0.007 [-0.073, 0.061]. Split-half identification 0.880 [0.830, 0.925] of 200, with
somebody else's movement 0.035 [0.015, 0.065]. All figures: benchmarks/RESULTS.md; what they mean: docs/method.md. One change at
a time: configs/ablation.py.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "synthetic"
    config.data.traits = ("extraversion", "emotional_stability", "agreeableness", "conscientiousness", "openness")
    config.data.image_size = 32
    config.data.synthetic.people = 200
    config.data.synthetic.pretrain_people = 300
    config.data.synthetic.frames = (150, 150)  # two tasks of two clips

    config.model.channels = (8, 16, 32)
    config.model.groups = 4

    config.rank_loss.scales = (1, 2)

    config.pretrain.batch_size = 32
    config.pretrain.steps = 1200
    config.pretrain.learning_rate = 4e-3
    config.pretrain.warmup_steps = 50
    config.pretrain.eval_every = 200
    config.pretrain.eval_windows = 16
    config.pretrain.loader_threads = 2

    config.fit.splits = ("test",)
    config.fit.max_frames = 1024  # all there are
    config.fit.controls = ("time_shuffled", "swapped_dynamics", "untrained")

    config.traits.splits = ("test",)

    config.report.title = "Bench: synthetic faces with known dynamics"
    return config

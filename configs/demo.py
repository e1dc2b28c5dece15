"""All stages on synthetic faces: nothing to download, and you need no data.

    facedyn run --config=configs/demo.py --workdir=runs/demo

2 CPU cores: 2.9 minutes the first time (prepare 23 s, pretrain 31, fit 74, traits 39). Ranking accuracy on held-out people
0.85 at scale 1 and 0.80 at scale 2 (copied input 0.76 and 0.73); mean trait PCC 0.66 [0.60, 0.70], untrained U-net 0.62
[0.57, 0.67], linear_dynamics 0.54 [0.48, 0.61] (paired difference 0.115 [0.057, 0.166]), mean face -0.06 [-0.15, 0.03], true
tracks 0.83 [0.79, 0.86].
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "synthetic"
    config.data.traits = ("extraversion", "emotional_stability", "agreeableness", "conscientiousness", "openness")
    config.data.image_size = 32
    config.data.synthetic.pretrain_people = 40
    config.data.synthetic.frames = (90, 130)

    config.model.channels = (8, 16, 32)
    config.model.groups = 4

    config.rank_loss.scales = (1, 2)

    config.pretrain.batch_size = 32
    config.pretrain.steps = 400
    config.pretrain.learning_rate = 4e-3
    config.pretrain.warmup_steps = 50
    config.pretrain.eval_every = 100
    config.pretrain.eval_windows = 16
    config.pretrain.loader_threads = 2

    config.fit.splits = ("test",)
    config.fit.unit = "person_task"
    config.fit.split_half = False
    config.fit.controls = ("untrained",)

    config.traits.splits = ("test",)
    slow = ("rank_pooling", "optical_flow")
    config.traits.baselines = tuple(name for name in config.traits.baselines if name not in slow)

    config.report.title = "Demo: synthetic faces with known dynamics"
    return config

"""The second synthetic bench: other faces, other movement, other traits than configs/bench.py; 120 people, 600 frames each.

    facedyn run --config=configs/bench_two.py --workdir=runs/bench_two

Soft faces of 64 pixels with skin, exposure, noise and compression of their own (data_pipelines/synthetic/warped_faces.py),
moved by damped oscillations and the rhythm of speech (warped_dynamics.py). Its settings were fixed before any score was seen.

With 96 people, 300 frames each and 40 to learn from (benchmarks/RESULTS.md): mean trait PCC 0.474 [0.404, 0.542],
linear_dynamics 0.422 [0.342, 0.498], paired difference 0.053 [-0.030, 0.133], true tracks 0.581. It was not yet run at its full
size.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "synthetic"
    config.data.traits = ("extraversion", "emotional_stability", "agreeableness", "conscientiousness", "openness")
    config.data.image_size = 64
    config.data.synthetic.world = "warped"
    config.data.synthetic.size = 64
    config.data.synthetic.people = 120
    config.data.synthetic.pretrain_people = 60
    config.data.synthetic.frames = (150, 150)  # two tasks of two clips

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
    config.fit.max_frames = 1024  # all there are
    config.fit.controls = ("time_shuffled", "swapped_dynamics", "untrained")

    config.traits.splits = ("test",)

    config.report.title = "Second bench: soft faces that speak"
    return config

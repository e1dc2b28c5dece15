"""The second synthetic bench: other faces, other movement, other traits than configs/bench.py; 120 people, 600 frames each.

    facedyn run --config=configs/bench_two.py --workdir=runs/bench_two

Soft faces of 64 pixels with skin, exposure, noise and compression of their own (data_pipelines/synthetic/warped_faces.py),
moved by damped oscillations and the rhythm of speech (warped_dynamics.py). Its settings were fixed before any score was seen.

Three further draws of everything (config.seed 1, 2, 3; benchmarks/draws.py): mean trait PCC 0.538 [0.506, 0.567],
linear_dynamics 0.491 [0.457, 0.523], paired difference 0.047 [0.018, 0.077]. The first draw: 0.555 [0.501, 0.606],
linear_dynamics 0.518 [0.452, 0.580], difference 0.037 [-0.018, 0.097]; the mean of both predictions 0.578, 0.060 [0.028,
0.095] above it; untrained U-net 0.547, difference 0.009 [-0.030, 0.048]; true tracks 0.649; with somebody else's movement
-0.019 [-0.096, 0.057]. All figures: benchmarks/RESULTS.md.
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

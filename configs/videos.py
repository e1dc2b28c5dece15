"""Your own videos, small enough for a laptop: 48x48 faces, a U-net of 8/16/32 channels, scales 1 and 2.

  facedyn run --config=configs/videos.py --config.data.manifest=my_clips.csv --workdir=runs/my_clips

31 clips of 29 people (8,703 frames), 2 shared CPU cores: 12 minutes with YuNet. Ranking accuracy on 4 held-out people
0.89 at scale 1 and 0.85 at scale 2 (copied input 0.75 and 0.76). The control swapped_dynamics says whether people are
identified by movement or by looks; data.appearance=motion removes looks from the pictures (docs/data.md).

The manifest is a CSV with the columns clip_id,person_id,path; docs/data.md describes its other columns. Videos of over 25
frames per second are resampled to 25, because a scale is a number of frames (docs/data.md, "Frame rates").
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.image_size = 48
    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart

    config.model.channels = (8, 16, 32)
    config.model.groups = 4

    config.rank_loss.scales = (1, 2)

    config.pretrain.batch_size = 32
    config.pretrain.steps = 400
    config.pretrain.learning_rate = 4e-3
    config.pretrain.warmup_steps = 50
    config.pretrain.eval_every = 100
    config.pretrain.loader_threads = 2

    config.fit.controls = ("swapped_dynamics", "untrained")  # is it movement or looks, and what is the training worth?

    config.report.title = "Facial dynamics of my videos"
    return config

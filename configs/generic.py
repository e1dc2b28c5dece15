"""The model in the package: 64x64 faces, a U-net of 8/16/32 channels, scales 1 and 2, 25 frames per second.

    python benchmarks/train_generic.py

That command writes the manifest (GRID clips and synthetic faces), runs the stages by this config and replaces
facedyn/models/generic.safetensors. What the model was trained on and what it is good for: facedyn/models/MODEL_CARD.md.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.image_size = 64
    config.data.fps = 25.0
    config.data.split_fractions = (0.8, 0.2, 0.0)

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

    config.report.title = "The model in the package"
    return config

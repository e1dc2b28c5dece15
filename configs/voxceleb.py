"""VoxCeleb2, or any folders person/video/clip.mp4: people without labels for the generic model, split by person.

  facedyn prepare --config=configs/voxceleb.py --config.data.source=DIR --workdir=runs/voxceleb
  facedyn pretrain --config=configs/voxceleb.py --config.data.source=DIR --workdir=runs/voxceleb

Another run starts from this generic model with --config.pretrain.init_from=runs/voxceleb/generic, or trains its own on the same
people with --config.data.pretrain_manifest=runs/voxceleb/manifest.csv.
Hardware: one GPU or TPU. Expected score: not measured.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "voxceleb"
    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart
    config.data.split_protocol = "person_disjoint"  # the official one has no validation people
    config.data.image_format = "jpeg"

    config.report.title = "VoxCeleb2"
    return config

r"""First Impressions as DeepPersonality unpacks it: image_data/<split>_data[_face]/<clip>/frame_1.jpg and the annotation files.

  facedyn run --config=configs/deep_personality.py --config.data.source=DIR --workdir=runs/deep_personality \
      --config.data.source_fps=30

Give the rate at which the frames were taken from the videos (source_fps); the images do not say it.
No person is in more than one split, as in configs/chalearn_first_impressions.py.
Hardware: one GPU or TPU. Expected score: not measured.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "deep_personality"
    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart
    config.data.traits = ("extraversion", "emotional_stability", "agreeableness", "conscientiousness", "openness", "interview")
    config.data.split_protocol = "person_disjoint"
    config.data.image_format = "jpeg"

    config.report.title = "First Impressions, DeepPersonality's frames"
    return config

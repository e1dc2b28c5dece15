"""UDIVA v0.5 (self-reported personality): two people in conversation, four tasks, one set of filters per person and task.

  facedyn run --config=configs/udiva.py --config.data.source=DIR --workdir=runs/udiva

Hardware: one GPU or TPU. Expected score: not measured. Labels are z-scores: ACC is not comparable with First Impressions'.
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "udiva"
    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart
    config.data.traits = ("openness", "conscientiousness", "extraversion", "agreeableness", "negative_emotionality")
    config.data.image_format = "jpeg"

    config.fit.unit = "person_task"

    config.report.title = "UDIVA v0.5"
    return config

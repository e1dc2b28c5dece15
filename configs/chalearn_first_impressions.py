"""ChaLearn First Impressions V2 (apparent personality): clips, labels and split as handed out, archives unpacked.

  facedyn run --config=configs/chalearn_first_impressions.py --config.data.source=DIR --workdir=runs/first_impressions

Hardware: one GPU or TPU, and as many cores as there are for `prepare`. Expected score: not measured. In the official split most
test clips show someone of the training clips; people kept apart: --config.data.split_protocol=person_disjoint.
`emotional_stability` is what the data set calls neuroticism (high = stable).
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "chalearn_first_impressions"
    config.data.traits = ("extraversion", "emotional_stability", "agreeableness", "conscientiousness", "openness", "interview")
    config.data.image_format = "jpeg"  # ten thousand clips: a fifth of the disk

    config.report.title = "ChaLearn First Impressions V2"
    return config

"""ChaLearn First Impressions V2 (apparent personality): clips and labels as handed out, archives unpacked.

  facedyn run --config=configs/chalearn_first_impressions.py --config.data.source=DIR --workdir=runs/first_impressions

Hardware: one GPU or TPU, and for `prepare` as many cores as possible. Expected score: not measured. No person is in more than
one split: in the official split (--config.data.split_protocol=official) most validation and test clips show someone of the
training clips. `pretrain` refuses that split; `prepare` and `doctor` accept it, and `doctor` says what score the look-up of
people alone has there. docs/data.md says how to score clips on it nevertheless, with a generic model of other people.
`emotional_stability` is what the data set calls neuroticism (high = stable).
"""

from facedyn.config import default_config


def get_config():
    config = default_config()

    config.data.dataset = "chalearn_first_impressions"
    config.data.fps = 25.0  # faster videos are resampled: a scale is a number of frames, so frames must be equally far apart
    config.data.traits = ("extraversion", "emotional_stability", "agreeableness", "conscientiousness", "openness", "interview")
    config.data.split_protocol = "person_disjoint"
    config.data.image_format = "jpeg"  # ten thousand clips: a fifth of the disk

    config.report.title = "ChaLearn First Impressions V2"
    return config

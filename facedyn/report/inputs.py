"""What the report is made from: the tables of a workdir, each None or empty where its stage was not run."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd

from facedyn.store import metrics_log, representations, scores, stamps

STAGES = ("prepare", "pretrain", "fit", "traits")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The tables, as their modules describe them."""

    scores: pd.DataFrame
    stamps: dict[str, dict]  # by stage
    log: list[dict]  # lines of metrics.jsonl
    quality: pd.DataFrame | None
    predictions: pd.DataFrame | None
    representations: pd.DataFrame  # without the representations themselves
    examples: dict[str, np.ndarray] | None

    def __getitem__(self, stage: str) -> pd.DataFrame:
        """The rows of scores of a stage."""
        return self.scores[self.scores["stage"] == stage]


def load(workdir, pictures: bool) -> Inputs:
    """Reads what there is; `pictures` False leaves the examples out."""
    workdir = pathlib.Path(workdir)

    def table(path):
        return pd.read_parquet(path) if path.is_file() else None

    examples = workdir / "representations" / "examples.npz"
    found = {stage: stamps.read_stamp(workdir, stage) for stage in STAGES}
    return Inputs(
        scores=scores.load_scores(workdir) if scores.scores_path(workdir).is_file() else scores.empty_scores(),
        stamps={stage: stamp for stage, stamp in found.items() if stamp},
        log=metrics_log.read_metrics(workdir),
        quality=table(workdir / "quality.parquet"),
        predictions=table(workdir / "traits" / "predictions.parquet"),
        representations=representations.read_parts(workdir / representations.FOLDER)[0],
        examples=dict(np.load(examples)) if pictures and examples.is_file() else None,
    )

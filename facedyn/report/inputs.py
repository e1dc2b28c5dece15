"""What the report is made from: the tables of a workdir, each None or empty where its stage was not run.

`Views` is what tables do not hold and the stage `report` computes: the map of people, similarities, pictures of clips, hashes.
"""

import dataclasses
import pathlib

import numpy as np
import pandas as pd

from facedyn.store import metrics_log, representations, scores, stamps

STAGES = ("prepare", "pretrain", "fit", "traits")


@dataclasses.dataclass(frozen=True)
class PeopleMap:
    """People in the plane of the two leading principal components of the z-scored representations."""

    people: list[str]  # P
    coordinates: np.ndarray  # [P, 2]
    shares: np.ndarray  # of the variance, [2]


@dataclasses.dataclass(frozen=True)
class SplitOfData:
    """Who is in which split of the data set."""

    hash: str  # of all clips with their people and splits
    people: dict[str, int]  # how many, by split


@dataclasses.dataclass(frozen=True)
class Views:
    """None or empty where it could not be made."""

    people_map: PeopleMap | None = None
    halves: np.ndarray | None = None  # cosines [P, P] of each person's first half with everyone's second
    clips: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # frames uint8 [n, H, W, C] of clips, by clip_id
    split: SplitOfData | None = None
    no_data: str = ""  # why the data set could not be opened


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The tables, as their modules describe them."""

    scores: pd.DataFrame
    stamps: dict[str, dict]  # by stage
    log: list[dict]  # lines of metrics.jsonl
    quality: pd.DataFrame | None
    doctor: pd.DataFrame | None
    predictions: pd.DataFrame | None  # those that the headline's scores are of
    folds: pd.DataFrame | None
    weights: pd.DataFrame | None
    representations: pd.DataFrame  # without the representations themselves
    examples: dict[str, np.ndarray] | None
    views: Views = Views()

    def __getitem__(self, stage: str) -> pd.DataFrame:
        """The rows of scores of a stage."""
        return self.scores[self.scores["stage"] == stage]

    @property
    def empty(self) -> bool:
        """Whether no stage has left anything; a log alone says nothing."""
        tables = (self.quality, self.doctor, self.predictions, self.folds, self.weights, self.examples)
        return not (self.stamps or len(self.scores) or len(self.representations) or any(x is not None for x in tables))

    @property
    def without_filters(self) -> str:
        """Whose work is shown where a person's filters are taken away."""
        closed_form = self.stamps.get("fit", {}).get("config", {}).get("fit.solver") == "least_squares"
        return "everybody's common filters" if closed_form else "the generic model"


def load(workdir, pictures: bool) -> Inputs:
    """Reads what there is; `pictures` False leaves the examples out."""
    workdir = pathlib.Path(workdir)

    def table(path):
        return pd.read_parquet(path) if path.is_file() else None

    def texts(path):
        return pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else None

    examples, weights = workdir / "representations" / "examples.npz", workdir / "traits" / "weights_by_site.csv"
    scored = scores.load_scores(workdir) if scores.scores_path(workdir).is_file() else scores.empty_scores()
    found = {stage: stamps.read_stamp(workdir, stage) for stage in STAGES}
    return Inputs(
        scores=scored,
        stamps={stage: stamp for stage, stamp in found.items() if stamp},
        log=metrics_log.read_metrics(workdir),
        quality=table(workdir / "quality.parquet"),
        doctor=texts(workdir / "doctor.csv"),
        predictions=_predictions(workdir / "traits" / "predictions.parquet", scores.headline(scored)),
        folds=texts(workdir / "traits" / "folds.csv"),
        weights=pd.read_csv(weights, dtype={"trait": str, "task": str, "site": str}, keep_default_na=False)
        if weights.is_file()
        else None,
        representations=representations.read_rows(workdir / representations.FOLDER),
        examples=dict(np.load(examples)) if pictures and examples.is_file() else None,
    )


def _predictions(path, headline) -> pd.DataFrame | None:
    """The headline's rows alone: what every method predicts of thousands of people would fill the memory."""
    if headline is None or not path.is_file():
        return None
    method, setting = headline
    return pd.read_parquet(path, filters=[("method", "=", method), ("setting", "=", setting)])

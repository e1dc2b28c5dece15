"""What the report is made from: the tables of a workdir, each None or empty where its stage was not run.

`Views` is what tables do not hold and the stage `report` computes: the map of people, similarities, pictures of clips, hashes.
"""

import dataclasses
import pathlib

import numpy as np
import pandas as pd

from data_pipelines import bounded
from data_pipelines.doctor.check_dataset import read_quality_table
from data_pipelines.faces.quality import FLAGS, frames_seen
from facedyn.report import tables
from facedyn.store import metrics_log, representations, scores, stamps

STAGES = ("prepare", "pretrain", "fit", "traits")
SHOWN = 6  # clips that are named as worth a look


@dataclasses.dataclass(frozen=True)
class PeopleMap:
    """People in the plane of the two leading principal components of the z-scored representations."""

    people: list[str]  # P
    coordinates: np.ndarray  # [P, 2]
    shares: np.ndarray  # of the variance, [2]


@dataclasses.dataclass(frozen=True)
class Alike:
    """How similar people are, in the order of the leading component, so that similar ones stand together."""

    people: list[str]  # P
    values: (
        np.ndarray
    )  # cosines [P, P], of first halves with second ones or, without halves, of people with NaN on the diagonal
    half_seconds: float = np.nan  # of usable video in a half, the median


@dataclasses.dataclass(frozen=True)
class SplitOfData:
    """Who is in which split of the data set."""

    hash: str  # of all clips with their people and splits
    people: dict[str, int]  # how many, by split


@dataclasses.dataclass(frozen=True)
class Views:
    """None or empty where it could not be made."""

    people_map: PeopleMap | None = None
    alike: Alike | None = None
    clips: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # frames uint8 [n, H, W, C] of clips, by clip_id
    split: SplitOfData | None = None
    no_data: str = ""  # why the data set could not be opened


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The tables, as their modules describe them."""

    scores: pd.DataFrame  # but for those of the first seconds of video
    first_seconds: pd.DataFrame  # those
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
        return self.scores.loc[self.scores["stage"] == stage]

    @property
    def empty(self) -> bool:
        """Whether no stage has left anything; a log alone says nothing."""
        tables = (self.quality, self.doctor, self.predictions, self.folds, self.weights, self.examples)
        return not (self.stamps or len(self.scores) or len(self.representations) or any(x is not None for x in tables))

    @property
    def trait_metrics(self) -> list[str]:
        """The metrics of traits; ACC, which means something in [0, 1] alone, where all labels are known to lie there."""
        table = self.predictions
        in_unit = table is not None and len(table) > 0 and bool(table["label"].between(0, 1).all())
        return [metric for metric in tables.METRICS if metric != "acc" or in_unit]

    @property
    def without_filters(self) -> str:
        """Whose work is shown where a person's filters are taken away."""
        closed_form = self.stamps.get("fit", {}).get("config", {}).get("fit.solver") == "least_squares"
        return "everybody's common filters" if closed_form else "the generic model"


def load(workdir, pictures: bool) -> Inputs:
    """Reads what there is; `pictures` False leaves the examples out."""
    workdir = pathlib.Path(workdir)

    def table(path, kinds: type | dict = str):
        return bounded.read_csv(path, dtype=kinds, keep_default_na=False) if path.is_file() else None

    examples, quality = workdir / "representations" / "examples.npz", workdir / "quality.parquet"
    scored = scores.load_scores(workdir) if scores.scores_path(workdir).is_file() else scores.empty_scores()
    found = {stage: stamps.read_stamp(workdir, stage) for stage in STAGES}
    return Inputs(
        scores=scored.loc[scored["seconds"] == ""].reset_index(drop=True),
        first_seconds=scored.loc[scored["seconds"] != ""],
        stamps={stage: stamp for stage, stamp in found.items() if stamp},
        log=metrics_log.read_metrics(workdir),
        quality=read_quality_table(quality) if quality.is_file() else None,
        doctor=table(workdir / "doctor.csv"),
        predictions=_predictions(workdir / "traits" / "predictions.parquet", tables.headline(scored)),
        folds=table(workdir / "traits" / "folds.csv"),
        weights=table(workdir / "traits" / "weights_by_site.csv", {"trait": str, "task": str, "site": str}),
        representations=representations.read_rows(workdir / representations.FOLDER),
        examples=bounded.read_arrays(examples) if pictures and examples.is_file() else None,
    )


def _predictions(path, headline) -> pd.DataFrame | None:
    """The headline's rows alone: what every method predicts of thousands of people would fill the memory."""
    if headline is None or not path.is_file():
        return None
    columns = [name for name in bounded.columns_of(path) if name in headline._fields and name != "seed"]
    return bounded.read_table(path, filters=[(name, "=", getattr(headline, name)) for name in columns]).to_pandas()


def worst_used(quality: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(clip_id, person_id, what is amiss) of the clips in the data set that lost or had flagged the most frames, worst first.

    By share of frames lost plus the largest share of a flag, then by jitter. Clips without any of these are not named. Older
    tables lack the flags.
    """
    used = quality.loc[quality["verdict"] == "ok"]
    lost = 1 - used["n_kept"] / frames_seen(used).clip(lower=1)
    flags = {word: f"n_{flag}" for flag, word in FLAGS.items() if f"n_{flag}" in used}
    shares = {word: used[column] / used["n_kept"].clip(lower=1) for word, column in flags.items()}
    flagged = np.max(list(shares.values()), axis=0) if shares else np.zeros(len(used))
    jitter = used["jitter"].fillna(0.0)
    amiss = (lost + flagged).round(6)
    order = np.lexsort((used["clip_id"], -jitter, -amiss))
    found = []
    for i in order[:SHOWN]:
        words = [f"{_percent(lost.iloc[i])} of its frames lost"] if lost.iloc[i] > 0 else []
        words += [f"{word} in {_percent(share.iloc[i])}" for word, share in shares.items() if share.iloc[i] > 0]
        words += [f"jitter {jitter.iloc[i]:.2f} pixels"] if jitter.iloc[i] > 0 else []
        if words:
            found.append((str(used["clip_id"].iloc[i]), str(used["person_id"].iloc[i]), "; ".join(words)))
    return found


def left_out(quality: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(clip_id, path, reason) of the first clips that are not in the data set."""
    out = quality[quality["verdict"] != "ok"].head(SHOWN)
    return [(str(clip), str(path), str(why)) for clip, path, why in zip(out["clip_id"], out["path"], out["reason"])]


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"

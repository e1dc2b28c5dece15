"""`FacialDynamics`: videos -> features, as a transformer of scikit-learn.

    features = facedyn.FacialDynamics().transform("videos")

Without scikit-learn the class works, too, except for pipelines, `clone` and `set_output`.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from data_pipelines import progress
from data_pipelines.errors import InputError

try:
    from sklearn.base import BaseEstimator, TransformerMixin  # pyright: ignore[reportMissingImports, reportAssignmentType]
except ImportError:  # optional: `pip install scikit-learn`

    class TransformerMixin:
        """What is used of scikit-learn's class of this name."""

        fit: Callable[..., Any]
        transform: Callable[..., Any]

        def fit_transform(self, X, y=None, **more):
            """The same as `fit` and then `transform`."""
            return self.fit(X, y).transform(X)

        def set_output(self, **more):
            """Raises ImportError: it is scikit-learn's."""
            raise ImportError(
                "set_output needs scikit-learn: pip install scikit-learn. Without it, transform gives a DataFrame."
            )

    class BaseEstimator:
        """The parts of scikit-learn's class of this name that are used here."""

        def get_params(self, deep=True):
            """{name: value} of the arguments."""
            return {name: getattr(self, name) for name in PARAMETERS}

        def set_params(self, **changes):
            """Changes arguments by name; raises ValueError for an unknown name."""
            for name, value in changes.items():
                if name not in PARAMETERS:
                    raise ValueError(f"FacialDynamics has no argument {name!r}; it has {', '.join(PARAMETERS)}.")
                setattr(self, name, value)
            return self

        def __getstate__(self):
            return self.__dict__.copy()


PARAMETERS = ("model", "level", "settings", "unusable", "progress")
UNUSABLE = (None, "raise", "drop", "mean")


class FacialDynamics(TransformerMixin, BaseEstimator):
    """Features of the people in videos: how their faces move, by a model that was trained before.

    >>> features = FacialDynamics().transform("videos")  # doctest: +SKIP
    >>> features.columns[0]  # doctest: +SKIP
    'scale1.skip0.filters.before.0.0'

    Args:
      model: None for the model in the package; the workdir of a finished run; a file of `facedyn export`.
      level: what one row describes: 'person', 'session' or 'clip'.
      settings: changed settings {name: value} of how faces are found, for example {"data.yunet_model": "yunet.onnx"}. This
        process decodes the videos, unless "data.workers" sets a number of processes (a script then needs
        `if __name__ == "__main__":`).
      unusable: what happens to people without features: 'raise' InputError; 'drop' their rows; 'mean' gives them the features
        of the average person (zeros, as features are standardised). None: 'raise' for a list, because in a pipeline each of
        its elements must have a row, and 'drop' for a folder or a manifest.
      progress: whether progress is written to stderr.

    After `transform` there are also these DataFrames: `quality_` (one row for each row of features, and for people without
    features: n_frames, seconds, ranking_accuracy, reliable, reason), `videos_` (one row per video; `reason` says why one was
    left out), `representations_` (the long table, one row per fit unit and scale, not standardised), `predictions_` (of the
    model's trait heads, where it has some). `partial_fit` adds videos call by call.
    """

    def __init__(self, model=None, level="person", settings=None, unusable=None, progress=False):
        self.model = model
        self.level = level
        self.settings = settings
        self.unusable = unusable
        self.progress = progress

    @classmethod
    def load(cls, model=None, settings: dict | None = None, **more) -> "FacialDynamics":
        """The transformer with its model read at once. Raises InputError for a missing model or a setting that is fixed."""
        return cls(model, settings=settings, **more).fit()

    def fit(self, X=None, y=None) -> "FacialDynamics":
        """Reads the model and checks the arguments; learns nothing from X, so X may contain people of a test fold.

        Videos that `partial_fit` has added are dropped.
        """
        self._checked()
        for name in ("features_", "_gathered"):
            self.__dict__.pop(name, None)
        return self

    def partial_fit(self, X, y=None) -> "FacialDynamics":
        """Adds the videos in X to those of earlier calls: new people, and new clips of known people.

        Afterwards `features_` is what `transform` gives for all these videos together, and `quality_`, `videos_`,
        `representations_` and `predictions_` cover all of them. Only the new videos are read, and only their people are
        fitted again. The states of each clip are kept (with the model in the package 1 MB per minute of video), also in
        a pickle, but not in a clone. A video that was added before counts once.

        Raises InputError as `transform` does, and where another video has the id of a clip, or arguments have changed;
        what was added before is then unchanged.
        """
        from facedyn.stages import embed_update
        from facedyn.stages.embed_videos import collect

        embedder = self._checked()
        videos = collect(X, embedder.config.data.person_pattern)
        return self._gather(embedder, lambda before, work: embed_update.with_videos(embedder, before, videos, work))

    def remove(self, clip_id: str) -> "FacialDynamics":
        """Removes a clip that `partial_fit` added; `videos_.clip_id` has the ids. Raises InputError for an unknown id."""
        from facedyn.stages import embed_update

        embedder = self._checked()
        return self._gather(embedder, lambda before, work: embed_update.without_clip(embedder, before, clip_id, work))

    def _gather(self, embedder, change) -> "FacialDynamics":
        """Replaces what was gathered by change(what was gathered, a folder), and all that is known of it."""
        from facedyn.stages import embed_update

        before = self.__dict__.get("_gathered") or embed_update.empty(embedder)
        if before.made_with != embedder.made_with():
            raise InputError("The model, level or settings have changed since partial_fit: call fit() to begin again.")
        with tempfile.TemporaryDirectory(prefix="facedyn-embed-") as work, progress.shown(bool(self.progress)):
            self._gathered = change(before, work)
        self.features_ = self._features_of(embedder, self._gathered.tables)
        return self

    def _features_of(self, embedder, tables, people=None) -> pd.DataFrame:
        """The features of what was found, all else of which becomes an attribute; people: of each element of a list."""
        self.representations_, self.videos_, self.predictions_ = tables[:3]
        self.quality_ = embedder.quality(tables)
        return _complete(embedder.features(tables.representations), self.quality_, people, self.unusable)

    def transform(self, X) -> pd.DataFrame:
        """The features of the people in X.

        Args:
          X: a folder (each sub-folder is a person, and each file outside of the sub-folders), a manifest (CSV) or a video; or a
            list of videos and of folders of one person's videos: each element is a person and a row, in the order of the list.
        Returns: DataFrame float32 [N, D] without NaN, index person_id (beside it session or clip_id), columns of
          `get_feature_names_out`.
        Raises InputError when there is no video, or none of them can be used (`videos_` says why).
        """
        from facedyn.stages.embed_videos import collect

        embedder = self._checked()
        videos = collect(X, embedder.config.data.person_pattern)
        self.quality_ = self.videos_ = self.predictions_ = self.representations_ = None
        try:
            with tempfile.TemporaryDirectory(prefix="facedyn-embed-") as work, progress.shown(bool(self.progress)):
                found = embedder.embed(videos, work)
        finally:
            self.videos_ = embedder.videos
        return self._features_of(embedder, found, videos.people)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """The names of the columns, as `facedyn.features.feature_names` makes them."""
        return np.asarray(self._embedder().feature_names(), dtype=object)

    def _checked(self):
        """The model. Raises InputError for an argument that cannot be used."""
        if self.unusable not in UNUSABLE:
            raise InputError(f"unusable={self.unusable!r} must be one of {', '.join(map(repr, UNUSABLE))}.")
        return self._embedder()

    def _embedder(self):
        """The model, read once and again when an argument has changed; it is no part of a copy or a pickle."""
        from facedyn.stages import embed_model
        from facedyn.stages.embedder import Embedder

        wanted = repr((self.model, self.level, self.settings))
        if self.__dict__.get("_read", ("",))[0] != wanted:
            self._read = wanted, Embedder(embed_model.load(self.model, self.settings), self.level)
        return self._read[1]

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_read"}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # pyright: ignore[reportAttributeAccessIssue]  # called by scikit-learn alone
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array, tags.input_tags.string = False, True
        return tags


def _complete(table, quality, people, unusable):
    """The table in the order of a list of people, with what `unusable` says of those without features."""
    lacking = quality.index.difference(table.index)
    unusable = unusable or ("raise" if people is not None else "drop")
    if len(lacking) and unusable == "raise":
        name = lacking[0]
        who = name if isinstance(name, str) else name[0]
        raise InputError(
            f"{len(lacking)} of {len(quality)} have no features, for example {who}: {quality.reason[name]}; "
            "unusable='drop' leaves their rows out, 'mean' gives them those of the average person."
        )
    if len(lacking) and unusable == "mean":
        nothing = pd.DataFrame(np.float32(0), index=lacking, columns=table.columns)
        table = pd.concat([table, nothing]).sort_index()
    of_people = table.index.get_level_values(0)
    if people is None or of_people.has_duplicates:
        return table
    return table.iloc[[row for row in of_people.get_indexer(pd.Index(people)) if row >= 0]]

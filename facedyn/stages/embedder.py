"""Videos of new people -> their representations, by a trained model: prepared and fitted as a run's own people are."""

import functools
import pathlib

import numpy as np
import pandas as pd

from data_pipelines import content
from data_pipelines.errors import InputError
from data_pipelines.prepare import prepare_face_clips
from data_pipelines.sources.listing import named
from facedyn import features
from facedyn.core.verdicts import AT_CHANCE, USABLE, chance_level
from facedyn.stages import embed_clips, embed_rates
from facedyn.stages.embed_clips import Known, Named
from facedyn.stages.embed_model import Model, refuse_landmarks
from facedyn.stages.embed_reuse import Tables, as_dict, as_table
from facedyn.stages.embed_videos import Videos
from facedyn.stages.fit import clip_states, fit_stage, shared
from facedyn.stages.fit.units import unit_id
from facedyn.stages.runtime import common, messages
from facedyn.stages.runtime.data_settings import prepare_settings
from facedyn.stages.traits.trait_features import ALL_TASKS
from facedyn.store import portable, representations

OF_HEAD = ("head", "scales", "tasks", "fusion", "note")


class TooFewFrames(InputError):
    """The videos can be used, but of nobody there is enough of them."""


class Embedder:
    """Embeds videos by a model, at a level of `features.LEVELS`.

    `videos` is the newest table of videos, also after an error.
    """

    def __init__(self, model: Model, level: str = "person"):
        features.check_level(level)
        self.model, self.level, self.videos = model, level, None
        config = model.config.copy_and_resolve_references()
        refuse_landmarks(config)
        # Faster videos are brought down to the model's rate; slower ones keep theirs.
        config.data.update(dict(data_dir="", traits=(), pretrain_manifest="", manifest="", fps=model.fps))
        # Of smaller units than the level's a row is their mean, as the model's own people have it.
        unit = config.fit.unit if config.fit.unit in features.UNITS_OF[level] else level
        config.fit.update(dict(splits=(), controls=(), split_half=False, video_seconds=(), unit=unit))
        self.config = config

    def prepare_settings(self):
        """How the videos are prepared."""
        return prepare_settings(self.config, (), min(common.scales(self.config)))

    def made_with(self) -> str:
        """Names the settings, the generic models and the heads."""
        params = [getattr(of, "params", of) for _, of in sorted(self.model.generic.items())]
        shareds = [of for _, of in sorted(self.model.generic.items()) if hasattr(of, "params")]
        learnt = [[np.asarray(x) for x in of if not isinstance(x, dict | tuple)] for of in shareds]
        hashes = [portable.tensors_hash(portable.tensors(tree)) for tree in (*params, *learnt)]
        model = self.model
        return content.named([model.settings, model.fps, hashes, model.heads_hash, self.config.fit.unit, self.level])

    def keeps_states(self) -> bool:
        """Whether states of clips can be kept: those of filters in closed form, and of no others."""
        return shared.is_closed_form(self.config)

    def embed(self, videos: Videos, work) -> Tables:
        """What comes of the videos, without hashes of people.

        Leaves its files in the folder `work`, from where the same call continues after an interruption.

        Raises InputError when none of the videos can be used (`videos` says why).
        """
        face_clips = self._prepare(videos, work)
        # Rows of other videos, settings or models lie in a folder of another name.
        name = content.named([face_clips.metadata["fingerprint"], self.made_with()])[:12]

        def fit(fitting, place):
            model = self.model
            return fit_stage.fit_table(self.config, fitting, face_clips, self._generic, place, model.settings, log=None)[1]

        return self._embedded(face_clips.clips, fit, pathlib.Path(work) / f"representations-{name}")

    def known(self, videos: Videos, names: dict[str, Named], work) -> Known:
        """The videos as clips with their states, which lie in `work`/states; as `embed`, with `names` of embed_clips.names_of.

        Fits nobody: that is for `embed_known`.
        """
        face_clips, folder = self._prepare(videos, work), pathlib.Path(work) / "states"
        known = self.clips(videos, names, folder, face_clips.clips)
        embed_clips.encode(clip_states.make_encode(self.config), self.model.generic, face_clips, known)
        return known

    def clips(self, videos: Videos, names: dict[str, Named], folder, usable=()) -> Known:
        """The videos of the newest table of videos as clips; usable: ClipInfo of those that have frames."""
        scales = common.scales(self.config)
        return embed_clips.prepared(videos.entries, names, usable, self.videos, folder, self.made_with(), scales)

    def embed_known(self, known: Known, work, left_out: pd.DataFrame | None = None) -> Tables:
        """What `embed` gives of the videos of these clips, without a look at them; see `clip_states`.

        left_out: more rows of the table of videos.
        """
        self.videos, reader = embed_clips.videos(known, left_out), embed_clips.reader(known)
        name = content.named(sorted(embed_clips.hashes(known, self.made_with()).items()))[:12]

        def fit(fitting, place):
            return clip_states.fit_table(self.config, fitting, reader, self._generic, place, self.model.settings)

        return self._embedded(reader.clips, fit, pathlib.Path(work) / f"representations-{name}")

    def _embedded(self, clips, fit, place) -> Tables:
        """What comes of clips (ClipInfo); fit(fitting, place) -> units with too few frames leaves its table in `place`."""
        config, model = self.config, self.model
        too_short = fit(self._fitting, place)
        rows, vectors = representations.read_parts(place)
        self.videos = _with_too_short(config, self.videos, clips, too_short, set(rows["unit_id"]))
        if not len(rows):
            raise TooFewFrames(
                f"No person has config.fit.min_frames={config.fit.min_frames} usable centre frames: use longer videos."
            )
        if not np.all(rows["finite"]):
            names = named(rows.loc[~rows["finite"], "unit_id"].unique())
            messages.warning(f"embed: not finite, and marked so in the table: {names}")
        predictions = predict(model.heads, rows, vectors)
        table = judged(rows).assign(representation=list(vectors))
        return Tables(table, self.videos, predictions, {}, as_table(features.seconds_of(clips, self.level)))

    @functools.cached_property
    def _fitting(self):  # once: what it has compiled is kept with it
        return shared.make_fitting(self.config)

    def _generic(self, scale: int, control: str):
        return self.model.generic[scale]

    def _prepare(self, videos: Videos, work):
        """Makes the dataset WORK/data of the clips that can be used, and `videos` of all of them; returns its reader."""
        (entries, left_out, _), work = videos, pathlib.Path(work)
        settings, path, self.videos = self.prepare_settings(), work / "quality.parquet", None
        if not self.model.fps:
            messages.warning("embed: the frame rate that the model was trained at is not known; the videos keep their own.")
        try:
            prepare_face_clips(entries, work / "data", settings, path)
        finally:
            if path.is_file():
                table, slow = embed_rates.judged(pd.read_parquet(path), entries, self.model.fps)
                self.videos = pd.concat([table, left_out], ignore_index=True) if len(left_out) else table
        if slow:
            messages.warning(f"embed: left out, as they have too few frames per second for the model: {named(slow)}")
            if "ok" not in set(table["verdict"]):
                raise InputError(f"Not one of the videos can be used; {slow[0]}: {table.set_index('clip_id').reason[slow[0]]}")
            # The other clips are reused as they are.
            prepare_face_clips([entry for entry in entries if entry.clip_id not in slow], work / "data", settings, path)
        return common.open_data(work / "data", self.config)

    def features(self, table: pd.DataFrame) -> pd.DataFrame:
        """The features of a table of `embed`: see `features.wide`."""
        vectors = np.stack(list(table["representation"]))
        slots, scales = shared.layout(self.config), sorted(common.scales(self.config))
        return features.wide(table, vectors, slots, scales, self.level, self.model.scaling())

    def feature_names(self) -> list[str]:
        """Of the columns of `features`."""
        return features.feature_names(shared.layout(self.config), sorted(common.scales(self.config)))

    def quality(self, tables: Tables) -> pd.DataFrame:
        """How far each row of the features can be trusted, and who has none: see `features.quality`."""
        scales = sorted(common.scales(self.config))
        found = features.quality(tables.representations, scales, self.level, as_dict(tables.seconds))
        return _with_unused(found, tables.videos, self.level)


def _with_too_short(config, videos, clips, too_short, fitted) -> pd.DataFrame:
    """The table of videos, which says why a unit has no filters at its clips."""
    videos = videos.copy()
    for unit, (scale, n) in sorted(too_short.items()):
        why = f"{unit} has {fit_stage.too_few(config, scale, n)}"
        messages.warning(f"embed: {why}: no representation of that scale")
        of_unit = {clip.clip_id for clip in clips if unit_id(clip, config.fit.unit) == unit}
        own = videos["clip_id"].isin(of_unit)
        before = videos.loc[own, "reason"]
        videos.loc[own, "reason"] = np.where(before == "", why, before + "; " + why)
        if unit not in fitted:
            videos.loc[own, "verdict"] = "left_out"
    return videos


def _with_unused(found: pd.DataFrame, videos: pd.DataFrame, level: str) -> pd.DataFrame:
    """The quality table, with the people of whom no video could be used."""
    used = set(found.index.get_level_values(0))
    rows = []
    for person, own in videos.loc[~videos["person_id"].isin([*used, ""])].groupby("person_id"):
        name = (person, "") if level != "person" else person
        reasons = "; ".join(dict.fromkeys(filter(None, own["reason"])))
        rows.append((name, 0, 0.0, np.nan, False, f"no features: {reasons}"))
    if not rows:
        return found
    index = features.index_of([row[0] for row in rows], level)
    more = pd.DataFrame([row[1:] for row in rows], index=index, columns=found.columns)
    return (pd.concat([found, more]) if len(found) else more).sort_index()


def judged(rows) -> pd.DataFrame:
    """The rows with their verdict; a message names who is at chance."""
    accuracy = rows["ranking_accuracy_fitted"].to_numpy(float)  # NaN where no frames were held back to judge by
    words = np.where(accuracy > chance_level("ranking_accuracy", 1), USABLE, AT_CHANCE)
    rows = rows.assign(verdict=np.where(np.isfinite(accuracy), words, ""))
    unsure = rows.loc[rows["verdict"] == AT_CHANCE, "unit_id"].unique()
    if len(unsure):
        messages.warning(
            f"embed: at chance, as the filters rank held-back frames no better than guessing (0.5): {named(unsure)}"
        )
    return rows


def predict(heads: dict, rows, vectors) -> pd.DataFrame:
    """Predictions of the heads {name: SavedHead} for a table of representations: see `Tables.predictions`."""
    tables, names = [], ["person_id", *OF_HEAD, "trait", "prediction"]
    owner = dict(zip(rows["unit_id"].astype(str), rows["person_id"].astype(str)))
    for name, head in heads.items():
        ids, values = head.predict(rows, vectors)
        of = {"unit_id": ids, "person_id": [owner[unit] for unit in ids]} if head.one_by_one else {"person_id": ids}
        unknown = [who for who, own in zip(ids, values) if not np.isfinite(own).all()]
        tasks = sorted({task for _, task in head.blocks} - {ALL_TASKS})
        if unknown and tasks:
            messages.warning(
                f"embed: no prediction by {name} of {named(unknown)}: it was fitted to the tasks {', '.join(tasks)}; "
                "name them in the column task of a manifest, or by the group task of config.data.person_pattern."
            )
        for trait, own in zip(head.traits, values.T):
            columns = {column: getattr(head.key, column) for column in OF_HEAD}
            columns |= dict(trait=trait, prediction=own.astype(float))
            tables.append(pd.DataFrame(of | columns))
    return pd.concat(tables, ignore_index=True).dropna() if tables else pd.DataFrame(columns=names)

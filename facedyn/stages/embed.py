"""Videos of new people -> their representations, by the generic model, the settings and the heads of a trained WORKDIR.

The same way as a run's own people go: prepare, then fit. WORKDIR is only read.
"""

import json
import pathlib
import shutil
import tempfile

import numpy as np
import pandas as pd

from data_pipelines import content
from data_pipelines.errors import InputError
from data_pipelines.faces.quality import QualityRow, quality_table
from data_pipelines.files import atomic_path
from data_pipelines.manifest import read_manifest
from data_pipelines.prepare import prepare_face_clips
from data_pipelines.sources import SourceSettings, folder
from data_pipelines.sources.listing import named
from data_pipelines.suffixes import VIDEOS
from facedyn.config import WITHOUT_EFFECT, check, config_hash, expand_home, with_home
from facedyn.config_files import override
from facedyn.core.verdicts import AT_CHANCE, USABLE, chance_level
from facedyn.stages import embed_rates, embed_reuse
from facedyn.stages.fit import fit_stage, shared
from facedyn.stages.fit.units import unit_id
from facedyn.stages.runtime import common, compilation_cache
from facedyn.stages.runtime.data_settings import prepare_settings
from facedyn.stages.traits import saved_heads
from facedyn.stages.traits.trait_features import ALL_TASKS
from facedyn.store import lock, portable, representations, stamps

# What may differ from the run that made the model: who is shown, how the face is found, how fast it goes.
FREE = (
    *WITHOUT_EFFECT,
    "data.person_pattern",
    "data.yunet_model",
    "data.sface_model",
    "data.detector",
    "data.detect_every",
    "data.main_person",
    "data.min_face_pixels",
    "data.min_confidence",
    "fit.min_frames",
)


class FacialDynamics:
    """A trained workdir, ready for new people's videos.

    >>> model = FacialDynamics.load("runs/mine")  # doctest: +SKIP
    >>> table = model.transform("new_videos")  # doctest: +SKIP

    After `transform`: `quality_` (DataFrame, a row a video; `reason` says why one was left out) and `predictions_` (DataFrame
    person_id, head, scales, tasks, fusion, note, trait, prediction; without rows where the workdir has no heads).
    """

    def __init__(self, config, settings: str, generic: dict, heads: dict, fps: float = 0.0, heads_hash: str = ""):
        """Use `load`. settings: the table's hash; generic: {scale: what the fit needs}; heads: {name: SavedHead}.

        fps: frames per second that the generic model was trained at, 0 = not known; heads_hash: names the heads.
        """
        self.config, self._settings, self._generic, self._heads, self.fps = config, settings, generic, heads, fps
        self.heads_hash, self.quality_, self.predictions_ = heads_hash, None, None

    @classmethod
    def load(cls, workdir, settings: dict | None = None) -> "FacialDynamics":
        """The models of a workdir whose stages pretrain and fit are done.

        settings: changes {name: value}, for example {"data.yunet_model": "yunet.onnx"}; only those of FREE. Clips are decoded
        in this process, unless "data.workers" says how many are to (a script then needs `if __name__ == "__main__":`).
        Raises InputError when there is no trained model, or a setting is none of FREE.
        """
        workdir = pathlib.Path(with_home(str(workdir), "The workdir"))
        config = stamps.stamped_config(workdir, "fit", "pretrain")
        for name, value in ({"data.workers": 1} | (settings or {})).items():
            if not name.startswith(FREE):
                raise InputError(
                    f"embed takes {name} from {workdir}, where the model was made with it; of the settings it can change "
                    f"{', '.join(name.removesuffix('.') for name in FREE)}."
                )
            override(config, name, str(value))
        check(expand_home(config), "embed")
        generic = shared.load_models(config, workdir)
        there = (workdir / saved_heads.FOLDER / saved_heads.DESCRIPTION).is_file()
        heads = saved_heads.load_heads(workdir) if there else {}
        heads_hash = content.of_place(workdir / saved_heads.FOLDER) if there else ""
        return cls(config, config_hash(config), generic, heads, embed_rates.training_fps(config, workdir), heads_hash)

    def transform(self, videos) -> pd.DataFrame:
        """Representations of the people in `videos`: a row a fit unit and scale, as the table of representations has them.

        Args:
          videos: a folder (each sub-folder, or file that lies in none, is a person), a manifest (CSV), a video, or several.
        Returns: DataFrame with the columns of `load_representations` and `representation`, a float32 array [D] a row.
        Raises InputError when there is no video, or none of them can be used (`quality_` says why).
        """
        with tempfile.TemporaryDirectory(prefix="facedyn-embed-") as work:
            return self.embed(videos, work)

    def embed(self, videos, work) -> pd.DataFrame:
        """`transform` that leaves its files in the folder `work`, from where the same call continues after an interruption."""
        entries, left_out = _entries(videos, self._config_for_new_people())
        return self._embed(entries, left_out, pathlib.Path(work))

    def _embed(self, entries, left_out, work) -> pd.DataFrame:
        config = self._config_for_new_people()
        self.quality_ = self.predictions_ = None
        self._prepare(entries, left_out, work, config)
        face_clips = common.open_data(work / "data", config)
        # Rows of other videos, settings or models lie in a folder of another name.
        place = work / f"representations-{self._fingerprint(face_clips)}"
        fitting = shared.make_fitting(config)
        _, too_short = fit_stage.fit_table(config, fitting, face_clips, self._model, place, self._settings, log=None)
        rows, vectors = representations.read_parts(place)
        self._note_too_short(config, face_clips, too_short, set(rows["unit_id"]))
        if not len(rows):
            raise InputError(
                f"No person has config.fit.min_frames={config.fit.min_frames} usable centre frames: use longer videos."
            )
        if not rows["finite"].all():
            print(f"embed: not finite, and marked so in the table: {named(rows.loc[~rows['finite'], 'unit_id'].unique())}")
        self.predictions_ = self._predict(rows, vectors)
        return _judged(rows).assign(representation=list(vectors))

    def _prepare(self, entries, left_out, work, config) -> None:
        """Makes the dataset WORK/data of the clips that can be used, and `quality_` of all of them."""
        settings, path = prepare_settings(config, (), min(common.scales(config))), work / "quality.parquet"
        if not self.fps:
            print(
                "embed: nothing tells at how many frames per second the model was trained; the videos are taken at their own."
            )
        try:
            prepare_face_clips(entries, work / "data", settings, path)
        finally:
            if path.is_file():
                table, slow = embed_rates.judged(pd.read_parquet(path), entries, self.fps)
                self.quality_ = pd.concat([table, left_out], ignore_index=True)
        if slow:
            print(f"embed: left out, as they have too few frames per second for the model: {named(slow)}")
            if not (table["verdict"] == "ok").any():
                raise InputError(f"Not one of the videos can be used; {slow[0]}: {table.set_index('clip_id').reason[slow[0]]}")
            # The other clips are taken over as they are.
            prepare_face_clips([entry for entry in entries if entry.clip_id not in slow], work / "data", settings, path)

    def _model(self, scale: int, control: str):
        return self._generic[scale]

    def _config_for_new_people(self):
        config = self.config.copy_and_resolve_references()
        # Faster videos are brought down to the model's rate; slower ones keep theirs.
        config.data.update(dict(data_dir="", traits=(), pretrain_manifest="", fps=self.fps))
        config.fit.update(dict(splits=(), controls=(), split_half=False))
        return config

    def _fingerprint(self, face_clips) -> str:
        return content.named([face_clips.metadata["fingerprint"], self._made_with()])[:12]

    def _made_with(self) -> str:
        """Names the settings, the generic models and the heads."""
        models = [portable.tensors_hash(portable.tensors(params)) for _, params in sorted(self._generic.items())]
        return content.named([self._settings, self.fps, models, self.heads_hash])

    def _note_too_short(self, config, face_clips, too_short, fitted) -> None:
        """Writes into the quality table why a unit has no filters, at its clips."""
        for unit, (scale, n) in sorted(too_short.items()):
            why = f"{unit} has {fit_stage.too_few(config, scale, n)}"
            print(f"embed: {why}: no representation of that scale")
            clips = {clip.clip_id for clip in face_clips.clips if unit_id(clip, config.fit.unit) == unit}
            own = self.quality_["clip_id"].isin(clips)
            before = self.quality_.loc[own, "reason"]
            self.quality_.loc[own, "reason"] = np.where(before == "", why, before + "; " + why)
            if unit not in fitted:
                self.quality_.loc[own, "verdict"] = "left_out"

    def _predict(self, rows, vectors) -> pd.DataFrame:
        tables, of_head = [], ("head", "scales", "tasks", "fusion", "note")
        names = ["person_id", *of_head, "trait", "prediction"]
        owner = dict(zip(rows["unit_id"].astype(str), rows["person_id"].astype(str)))
        for name, head in self._heads.items():
            ids, values = head.predict(rows, vectors)
            of = {"unit_id": ids, "person_id": [owner[unit] for unit in ids]} if head.one_by_one else {"person_id": ids}
            unknown = [who for who, own in zip(ids, values) if not np.isfinite(own).all()]
            tasks = sorted({task for _, task in head.blocks} - {ALL_TASKS})
            if unknown and tasks:
                print(
                    f"embed: no prediction by {name} of {named(unknown)}: it was fitted to the tasks {', '.join(tasks)}; "
                    "name them in the column task of a manifest, or by the group task of config.data.person_pattern."
                )
            for trait, own in zip(head.traits, values.T):
                columns = {column: getattr(head.key, column) for column in of_head}
                columns |= dict(trait=trait, prediction=own.astype(float))
                tables.append(pd.DataFrame(of | columns))
        return pd.concat(tables, ignore_index=True).dropna() if tables else pd.DataFrame(columns=names)


def _judged(rows) -> pd.DataFrame:
    """The rows with their verdict; prints whose is at chance."""
    rows = rows.assign(verdict=[_verdict(accuracy) for accuracy in rows["ranking_accuracy_fitted"]])
    unsure = rows.loc[rows["verdict"] == AT_CHANCE, "unit_id"].unique()
    if len(unsure):
        print(f"embed: at chance, as the filters rank held-back frames no better than a guess does (0.5): {named(unsure)}")
    return rows


def _verdict(ranking_accuracy: float) -> str:
    """Of one row, '' where no frames were held back to judge by."""
    if not np.isfinite(ranking_accuracy):
        return ""
    return USABLE if ranking_accuracy > chance_level("ranking_accuracy", 1) else AT_CHANCE


def run(videos: str, workdir: str, out: str, overrides: dict, overwrite: bool = False) -> dict:
    """Writes `out` and, named after it, the tables of quality and predictions; returns a summary.

    People of an earlier table at `out` whose clips, settings and models are the same are kept; `overwrite` allows to replace
    the others. What is not finished lies in OUT.unfinished, from where the same command continues. Raises InputError.
    """
    out = pathlib.Path(out).absolute()
    if out.suffix != ".parquet":
        raise InputError(f"--out={out.name} must end with .parquet: the table is written as Parquet.")
    model = FacialDynamics.load(workdir, {"data.workers": 0} | overrides)
    compilation_cache.switch_on(model.config.compilation_cache)
    config, work = model._config_for_new_people(), out.with_suffix(".unfinished")
    entries, left_out = _entries(videos, config)
    people = embed_reuse.hashes_of_people(entries, prepare_settings(config, (), min(common.scales(config))), model._made_with())
    before = embed_reuse.read(out)
    if before and before.people == people:
        print(f"embed: {out} is of these videos, settings and models already: nothing to do")
        return _summary(out, before)
    if not overwrite:
        embed_reuse.refuse(out, before, people)
    same = embed_reuse.kept(before, people)
    todo = [entry for entry in entries if not same or entry.person_id not in same.people]
    if same and same.people:
        print(
            f"embed: {len(same.people)} people are kept from the table that is there, "
            f"{len(people) - len(same.people)} are computed"
        )
    with lock.held(work):
        tables = embed_reuse.merged(same, _computed(model, todo, left_out, work, out, same, people))
        _write_tables(out, tables)
        shutil.rmtree(work)
    return _summary(out, tables)


def _computed(model, entries, left_out, work, out, same, people) -> embed_reuse.Tables:
    """The tables of `entries` alone. Where none of them can be used, that is an error unless others are kept."""
    table = pd.DataFrame()
    try:
        if entries:
            table = model._embed(entries, left_out, work)
    except InputError as error:
        if not same or not len(same.representations) or model.quality_ is None:
            raise
        print(f"embed: {error}")
    finally:
        if model.quality_ is not None and same is None:
            _write(model.quality_, embed_reuse.places(out)[0])
    quality = left_out if model.quality_ is None else model.quality_
    predictions = pd.DataFrame() if model.predictions_ is None else model.predictions_
    own = {entry.person_id for entry in entries}
    return embed_reuse.Tables(table, quality, predictions, {who: name for who, name in people.items() if who in own})


def _write_tables(out, tables) -> None:
    quality, predictions = embed_reuse.places(out)
    _write(tables.quality, quality)
    if len(tables.predictions):
        _write(tables.predictions, predictions)
    else:
        predictions.unlink(missing_ok=True)
    rows = tables.representations.drop(columns="representation").to_dict("records")
    metadata = {embed_reuse.METADATA: json.dumps(tables.people).encode()}
    representations.write_table(out, rows, np.stack(tables.representations["representation"]), metadata)


def _summary(out, tables) -> dict:
    """Prints and returns what is in the tables."""
    quality, predictions = embed_reuse.places(out)
    rows, used = tables.representations, int((tables.quality["verdict"] == "ok").sum())
    people, length = rows["person_id"].nunique(), len(rows["representation"].iloc[0])
    print(f"embed: {used} of {len(tables.quality)} videos used; {quality} says why not the others")
    if len(tables.predictions):
        print(f"embed: predictions of {tables.predictions['trait'].nunique()} traits in {predictions}")
    print(f"embed: {people} people, {len(rows)} representations of {length} values in {out}")
    return {"people": people, "rows": len(rows), "videos": len(tables.quality), "videos_used": used}


def _write(table, path) -> None:
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)


def _entries(videos, config):
    """(ClipEntries, quality rows of the files that are none) of a folder, a manifest, a video or several videos."""
    if isinstance(videos, list | tuple):
        paths = [pathlib.Path(v).expanduser().absolute() for v in videos]
    else:
        paths = [pathlib.Path(videos).expanduser().absolute()]
    first = paths[0] if paths else pathlib.Path()
    if len(paths) == 1 and first.suffix.lower() in (".csv", ".tsv") and first.is_file():
        return read_manifest(first, ()), quality_table([])
    settings = SourceSettings(first, person_pattern=config.data.person_pattern)
    if len(paths) == 1 and first.is_dir():
        collection = folder.collect(settings)
    else:
        for path in paths:
            if not path.is_file():  # a file that is named is tried, whatever its suffix
                raise InputError(f"--videos={path} is no folder, no manifest (CSV) and no video ({', '.join(VIDEOS)}).")
        if not paths:
            raise InputError("No videos are named.")
        collection = folder.by_name(settings, [pathlib.Path(p.name) for p in paths], paths, ())
    for note in collection.notes:
        print(note)
    left_out = [QualityRow(name, "", name).left_out(f"Left out, as {why}.") for name, why in collection.left_out.items()]
    return list(collection.entries), quality_table(left_out)

"""Features: the table of representations with one row per person (session, clip) and a name for every column.

`feature_names` says what each number is, from the layout record alone. Values are standardised by the people whom the generic
model was trained on: 0 is their mean, 1 is one standard deviation above it. Quality is in a table of its own.
"""

import pathlib

import numpy as np
import pandas as pd

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from facedyn.core import blocks
from facedyn.core.verdicts import chance_level

# What a row is, and the columns that name it.
LEVELS = {"person": ("person_id",), "session": ("person_id", "session"), "clip": ("person_id", "clip_id")}
# Fit units of which a row of a level can be made: the level's own, or smaller ones.
UNITS_OF = {"person": ("person", "person_task", "session", "clip"), "session": ("session", "clip"), "clip": ("clip",)}
LAGS = tuple(f"lag{lag}" for lag in blocks.LAGS)
# Labels of a block's leading axes; an axis without labels is numbered.
AXES = {
    "filters": (("before", "after"),),
    "innovations": (blocks.RESIDUALS, blocks.MOMENTS),
    "autocorrelations": (LAGS,),
    "whitened_covariances": (LAGS,),
    "spectrum": (LAGS,),
}
PAIRS = ("step_correlations",)  # their numbers are the pairs i < j of the coordinates


def block_and_site(name: str) -> tuple[str, str]:
    """(block, site) of a slot of the layout record.

    >>> block_and_site("skip0"), block_and_site("skip0_step_correlations")
    (('filters', 'skip0'), ('step_correlations', 'skip0'))
    """
    site, _, block = name.partition("_")
    return block or "filters", site


def feature_names(slots, scales) -> list[str]:
    """Name of every feature, scale by scale: `scale1.skip0.filters.before.3.5`.

    The parts: scale, site, block, and the place in the block, by labels where an axis has them, else by numbers from 0.

    Args:
      slots: the layout record (core.blocks.layout, core.person_filters.layout) of one scale.
      scales: their numbers, in ascending order.

    >>> from facedyn.core.person_filters import Site
    >>> names = feature_names(blocks.layout(("filters", "step_correlations"), (Site("skip0", 4),), 2), (1,))
    >>> names[0], names[-1], len(names)
    ('scale1.skip0.filters.before.0.0', 'scale1.skip0.step_correlations.0.1', 9)
    """
    of_slots = [f"{site}.{block}{place}" for slot in slots for block, site, place in _places(slot)]
    return [f"scale{scale}.{name}" for scale in scales for name in of_slots]


def _places(slot):
    block, site = block_and_site(slot.site)
    if block in PAIRS:
        rank = round((1 + np.sqrt(1 + 8 * slot.size)) / 2)
        yield from ((block, site, f".{i}.{j}") for i, j in zip(*np.triu_indices(rank, 1)))
        return
    axes = [*AXES.get(block, ())][: len(slot.shape)]
    axes = [axis if len(axis) == n else range(n) for axis, n in zip(axes, slot.shape)]
    axes += [range(n) for n in slot.shape[len(axes) :]]
    for place in np.ndindex(slot.shape):
        yield block, site, "".join(f".{axis[i]}" for axis, i in zip(axes, place))


def wide(rows, vectors, slots, scales, level: str, scaling=None) -> pd.DataFrame:
    """The table of features: one row per person, session or clip that has all scales; float32, without NaN.

    Several units of a row count as their mean, weighted by their frames.

    Args:
      rows, vectors: the table of representations, as `load_representations` gives it.
      slots: the layout record; scales: in ascending order.
      level: one of LEVELS.
      scaling: {scale: mean and standard deviation [2, D]} by which the features are standardised; None leaves them as they are.
    """
    found = {}
    for scale in scales:
        keep = ((rows["scale"] == scale) & rows["finite"].astype(bool)).to_numpy()
        own = _named(rows[keep], level)
        values = vectors[keep].astype(np.float64)
        if scaling:
            mean, std = scaling[scale].astype(np.float64)
            values = (values - mean) / std
        groups, keys = pd.factorize(own.index) if len(own) else (np.zeros(0, int), own.index[:0])
        weights = own["n_frames"].to_numpy(float)
        sums = np.zeros((len(keys), values.shape[1]))
        np.add.at(sums, groups, values * weights[:, None])
        found[scale] = pd.DataFrame(sums / np.bincount(groups, weights, len(keys))[:, None], index=keys)
    whole = sorted(set.intersection(*(set(table.index) for table in found.values())))
    index = index_of(whole, level)
    values = np.concatenate([table.loc[whole].to_numpy(np.float32) for table in found.values()], 1)
    return pd.DataFrame(values, index=index, columns=feature_names(slots, scales))


def _named(rows, level):
    """The rows, indexed by what names a row of the level."""
    of_level = [rows["unit_id" if name == "clip_id" else name].astype(str) for name in LEVELS[level]]
    index = pd.MultiIndex.from_arrays(of_level) if len(of_level) > 1 else pd.Index(of_level[0], dtype=str)
    return rows.set_axis(index, axis=0)


def quality(rows, scales, level: str, seconds=None) -> pd.DataFrame:
    """How far each row can be trusted: n_frames, seconds, ranking_accuracy, reliable (yes or no) and the reason.

    n_frames: centre frames of the scale that has most; ranking_accuracy: on held-back frames, mean over the scales, NaN where
    there was too little video to hold any back. People without features have a row, too.

    Args:
      seconds: {row's name: seconds of video}; NaN where it is not known.
    """
    found = []
    for name, own in _named(rows, level).groupby(level=list(range(len(LEVELS[level]))), sort=True):
        name = name if len(name) > 1 else name[0]
        accuracy = own["ranking_accuracy_fitted"].astype(float)
        reason = _reason(own.assign(accuracy=accuracy), scales)
        frames = own.groupby("scale")["n_frames"].sum().max()
        found.append((name, int(frames), (seconds or {}).get(name, np.nan), accuracy.mean(), not reason, reason))
    columns = ("n_frames", "seconds", "ranking_accuracy", "reliable", "reason")
    return pd.DataFrame([entry[1:] for entry in found], index=index_of([entry[0] for entry in found], level), columns=columns)


def index_of(keys, level: str) -> pd.Index:
    """The index of rows of a level, from their names: texts, or tuples that begin with the person."""
    names = LEVELS[level]
    return pd.MultiIndex.from_tuples(keys, names=names) if len(names) > 1 else pd.Index(keys, name=names[0], dtype=str)


def _reason(own, scales) -> str:
    """Why a row cannot be relied on, '' where it can."""
    finite = own[own["finite"].astype(bool)]
    missing = [scale for scale in scales if scale not in set(finite["scale"])]
    if missing:
        return f"no features: nothing could be fitted at scale {', '.join(map(str, missing))}, use longer videos"
    chance, known = chance_level("ranking_accuracy", 1), finite.dropna(subset="accuracy")
    if not len(known):
        return "too little video to hold frames back, on which the fit is checked"
    for scale, accuracy in known.groupby("scale")["accuracy"].mean().items():
        if accuracy <= chance:
            return (
                f"at chance: {accuracy:.2f} of the pairs of held-back frames are in order at scale {scale}, chance is {chance}"
            )
    return ""


def seconds_of(clips, level: str) -> dict:
    """{name of a row: seconds of usable video}; clips: ClipInfo of a dataset."""
    found = {}
    for clip in clips:
        name = {"person": clip.person_id, "session": (clip.person_id, clip.session), "clip": (clip.person_id, clip.clip_id)}
        rate = clip.fps if clip.fps > 0 else np.nan
        found[name[level]] = found.get(name[level], 0.0) + len(clip.frame_indices) / rate
    return found


def check_level(level: str, unit: str | None = None) -> None:
    """Raises InputError for an unknown level, or one that a table with rows of this fit unit cannot give."""
    if level not in LEVELS:
        raise InputError(f"level={level!r} must be one of {', '.join(LEVELS)}.")
    if unit and unit not in UNITS_OF[level]:
        raise InputError(
            f"There is no row per {level} in a table that was fitted by {unit}: fit with config.fit.unit={level} in a "
            "workdir of its own."
        )


def load_features(workdir, level: str = "person", return_quality: bool = False):
    """Features of the people of a finished fit, ready for scikit-learn: one row per person, one named column per feature.

    Args:
      workdir: that of a run whose stage fit is done.
      level: 'person', 'session' or 'clip'; 'session' needs config.fit.unit 'session' or 'clip', 'clip' needs 'clip'.
      return_quality: also gives `load_quality` of the same rows.
    Returns: DataFrame float32 [N, D], index person_id (beside it session or clip_id), columns as `feature_names`, no NaN;
      standardised by the generic model's people where the fit has learnt their mean and spread. People without all scales have
      no row; `load_quality` says why. Raises InputError where there is no table, or none of that level.
    """
    from facedyn.stages.fit import shared
    from facedyn.store import site_files
    from facedyn.store.representations import load_representations

    workdir = pathlib.Path(workdir).expanduser()
    config = _config_of(workdir, level)
    rows, vectors = load_representations(workdir)
    slots, scales = shared.layout(config), sorted(config.rank_loss.scales)
    if sum(slot.size for slot in slots) != vectors.shape[1]:
        raise InputError(f"The representations of {workdir} are not those of its settings: run the stage fit there again.")
    scaling = {scale: site_files.scaling(workdir, scale) for scale in scales}
    known = all(of is not None and of.shape[1] == vectors.shape[1] for of in scaling.values())
    table = wide(rows, vectors, slots, scales, level, scaling if known else None)
    return (table, load_quality(workdir, level).loc[table.index]) if return_quality else table


def load_quality(workdir, level: str = "person") -> pd.DataFrame:
    """How far each row of `load_features` can be trusted, also of those who have no features: see `quality`."""
    from facedyn.stages.runtime.data_settings import data_dir
    from facedyn.store import representations

    workdir = pathlib.Path(workdir).expanduser()
    config, rows = _config_of(workdir, level), representations.read_rows(workdir / representations.FOLDER)
    try:
        seconds = seconds_of(open_face_clips(data_dir(config, workdir)).clips, level)
    except InputError:  # the dataset may be gone
        seconds = None
    return quality(rows, sorted(config.rank_loss.scales), level, seconds)


def _config_of(workdir, level):
    """The settings of a finished fit. Raises InputError where there is none, or none of that level."""
    from facedyn.store import stamps

    config = stamps.stamped_config(workdir, "fit")
    check_level(level, config.fit.unit)
    return config

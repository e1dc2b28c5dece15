"""The headline's heads under WORKDIR/traits/heads: fitted, written, used on new people, and read back to scales and sites.

heads = load_heads(workdir)
ids, predictions = heads["ridge"].predict(*load_representations(other_workdir))
"""

import dataclasses
import json
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pandas as pd

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path, write_text
from facedyn.core import banded_ridge, trait_heads
from facedyn.core import cross_validation as cv
from facedyn.core.weight_shares import parts, weight_shares
from facedyn.stages.fit import shared
from facedyn.stages.runtime import messages
from facedyn.stages.traits import trait_features, trait_predictions
from facedyn.stages.traits.trait_features import ALL_TASKS
from facedyn.store import checkpoints
from facedyn.store.scores import ScoreKey

FOLDER, DESCRIPTION = pathlib.Path("traits", "heads"), "heads.json"
# From which scale, task and site the ridge reads each trait; weights: how many there are; shares: see core/weight_shares.py.
WEIGHTS_BY_SITE = "traits/weights_by_site.csv"
WEIGHT_COLUMNS = ("trait", "scale", "task", "site", "weights", "share_of_squared_weights", "share_of_prediction")


@dataclasses.dataclass(frozen=True)
class SavedHead:
    """A fitted head, with what goes in and what comes out."""

    head: dict  # pytree for `trait_heads.predict`
    traits: tuple[str, ...]
    blocks: tuple[tuple[int, str], ...]  # (scale, task) of the representations that go in, side by side
    rows: str  # what it was fitted to: 'person' or 'clip' (a fit unit)
    key: ScoreKey  # of its scores

    @property
    def one_by_one(self) -> bool:
        """Whether it predicts fit units, not people: `traits.aggregate` was 'none'."""
        return self.key.aggregate == "none"

    def predict(self, rows, vectors):
        """Predictions for whoever is in a table of representations made by the same generic model and fit settings.

        A task or scale that a person lacks counts as the training people's mean; a person without any gets NaN.

        Args: rows, vectors: as of `load_representations`; rows that are not finite are left out.
        Returns: (ids of the people, sorted; float32 [P, T], in the labels' unit); of the fit units where `one_by_one`.
        Raises InputError when the representations are not of the length that the head was fitted to.
        """
        width, blocks = self.head["mean"].shape[-1], len(self.blocks)
        if vectors.shape[1] * blocks != width:
            raise InputError(
                f"The representations have {vectors.shape[1]} values, the saved head expects {width // blocks}: embed with the"
                f" generic model and the settings of `fit` of the head's workdir."
            )
        predicted = "unit_id" if self.one_by_one else "person_id"
        ids = sorted(set(rows[predicted].astype(str)))
        finite = np.asarray(rows["finite"], bool) & np.isfinite(vectors).all(1)
        rows, vectors = rows[finite].reset_index(drop=True), vectors[finite]
        if {task for _, task in self.blocks} == {ALL_TASKS}:
            tasks = np.full(len(rows), ALL_TASKS, object)
        else:  # here a single task keeps its name
            tasks = np.asarray(rows["task"].astype(str).replace("", "unnamed"), object)
        keys = rows["person_id" if self.rows == "person" else "unit_id"].astype(str)
        wanted = sorted(set(keys))
        number = {name: i for i, name in enumerate(ids)}
        counts_for = dict(zip(keys, rows[predicted].astype(str)))
        found = trait_features.mean_blocks(rows, vectors, tasks, keys, wanted)
        absent = np.full((len(wanted), width // blocks), np.nan, np.float32)
        x = np.concatenate([found.get(block, absent) for block in self.blocks], 1)
        predictions = np.array(trait_heads.predict(self.head, jnp.asarray(x)))
        predictions[np.isnan(x).all(1)] = np.nan
        places = np.array([number[counts_for[key]] for key in wanted], int)
        return ids, trait_features.mean_by_person(predictions, places, len(ids)).astype(np.float32)


def fit_heads(config, samples, fold, mlp_head, marks: dict, trait_names) -> tuple[dict[str, SavedHead], dict[str, dict]]:
    """The headline's heads as `write_heads` takes them: ({name: SavedHead}, {name: what else to note}).

    mlp_head: fitted with the cross-validation, or None; marks: columns that the keys of their scores have.
    """
    first = trait_features.feature_sets(samples.blocks)[0]
    used = trait_predictions.head_rows(fold)[samples.row_of]
    heads, described = {}, {}
    x, people = trait_features.matrix(samples.blocks, first)[used], samples.owner[used]
    weights, settings = samples.weights_for(x.shape[1]), trait_predictions.ridge_settings(config)
    if trait_predictions.BANDED in config.traits.heads:
        bands = samples.bands_for(x.shape[1])
        heads[trait_predictions.BANDED], fitted = banded_ridge.fit_head(x, samples.labels[used], people, bands, weights)
        described[trait_predictions.BANDED] = {"log_strengths": dict(zip(trait_names, fitted.log_strengths.tolist()))}
    if "ridge" in config.traits.heads:
        heads["ridge"], penalties, components = cv.fit_ridge(x, samples.labels[used], people, settings, weights)
        chosen = (dict(zip(trait_names, map(float, values))) for values in (penalties, components))
        described["ridge"] = dict(zip(("penalties", "components"), chosen))
    if mlp_head is not None:
        heads["mlp"] = mlp_head
    rows = "person" if config.traits.aggregate == "person" else "clip"
    return {
        name: SavedHead(head, tuple(trait_names), first.blocks, rows, first.key(name, **marks)) for name, head in heads.items()
    }, described


def write_heads(workdir, heads: dict[str, SavedHead], described: dict[str, dict]) -> None:
    """traits/heads/<name> for each, and heads.json, which says what goes in and comes out; `described` adds to it."""
    folder = pathlib.Path(workdir) / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    for name, saved in heads.items():
        checkpoints.save_pytree(folder / name, saved.head)
    text = {
        name: dict(traits=saved.traits, blocks=saved.blocks, rows=saved.rows, key=saved.key._asdict()) | described.get(name, {})
        for name, saved in heads.items()
    }
    write_text(folder / DESCRIPTION, json.dumps(text, indent=1) + "\n")


def load_heads(workdir) -> dict[str, SavedHead]:
    """{'ridge': ..., 'mlp': ...} as the stage `traits` left them. Raises InputError when there are none."""
    folder = pathlib.Path(workdir) / FOLDER
    if not (folder / DESCRIPTION).is_file():
        raise InputError(f"There are no trait heads in {workdir}; run the stage `traits` on people with labels first.")
    described = bounded.read_json(folder / DESCRIPTION)
    return {
        name: SavedHead(
            checkpoints.load_pytree(folder / name),
            tuple(d["traits"]),
            tuple((int(scale), task) for scale, task in d["blocks"]),
            d["rows"],
            ScoreKey(**d["key"]),
        )
        for name, d in described.items()
    }


def write_weights_by_site(config, workdir, heads, x) -> None:
    """From which scale, task and site the leading ridge reads each trait; x [N, D]: what it was fitted to.

    No table is left where there is no ridge, or where the representations are not laid out as config says, which a line says.
    """
    (workdir / WEIGHTS_BY_SITE).unlink(missing_ok=True)
    saved = heads.get(trait_predictions.BANDED) or heads.get("ridge")
    if saved is None:
        return
    slots = shared.layout(config)
    length, width = sum(slot.size for slot in slots), x.shape[1] // len(saved.blocks)
    if length != width:
        expected = f"config.model.channels and config.fit's filters {length}"
        messages.warning(f"traits: no {WEIGHTS_BY_SITE}: representations have {width} weights, {expected}")
        return
    stretches = parts(saved.blocks, slots)
    squared, predicted = weight_shares(saved.head, x, stretches)
    rows = [
        (trait, part.scale, part.task, part.site, part.size, squared[t, g], predicted[t, g])
        for t, trait in enumerate(saved.traits)
        for g, part in enumerate(stretches)
    ]
    with atomic_path(workdir / WEIGHTS_BY_SITE) as temporary:
        pd.DataFrame(rows, columns=list(WEIGHT_COLUMNS)).to_csv(
            temporary, index=False, float_format="%.6g", lineterminator="\n"
        )

"""The headline's heads under WORKDIR/traits/heads: fitted, written, and used on the representations of new people.

heads = load_heads(workdir)
ids, predictions = heads["ridge"].predict(*load_representations(other_workdir))
"""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.files import write_text
from facedyn.core import trait_heads
from facedyn.stages.traits import trait_features
from facedyn.stages.traits.trait_features import ALL_TASKS
from facedyn.store import checkpoints
from facedyn.store.scores import parse_setting

FOLDER, DESCRIPTION = pathlib.Path("traits", "heads"), "heads.json"


@dataclasses.dataclass(frozen=True)
class SavedHead:
    """A fitted head, with what goes in and what comes out."""

    head: dict  # pytree for `trait_heads.predict`
    traits: tuple[str, ...]
    blocks: tuple[tuple[int, str], ...]  # (scale, task) of the representations that go in, side by side
    rows: str  # what it was fitted to: 'person' or 'clip' (a fit unit)
    setting: str  # as scores.csv names it

    @property
    def one_by_one(self) -> bool:
        """Whether it predicts fit units, not people: `traits.aggregate` was 'none'."""
        return parse_setting(self.setting).get("aggregate") == "none"

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
                f" generic model and the settings of `fit` that the head's workdir has."
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
        return ids, trait_features.mean_by_person(predictions, places, len(ids))


def write_heads(workdir, heads: dict[str, SavedHead], described: dict[str, dict]) -> None:
    """traits/heads/<name> for each, and heads.json, which says what goes in and comes out; `described` adds to it."""
    folder = pathlib.Path(workdir) / FOLDER
    checkpoints.remove(folder)
    for name, saved in heads.items():
        checkpoints.save_pytree(folder / name, saved.head)
    text = {
        name: {field.name: getattr(saved, field.name) for field in dataclasses.fields(saved) if field.name != "head"}
        | described.get(name, {})
        for name, saved in heads.items()
    }
    write_text(folder / DESCRIPTION, json.dumps(text, indent=1) + "\n")


def load_heads(workdir) -> dict[str, SavedHead]:
    """{'ridge': ..., 'mlp': ...} as the stage `traits` left them. Raises InputError when there are none."""
    folder = pathlib.Path(workdir) / FOLDER
    if not (folder / DESCRIPTION).is_file():
        raise InputError(f"There are no trait heads in {workdir}; run the stage `traits` on people with labels first.")
    described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return {
        name: SavedHead(
            checkpoints.load_pytree(folder / name),
            tuple(d["traits"]),
            tuple((int(scale), task) for scale, task in d["blocks"]),
            d["rows"],
            d["setting"],
        )
        for name, d in described.items()
    }

"""From tables to matrices for the stage `traits`: labels, rows that heads are fitted to, and the feature sets compared.

A block is what one scale and one task say of every row; a feature set is one or several blocks side by side. A row is a
person, or a fit unit of his or hers.
"""

import dataclasses

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.sources.listing import named
from facedyn.core.verdicts import MIN_PEOPLE
from facedyn.stages.runtime import messages
from facedyn.store.scores import ScoreKey, joined

ALL_TASKS = "all"
# How many ids a line names before it says "and so many more".
NAMED = 8
OTHER_UNITS = "None of the table's units is one of the dataset's, as config.fit.unit now says: run the stage fit again."


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Blocks that are used together. `tasks` is a task's name or 'all'; blocks are keys (scale, task) in order."""

    scales: tuple[int, ...]
    tasks: str
    blocks: tuple[tuple[int, str], ...]

    def key(self, head: str, fusion: str = "features", **more: str) -> ScoreKey:
        """Of the representation's scores with these features; a single block has nothing to fuse."""
        fusion = fusion if len(self.blocks) > 1 else ""
        return ScoreKey("representation", head=head, scales=joined(self.scales), tasks=self.tasks, fusion=fusion, **more)


@dataclasses.dataclass(frozen=True)
class Samples:
    """What heads are fitted to and predict. What is scored is a person, or a unit where each is scored by itself."""

    scored: int  # P, how many are scored
    row_of: np.ndarray  # int [R], number of what the row counts for, in 0 .. P - 1
    owner: np.ndarray  # int [R], number of the row's person; inner folds keep a person's rows together
    labels: np.ndarray  # float64 [R, T], NaN = missing
    blocks: dict  # {(scale, task): float32 [R, D]}, a row of NaN where there is none
    weights: np.ndarray | None = None  # [D] of the z-scored features of a block; None for ones
    bands: np.ndarray | None = None  # int [D], of which block of the representation each is; None: of none
    names: tuple[str, ...] = ()  # of these blocks

    def weights_for(self, width: int) -> np.ndarray | None:
        """[width], for whole blocks side by side; what stands behind them has ones."""
        if self.weights is None:
            return None
        blocks = np.tile(self.weights, width // len(self.weights))
        return np.pad(blocks, (0, width - len(blocks)), constant_values=1.0)

    def bands_for(self, width: int) -> np.ndarray:
        """int [width], for the blocks of all scales and tasks side by side: a band is a block at a scale.

        Band n is of the block n % B of this representation's B; what comes after the blocks is one more band.
        """
        own = np.zeros(width, int) if self.bands is None else self.bands
        several, scales = own.max() + 1, len({scale for scale, _ in self.blocks}) or 1
        blocks = np.tile(own, width // len(own))
        blocks = blocks + several * (np.arange(len(blocks)) * scales // max(len(blocks), 1))
        return np.pad(blocks, (0, width - len(blocks)), constant_values=blocks.max() + 1)

    def as_scored(self, predictions) -> np.ndarray:
        """Predictions [R, T] averaged for each of what is scored: float32 [P, T]."""
        return mean_by_person(predictions, self.row_of, self.scored).astype(np.float32)


def mean_by_person(values, person, people: int) -> np.ndarray:
    """Mean of the known values [R, T] of each person (int [R] in 0 .. P - 1): float64 [P, T], NaN for one without any."""
    total, count = np.zeros((2, people, values.shape[1]))
    known = np.isfinite(values)
    np.add.at(total, person, np.where(known, values, 0.0))
    np.add.at(count, person, known)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def labels_by_person(face_clips, records) -> tuple[list[str], np.ndarray]:
    """Mean label of each person over his or her labelled clips: (sorted ids, float64 [N, T]); NaN where no clip has one."""
    clips = {face_clips.clips[i].clip_id: face_clips.clips[i] for i in records}.values()
    people, person = np.unique([clip.person_id for clip in clips], return_inverse=True)
    labels = np.array([clip.traits for clip in clips], np.float64).reshape(len(clips), len(face_clips.trait_names))
    return people.tolist(), mean_by_person(labels, person, len(people))


def tasks_of(rows) -> np.ndarray:
    """Task of each row of the table: 'all' where units span tasks or there is one task only, 'unnamed' where it is ''."""
    tasks = np.asarray(rows["task"].astype(str))
    if len(set(tasks)) < 2:
        return np.full(len(rows), ALL_TASKS, object)
    if ALL_TASKS in tasks:
        raise InputError(
            f"A task is called {ALL_TASKS!r}, which means all tasks together in the scores; rename it in the manifest."
        )
    return np.where(tasks == "", "unnamed", tasks).astype(object)


def blocks_by_person(rows, vectors, people) -> dict[tuple[int, str], np.ndarray]:
    """{(scale, task): float32 [P, D]}: each person's mean representation; a row of NaN for one who has none.

    `rows` and `vectors` as of `load_representations`; people who are not in `people` are left out.
    """
    return mean_blocks(rows, vectors, tasks_of(rows), rows["person_id"].astype(str), people)


def samples_by_person(rows, vectors, people, labels) -> Samples:
    """One row per person. labels [P, T]."""
    number = np.arange(len(people))
    return Samples(len(people), number, number, labels, blocks_by_person(rows, vectors, people))


def samples_by_unit(rows, vectors, people, unit_labels, labels) -> Samples:
    """One row per fit unit, with its own label, counted for its person.

    Args: unit_labels: {unit_id: [T]}; a unit that is not in it is left out; labels [P, T] count where a unit has none.
    """
    number = {person: i for i, person in enumerate(people)}
    owner = dict(zip(rows["unit_id"].astype(str), rows["person_id"].astype(str)))
    units = sorted(unit for unit, person in owner.items() if person in number and unit in unit_labels)
    if not units:
        raise InputError(OTHER_UNITS)
    person = np.array([number[owner[unit]] for unit in units])
    own = np.array([unit_labels[unit] for unit in units])
    own = np.where(np.isfinite(own), own, labels[person])
    return Samples(len(people), person, person, own, blocks_by_unit(rows, vectors, units))


def blocks_by_unit(rows, vectors, units) -> dict[tuple[int, str], np.ndarray]:
    """{(scale, task): float32 [len(units), D]}, NaN where there is none.

    All tasks together are all units, a single task the units of that task.
    """
    tasks, ids = tasks_of(rows), rows["unit_id"].astype(str)
    blocks = mean_blocks(rows, vectors, np.full(len(rows), ALL_TASKS, object), ids, units)
    return blocks | (mean_blocks(rows, vectors, tasks, ids, units) if len(set(tasks)) > 1 else {})


def labels_by_unit(face_clips, records, unit_of) -> dict[str, np.ndarray]:
    """{unit_id: mean label [T] over the unit's labelled clips, NaN where there is none}; unit_of: clip -> unit_id."""
    found = {}
    for clip in {face_clips.clips[i].clip_id: face_clips.clips[i] for i in records}.values():
        found.setdefault(unit_of(clip), []).append(clip.traits)
    return {unit: mean_by_person(np.array(own, float), np.zeros(len(own), int), 1)[0] for unit, own in found.items()}


def mean_blocks(rows, vectors, tasks, keys, wanted):
    """{(scale, task): float32 [len(wanted), D]}: mean of the vectors of each key, NaN where there is none."""
    number = {key: i for i, key in enumerate(wanted)}
    index = np.array([number.get(key, -1) for key in keys], int)
    blocks = {}
    for scale in sorted(set(rows["scale"])):
        for task in sorted(set(tasks)):
            chosen = (np.asarray(rows["scale"]) == scale) & (tasks == task) & (index >= 0)
            total, count = np.zeros((len(wanted), vectors.shape[1]), np.float32), np.zeros(len(wanted), np.float32)
            np.add.at(total, index[chosen], vectors[chosen])
            np.add.at(count, index[chosen], 1.0)
            total[count == 0] = np.nan
            total /= np.maximum(count, 1.0)[:, None]
            blocks[int(scale), task] = total
    return blocks


def feature_sets(blocks) -> list[FeatureSet]:
    """What is compared: every scale, and all of them, with every task, and all of them; the headline, all of both, first."""
    scales, tasks = sorted({scale for scale, _ in blocks}), sorted({task for _, task in blocks} - {ALL_TASKS})
    together = [ALL_TASKS] if (scales[0], ALL_TASKS) in blocks else tasks
    scale_choices = ([tuple(scales)] if len(scales) > 1 else []) + [(scale,) for scale in scales]
    task_choices = [(ALL_TASKS, together)] + ([(task, [task]) for task in tasks] if len(tasks) > 1 else [])
    return [
        FeatureSet(chosen, name, tuple((scale, task) for scale in chosen for task in members))
        for name, members in task_choices
        for chosen in scale_choices
    ]


def matrix(blocks, feature_set: FeatureSet) -> np.ndarray:
    """The blocks of a feature set side by side: float32 [N, D]."""
    first, *others = (blocks[key] for key in feature_set.blocks)
    return np.concatenate([first, *others], 1) if others else first


def finite_rows(rows, vectors):
    """Without the units whose representation is not finite; a line says which."""
    finite = np.asarray(rows["finite"], bool) & np.isfinite(vectors).all(1)
    if finite.all():
        return rows, vectors
    bad = [f"{unit} (scale {scale})" for unit, scale in zip(rows["unit_id"][~finite], rows["scale"][~finite])]
    messages.warning(f"traits: {len(bad)} representations are not finite and are left out: {named(sorted(bad), NAMED)}")
    return rows[finite].reset_index(drop=True), vectors[finite]


def people_to_score(rows, people, labels, trait_names):
    """People with a label and a representation, and the traits that enough of them have; lines say what is left out.

    labels [P, T] of `people`. Returns: people, their labels, names of the traits.
    """
    represented = set(rows["person_id"].astype(str))
    has_label = np.isfinite(labels).any(1)
    lost = [p for p, known in zip(people, has_label) if known and p not in represented]
    if lost:
        messages.warning(
            f"traits: {len(lost)} people have labels but no representation and are left out: {named(sorted(lost), NAMED)}"
        )
    keep = np.array([p in represented for p in people]) & has_label
    counts = np.isfinite(labels[keep]).sum(0)
    enough = counts >= MIN_PEOPLE
    for name, count in zip(trait_names, counts):
        if count < MIN_PEOPLE:
            messages.warning(f"traits: {name} is left out, {count} people have a label for it and {MIN_PEOPLE} are needed")
    keep &= np.isfinite(labels[:, enough]).any(1)
    kept_names = tuple(name for name, ok in zip(trait_names, enough) if ok)
    return [p for p, k in zip(people, keep) if k], labels[keep][:, enough], kept_names


def log_missing_blocks(blocks, people) -> None:
    """A line for every scale and task that some people lack."""
    for (scale, task), block in blocks.items():
        absent = np.isnan(block).all(1)
        if absent.any():
            who = named(sorted(np.asarray(people)[absent]), NAMED)
            messages.warning(
                f"traits: {absent.sum()} people have no representation of scale {scale}, task {task}: {who}; "
                "alone it is scored without them; together with others, the training people's mean stands in for it"
            )

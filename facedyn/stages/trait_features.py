"""From tables to matrices for the stage `traits`: labels per person, and the feature sets that are compared.

A block is what one scale and one task say of every person; a feature set is one or several blocks side by side.
"""

import dataclasses

import numpy as np

from data_pipelines.errors import InputError

ALL_TASKS = "all"


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Blocks that are used together. `tasks` is a task's name or 'all'; blocks are keys (scale, task) in order."""

    scales: tuple[int, ...]
    tasks: str
    blocks: tuple[tuple[int, str], ...]

    def setting(self, head: str, fusion: str = "features") -> str:
        """As scores.csv writes it; a single block has nothing to fuse."""
        task = self.tasks.replace(";", ",")  # a semicolon separates the parts of a setting
        text = f"{head};scales={'+'.join(map(str, self.scales))};tasks={task}"
        return text + (f";fusion={fusion}" if len(self.blocks) > 1 else "")


def labels_by_person(face_clips, records) -> tuple[list[str], np.ndarray]:
    """Mean label of each person over his or her labelled clips: (sorted ids, float64 [N, T]); NaN where no clip has one."""
    clips = {face_clips.clips[i].clip_id: face_clips.clips[i] for i in records}  # parts of a clip repeat its labels
    people = sorted({clip.person_id for clip in clips.values()})
    number = {person: i for i, person in enumerate(people)}
    total = np.zeros((len(people), len(face_clips.trait_names)))
    count = np.zeros_like(total)
    for clip in clips.values():
        known = np.isfinite(clip.traits)
        total[number[clip.person_id]] += np.where(known, clip.traits, 0.0)
        count[number[clip.person_id]] += known
    return people, np.where(count > 0, total / np.maximum(count, 1), np.nan)


def blocks_by_person(rows, vectors, people) -> dict[tuple[int, str], np.ndarray]:
    """{(scale, task): float32 [N, D]}: each person's mean representation; a row of NaN for one who has none.

    Where units span tasks, or there is one task only, the task is 'all'. `rows` and `vectors` as of `load_representations`;
    people who are not in `people` are left out.
    """
    tasks = np.asarray(rows["task"].astype(str))
    if len(set(tasks)) < 2:
        tasks = np.full(len(rows), ALL_TASKS)
    elif ALL_TASKS in tasks:
        raise InputError(
            f"A task is called {ALL_TASKS!r}, which means all tasks together in the scores; rename it in the manifest."
        )
    elif "" in tasks:
        tasks = np.where(tasks == "", "unnamed", tasks)
    number = {person: i for i, person in enumerate(people)}
    index = np.array([number.get(person, -1) for person in rows["person_id"].astype(str)], int)
    blocks = {}
    for scale in sorted(set(rows["scale"])):
        for task in sorted(set(tasks)):
            chosen = (np.asarray(rows["scale"]) == scale) & (tasks == task) & (index >= 0)
            total, count = np.zeros((len(people), vectors.shape[1]), np.float32), np.zeros(len(people), np.float32)
            np.add.at(total, index[chosen], vectors[chosen])
            np.add.at(count, index[chosen], 1.0)
            total[count == 0] = np.nan
            blocks[int(scale), task] = total / np.maximum(count, 1.0)[:, None]
    return blocks


def feature_sets(blocks) -> list[FeatureSet]:
    """What is compared: every scale, and all of them, with every task, and all of them; the headline, all of both, first."""
    scales, tasks = sorted({scale for scale, _ in blocks}), sorted({task for _, task in blocks})
    scale_choices = ([tuple(scales)] if len(scales) > 1 else []) + [(scale,) for scale in scales]
    task_choices = [(ALL_TASKS, tasks)] + ([(task, [task]) for task in tasks] if len(tasks) > 1 else [])
    return [
        FeatureSet(chosen, name, tuple((scale, task) for scale in chosen for task in members))
        for name, members in task_choices
        for chosen in scale_choices
    ]


def matrix(blocks, feature_set: FeatureSet) -> np.ndarray:
    """The blocks of a feature set side by side: float32 [N, D]."""
    return np.concatenate([blocks[key] for key in feature_set.blocks], 1)


def aligned_rows(people, ids, features) -> np.ndarray:
    """Rows of `features` [M, d], which belong to `ids`, in the order of `people`: float32 [N, d], NaN where there is none."""
    number = {person: i for i, person in enumerate(ids)}
    out = np.full((len(people), features.shape[1]), np.nan, np.float32)
    for row, person in enumerate(people):
        if person in number:
            out[row] = features[number[person]]
    return out

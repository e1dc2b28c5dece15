"""Figures of a table of representations: ranking accuracy on frames held back, and how well people are told apart."""

import pathlib
from functools import partial

import jax.numpy as jnp
import numpy as np
import pandas as pd

from facedyn.core import identification, metrics
from facedyn.stages.fit.shared import Features
from facedyn.stages.runtime import keys
from facedyn.store import representations
from facedyn.store.scores import ON_STATES, ScoreKey, joined

HALVES = "halves"
# Leading principal components whose intraclass correlation is given.
COMPONENTS = 10
# Sessions (tasks, clips) of a person that are looked up among the others', at most.
TURNS = 8


def score_rows(config, folder, features: Features, control: str = "") -> list[dict]:
    """Rows for scores.csv of the table in `folder`; those of a control's table bear its name.

    By person: ranking accuracy before and after the fit; identification by the halves of a person's frames and, where
    the units keep them apart, across sessions and across tasks; across clips where there are neither. Identification is by all
    blocks of the representation, and by each alone. All numbers have equal weight: those that heads use are chosen for traits.
    What is fitted to clips played backwards is looked up among what is fitted to the same clips played forwards.
    """
    rows, vectors = representations.read_parts(folder)
    found = _ranking_rows(config, rows[rows["finite"].astype(bool)], control)
    forwards = pathlib.Path(folder).parent if control == representations.REVERSED else None
    found += _of_folder(config, folder, rows, vectors, features, control, forwards)
    for seconds in config.fit.video_seconds:
        first = folder / representations.FIRST_SECONDS.format(seconds)
        of_first = _of_folder(config, first, *representations.read_parts(first), features, control)
        found += [row | {"seconds": f"{seconds:g}"} for row in of_first]
    return found


def _of_folder(config, folder, rows, vectors, features: Features, control: str, among=None) -> list[dict]:
    """Identification by the halves in the folder, and by the units whose `rows` and `vectors` these are.

    among: the folder of the tables among which those are looked up; None: the same ones.
    """
    found, across = [], []
    if config.fit.split_half:
        halves = representations.read_parts(folder / HALVES)
        halves = _halves_of_two(halves, representations.read_parts(among / HALVES)) if among else halves
        found += _of_all_blocks(config, *halves, lambda *of: [half_vectors(*of)], control or "split_half", features)
    gallery = representations.read_parts(among) if among else None
    for kind in ("session", "task"):
        across += _of_all_blocks(config, rows, vectors, partial(_across, kind), f"cross_{kind}", features, control, gallery)
    if not across and config.fit.unit == "clip":
        pair = partial(_across, "unit_id")
        across = _of_all_blocks(config, rows, vectors, pair, "cross_clip", features, control, gallery)
    return found + across


def _halves_of_two(*tables):
    """(rows, vectors) of the first halves of one table and the second halves of another."""
    kept = [rows["unit_id"].str[-1] == half for (rows, _), half in zip(tables, "12")]
    rows = pd.concat([rows[chosen] for (rows, _), chosen in zip(tables, kept)], ignore_index=True)
    return rows, np.concatenate([vectors[chosen] for (_, vectors), chosen in zip(tables, kept)])


def _of_all_blocks(config, rows, vectors, pair, method, features: Features, control="", gallery=None) -> list[dict]:
    """Rows of the whole representation, and the look-up alone by each of its blocks where there are several.

    gallery: (rows, vectors) that `pair` is given, too; None: it is given none.
    """

    def paired(columns):
        return partial(pair, gallery=(gallery[0], gallery[1][:, columns])) if gallery else pair

    if len(vectors) and vectors.shape[1] != len(features.bands):  # of another fit than config says
        features = Features((), np.zeros(vectors.shape[1], int), None)
    found = _identification_rows(config, rows, vectors, paired(slice(None)), method, control)
    for number, name in enumerate(features.names if len(features.names) > 1 and found else ()):
        chosen = features.bands == number
        if chosen.any():
            own = _identification_rows(config, rows, vectors[:, chosen], paired(chosen), method, control, look_up_only=True)
            found += [row | {"block": name} for row in own]
    return found


def _row(key: ScoreKey, metric, figures, n) -> dict:
    value, low, high = map(float, figures)
    return key._asdict() | dict(metric=metric, value=value, low=low, high=high, n=n)


def _ranking_rows(config, rows, control) -> list[dict]:
    found, columns = [], ["ranking_accuracy_generic", "ranking_accuracy_fitted"]
    note = ON_STATES if config.fit.solver == "least_squares" else ""
    for scale, of_scale in rows.groupby("scale"):
        people = of_scale.groupby("person_id")[columns].mean().dropna()
        before, after = (people[column].to_numpy() for column in columns)
        values = {control: after} if control else {"generic": before, "representation": after}
        values |= {} if control else {"representation_minus_generic": after - before}
        for method, of_people in values.items() if len(people) else ():
            figures = metrics.bootstrap_mean(of_people, keys.key(config.seed, "fit_intervals"), config.traits.bootstrap)
            found.append(_row(ScoreKey(method, scales=str(scale), note=note), "ranking_accuracy", figures, len(people)))
    return found


def _identification_rows(config, table, vectors, pair, method, control="", look_up_only=False) -> list[dict]:
    """Top-1, mean reciprocal rank, distances within and between people, ICC of leading components; by scale and by all.

    pair: (table, vectors, scales) -> rounds of queries and gallery, [N, D] each, of the same N people, and the scales whose
    vectors stand side by side in them; a person's figures are the means over the rounds.
    """
    found, key, n = [], keys.key(config.seed, "fit_intervals"), config.traits.bootstrap
    scales = sorted(table["scale"].unique())
    for chosen in [[s] for s in scales] + ([scales] if len(scales) > 1 else []):
        ranks, distances, leading = [], [], []
        for queries, gallery, _ in pair(table, vectors, chosen):
            if len(queries) > 1:
                rank, *apart = identification.look_up(queries, gallery)
                ranks.append(rank)
                distances.append(apart)
                if not look_up_only:
                    leading.append(identification.leading_components(queries, gallery, COMPONENTS))
        if not ranks:
            continue
        people = len(ranks[0])
        score_key = ScoreKey(method, scales=joined(chosen), unit=config.fit.unit, control=control)
        ranks, (within, between) = np.array(ranks), np.array(distances).swapaxes(0, 1)  # [R, N] each
        values = {"top1": ranks == 1, "mrr": 1 / ranks}
        values |= {} if look_up_only else {"within_distance": within, "between_distance": between}
        for metric, of_people in values.items():
            found.append(_row(score_key, metric, metrics.bootstrap_mean(of_people.mean(0), key, n), people))
        if look_up_only:
            continue
        first, second = (jnp.concatenate(side, 1) for side in zip(*leading))  # the mean over components is that over rounds
        figures = metrics.bootstrap(identification.mean_icc, first, second, jnp.arange(people), key, n, n_people=people)
        found.append(_row(score_key, "icc", figures, people))
    return found


def half_vectors(halves, vectors, scales):
    """One vector a person and half, scales and units side by side, of the people who have all of them.

    Returns: first halves [N, D], second halves [N, D], the scales of what stands side by side.
    """
    keep = halves["scale"].isin(scales) & halves["finite"]
    table = halves[keep].assign(row=np.flatnonzero(keep), half=halves["unit_id"].str[-1])
    table["part"] = [
        f"{scale}/{unit[:-2].removeprefix(person)}"
        for scale, unit, person in zip(table["scale"], table["unit_id"], table["person_id"])
    ]
    wide = table.pivot(index="person_id", columns=["half", "part"], values="row").dropna().astype(int)
    if wide.empty or set(wide.columns.get_level_values("half")) != {"1", "2"}:
        return np.zeros((0, 0)), np.zeros((0, 0)), ()
    parts = sorted(wide["1"].columns)
    first, second = (np.concatenate([vectors[wide[half, part]] for part in parts], 1) for half in ("1", "2"))
    return first, second, [int(part.partition("/")[0]) for part in parts]


def _across(kind, rows, vectors, scales, gallery=None):
    """Rounds: each of a person's sessions (tasks, clips) in turn against the mean of that person's others; and the scales.

    Of the people who have two with all scales; someone with fewer than the others takes turns again. kind: the column of the
    table, 'session', 'task' or 'unit_id'. gallery: (rows, vectors) of another fit of the same units, where the others are of
    that; None: of the same.
    """
    queries = _by_person(kind, rows, vectors, scales)
    others = _by_person(kind, gallery[0], gallery[1], scales) if gallery else queries
    several = [person for person, own in queries.items() if len(own) > 1 and own.keys() == others.get(person, {}).keys()]
    for turn in range(min(TURNS, max((len(queries[person]) for person in several), default=0))):
        looked_up, among = [], []
        for person in several:
            part = list(queries[person])[turn % len(queries[person])]
            looked_up.append(queries[person][part])
            among.append(np.mean([vector for other, vector in others[person].items() if other != part], 0))
        yield np.array(looked_up), np.array(among), scales


def _by_person(kind, rows, vectors, scales) -> dict:
    """{person: {session (task, clip): its vector, scales side by side}}, of those that have all scales, as `_across` needs it.

    Units of one session count as their mean. From a task's vectors their mean over the people is taken, because a task moves
    all people in the same way.
    """
    keep = (rows["scale"].isin(scales) & rows["finite"] & (rows[kind] != "")).to_numpy(bool)
    kept, parts = vectors[keep], {}  # {(person, session): {scale: vector}}
    for (person, part, scale), own in rows[keep].groupby(["person_id", kind, "scale"]).indices.items():
        parts.setdefault((person, part), {})[scale] = kept[own].mean(0)
    whole = {key: np.concatenate([of[s] for s in scales]) for key, of in sorted(parts.items()) if len(of) == len(scales)}
    if kind == "task":
        means = {task: np.mean([v for (_, t), v in whole.items() if t == task], 0) for task in {t for _, t in whole}}
        whole = {(person, task): vector - means[task] for (person, task), vector in whole.items()}
    people = {}
    for (person, part), vector in whole.items():
        people.setdefault(person, {})[part] = vector
    return people

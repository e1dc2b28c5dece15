"""Figures of a table of representations: ranking accuracy on frames held back, and how well people are told apart."""

import jax
import jax.numpy as jnp
import numpy as np

from facedyn.core import metrics
from facedyn.store import representations

HALVES = "halves"
# Leading principal components whose intraclass correlation is given.
COMPONENTS = 10


def score_rows(config, folder, control: str = "") -> list[dict]:
    """Rows for scores.csv of the table in `folder`; those of a control's table bear its name.

    By person: ranking accuracy before and after the fit; identification by the halves of a person's frames and, where
    the units keep them apart, by sessions.
    """
    rows, vectors = representations.read_parts(folder)
    found = _ranking_rows(config, rows[rows["finite"].astype(bool)], control)
    halves, of_halves = representations.read_parts(folder / HALVES)
    for method, table, values, pair in (
        (control or "split_half", halves, of_halves, half_vectors),
        (f"cross_session;{control}" if control else "cross_session", rows, vectors, _session_vectors),
    ):
        if method.startswith("cross_session") or config.fit.split_half:
            found += _identification_rows(config, table, values, pair, method)
    return found


def _row(method, setting, metric, figures, n) -> dict:
    value, low, high = map(float, figures)
    return dict(method=method, setting=setting, trait="", metric=metric, value=value, low=low, high=high, n=n)


def _ranking_rows(config, rows, control) -> list[dict]:
    found, columns = [], ["ranking_accuracy_generic", "ranking_accuracy_fitted"]
    for scale, of_scale in rows.groupby("scale"):
        people = of_scale.groupby("person_id")[columns].mean().dropna()
        before, after = (people[column].to_numpy() for column in columns)
        values = {control: after} if control else {"generic": before, "representation": after}
        values |= {} if control else {"representation_minus_generic": after - before}
        for method, of_people in values.items() if len(people) else ():
            figures = metrics.bootstrap_mean(of_people, jax.random.key(config.seed), config.traits.bootstrap)
            found.append(_row(method, f"scale={scale};frames=held_back", "ranking_accuracy", figures, len(people)))
    return found


def _identification_rows(config, table, vectors, pair, method) -> list[dict]:
    """Top-1, mean reciprocal rank, distances within and between people, ICC of leading components; by scale and by all."""
    found, key, n = [], jax.random.key(config.seed), config.traits.bootstrap
    method, _, control = method.partition(";")
    scales = sorted(table["scale"].unique())
    for chosen in [[s] for s in scales] + ([scales] if len(scales) > 1 else []):
        first, second = pair(table, vectors, chosen)
        people = len(first)
        if people < 2:
            continue
        setting = f"scales={'+'.join(map(str, chosen))};unit={config.fit.unit}" + f";control={control}" * bool(control)
        ranks = np.asarray(metrics.match_ranks(first, second))
        within, between = metrics.distances(first, second)
        values = {"top1": ranks == 1, "mrr": 1 / ranks, "within_distance": within, "between_distance": between}
        for metric, of_people in values.items():
            found.append(_row(method, setting, metric, metrics.bootstrap_mean(of_people, key, n), people))
        leading = metrics.leading_components(first, second, COMPONENTS)
        figures = metrics.bootstrap(metrics.mean_icc, *leading, jnp.arange(people), key, n, n_people=people)
        found.append(_row(method, setting, "icc", figures, people))
    return found


def half_vectors(halves, vectors, scales):
    """One vector a person and half, scales and units concatenated, of the people who have all of them: [N, D], [N, D]."""
    keep = halves["scale"].isin(scales) & halves["finite"]
    table = halves[keep].assign(row=np.flatnonzero(keep), half=halves["unit_id"].str[-1])
    table["part"] = [
        f"{scale}/{unit[:-2].removeprefix(person)}"
        for scale, unit, person in zip(table["scale"], table["unit_id"], table["person_id"])
    ]
    wide = table.pivot(index="person_id", columns=["half", "part"], values="row").dropna().astype(int)
    if wide.empty or set(wide.columns.get_level_values("half")) != {"1", "2"}:
        return np.zeros((0, 0)), np.zeros((0, 0))
    return tuple(np.concatenate([vectors[wide[half, part]] for part in sorted(wide[half].columns)], 1) for half in ("1", "2"))


def _session_vectors(rows, vectors, scales):
    """One vector a person of the first and of the last of his or her sessions, scales concatenated: [N, D], [N, D].

    Of the people who have two sessions with all scales; units of a session count as their mean.
    """
    keep = (rows["scale"].isin(scales) & rows["finite"] & (rows["session"] != "")).to_numpy(bool)
    by_session = {}
    for (person, session, scale), own in rows[keep].groupby(["person_id", "session", "scale"]).indices.items():
        by_session.setdefault(person, {}).setdefault(session, {})[scale] = vectors[keep][own].mean(0)
    pairs = []
    for _, sessions in sorted(by_session.items()):
        whole = [np.concatenate([of[s] for s in scales]) for _, of in sorted(sessions.items()) if len(of) == len(scales)]
        if len(whole) > 1:
            pairs.append((whole[0], whole[-1]))
    return tuple(np.array(side) for side in zip(*pairs)) if pairs else (np.zeros((0, 0)), np.zeros((0, 0)))

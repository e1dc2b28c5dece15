"""People told apart across sessions, tasks and clips: a plain loop, the limits, and without what a task does to everyone."""

import fake_workdir as fake
import numpy as np
import pytest

from facedyn.core import identification
from facedyn.stages.fit import fit_scores, shared
from facedyn.store import representations

N, D = 12, 16


@pytest.fixture
def identify(tmp_path):
    """identify(rows, vectors, **settings) -> {(method, metric): row} of one scale."""

    def run(rows, vectors, **settings):
        representations.write_part(tmp_path, rows, np.asarray(vectors, np.float32))
        found = fit_scores.score_rows(config := fake.small_config(**settings), tmp_path, shared.features(config))
        return {(row["method"], row["metric"]): row for row in found if row["scales"] == "1" and row["unit"]}

    return run


def unit(person, name, task="", session=""):
    row = fake.table_row(f"p{person:02d}", task, 1, np.random.default_rng(0))
    return row | dict(unit_id=f"p{person:02d}/{name}", session=session)


def test_a_task_that_moves_everyone_hides_nobody(identify):
    rng = np.random.default_rng(0)
    own, moved = rng.normal(size=(N, D)), {"talk": 30 * rng.normal(size=D), "watch": 0, "sing": 30 * rng.normal(size=D)}
    cells = [(p, task) for p in range(N) for task in moved if (p, task) != (3, "sing")]  # one has two tasks only
    rows = [unit(p, task, task, session="one") for p, task in cells]
    vectors = [own[p] + moved[task] + 0.05 * rng.normal(size=D) for p, task in cells]
    found = identify(rows, vectors, fit__unit="person_task")
    assert {method for method, _ in found} == {"cross_task"}
    assert (found["cross_task", "top1"]["value"], found["cross_task", "top1"]["n"]) == (1.0, N)
    assert found["cross_task", "within_distance"]["value"] < 0.1 < 0.8 < found["cross_task", "between_distance"]["value"]
    assert found["cross_task", "icc"]["value"] > 0.9


def test_noise_identifies_nobody(identify):
    rows = [unit(p, task, task) for p in range(N) for task in ("talk", "watch")]
    found = identify(rows, np.random.default_rng(1).normal(size=(2 * N, D)), fit__unit="person_task")
    assert found["cross_task", "top1"]["value"] < 0.35
    assert abs(found["cross_task", "icc"]["value"]) < 0.4
    assert found["cross_task", "top1"]["low"] <= found["cross_task", "top1"]["value"] <= found["cross_task", "top1"]["high"]


def test_every_clip_is_looked_up_among_the_means_of_the_others(identify):
    """Clips without session or task; a plain loop says the same, and people with fewer clips take turns again."""
    rng = np.random.default_rng(2)
    counts = [3, 2, 3, 3, 1, 2] * 2
    own = [center + 1.5 * rng.normal(size=(k, D)) for k, center in zip(counts, rng.normal(size=(N, D)))]
    rows = [unit(p, f"c{i}") for p, k in enumerate(counts) for i in range(k)]
    found = identify(rows, np.concatenate(own), fit__unit="clip")
    assert {method for method, _ in found} == {"cross_clip"}

    several, hits = [clips for clips in own if len(clips) > 1], []
    for turn in range(3):
        queries = np.array([clips[turn % len(clips)] for clips in several])
        gallery = np.array([np.delete(clips, turn % len(clips), 0).mean(0) for clips in several])
        both = np.concatenate([gallery, queries])
        g, q = ((x - both.mean(0)) / both.std(0) for x in (gallery, queries))
        cosine = (q / np.linalg.norm(q, axis=1)[:, None]) @ (g / np.linalg.norm(g, axis=1)[:, None]).T
        hits.append(cosine.argmax(1) == np.arange(len(several)))
    row = found["cross_clip", "top1"]
    assert row["value"] == pytest.approx(np.mean(hits), abs=1e-6)
    assert (row["n"], 0.2 < row["value"] < 1) == (N - 2, True)


def test_clips_played_backwards_are_looked_up_among_those_played_forwards(tmp_path):
    """Everybody is found where what they did backwards is what they do forwards, and nobody where it is what another does."""
    rng = np.random.default_rng(3)
    own, noise = rng.normal(size=(N, D)), 0.05 * rng.normal(size=(2, N, D))
    config = fake.small_config(fit__unit="person_task", fit__split_half=True, fit__controls=("reversed",))
    tasks = [unit(p, task, task) for p in range(N) for task in ("talk", "watch")]
    halves = [row | dict(unit_id=f"{row['person_id']}#{half}") for half in "12" for row in tasks[::2]]

    def figures(folder, backwards):
        for place, vectors in (("", own), (representations.REVERSED, backwards)):
            of_tasks = np.repeat(vectors, 2, 0) + np.moveaxis(noise, 0, 1).reshape(2 * N, D)
            representations.write_part(folder / place, tasks, of_tasks.astype(np.float32))
            of_halves = np.concatenate(vectors[None] + noise).astype(np.float32)
            representations.write_part(folder / place / fit_scores.HALVES, halves, of_halves)
        of_control = folder / representations.REVERSED
        features = shared.Features(("filters", "spectrum"), np.arange(D) % 2, None)  # each of every other column
        found = fit_scores.score_rows(config, of_control, features, representations.REVERSED)
        return {(row["method"], row["control"], row["block"]): row["value"] for row in found if row["metric"] == "top1"}

    by_which = ("", "filters", "spectrum")
    ways = [(*way, block) for way in (("reversed", ""), ("cross_task", "reversed")) for block in by_which]
    assert figures(tmp_path / "same", own) == dict.fromkeys(ways, 1.0)
    assert figures(tmp_path / "another's", np.roll(own, 1, 0)) == dict.fromkeys(ways, 0.0)


def test_one_unit_a_person_says_nothing_across(identify):
    rows = [unit(p, "all", session="one") for p in range(N)]
    assert identify(rows, np.random.default_rng(0).normal(size=(N, D))) == {}


def test_more_video_measures_better_as_classical_test_theory_says():
    """Two noisy measurements of each person agree as `r`; the mean of several of them agrees as Spearman and Brown predict."""
    rng = np.random.default_rng(0)
    people = rng.normal(size=20000)
    one, other = (people + rng.normal(size=(4, 20000)) for _ in range(2))  # four halves of two videos each
    measured = np.corrcoef(one[0], other[0])[0, 1]
    for length in (2, 4):
        longer = np.corrcoef(one[:length].mean(0), other[:length].mean(0))[0, 1]
        assert identification.spearman_brown(measured, length) == pytest.approx(longer, abs=0.02)
    assert identification.spearman_brown(measured, 1) == pytest.approx(measured)
    assert identification.spearman_brown(-0.2, 5) == 0
    for r in (0.2, 0.7, 0.95):
        assert identification.spearman_brown(r, identification.length_for(r, 0.9)) == pytest.approx(0.9)
    assert identification.length_for(0.0, 0.9) == np.inf
    assert identification.length_for(1.0, 0.9) == 0

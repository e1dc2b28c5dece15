"""What a figure is worth: rules on planted figures, what the table makes of them, and what is said of too few people."""

import math

import numpy as np
import pytest

from facedyn.core import verdicts
from facedyn.core.verdicts import AT_CHANCE, MIN_PEOPLE, TOO_FEW, USABLE, WORSE, chance_level, judge
from facedyn.report import tables
from facedyn.store import scores


def test_chance_is_what_guessing_scores():
    """Random ranks of a person among n, against the closed form."""
    rng, n = np.random.default_rng(0), 7
    ranks = rng.integers(1, n + 1, 200_000)
    assert chance_level("top1", n) == pytest.approx((ranks == 1).mean(), abs=0.005)
    assert chance_level("mrr", n) == pytest.approx((1 / ranks).mean(), abs=0.005)
    assert math.isnan(chance_level("within_distance", n))
    assert math.isnan(chance_level("top1", 0))


@pytest.mark.parametrize(
    ("metric", "figures", "n", "copied", "word"),
    [
        ("ranking_accuracy", (0.80, 0.78, 0.82), 20, 0.65, USABLE),
        ("ranking_accuracy", (0.64, 0.60, 0.68), 20, 0.65, WORSE),
        ("ranking_accuracy", (0.65, 0.60, 0.70), 20, 0.65, WORSE),  # no better than a copy is no use
        ("ranking_accuracy", (0.67, 0.60, 0.74), 20, 0.65, AT_CHANCE),
        ("ranking_accuracy", (0.45, 0.40, 0.52), 20, 0.30, AT_CHANCE),  # above the copy, and yet no better than chance
        ("ranking_accuracy", (0.80, 0.78, 0.82), 5, 0.65, TOO_FEW),
        ("ranking_accuracy", (0.57, 0.55, 0.59), 20, math.nan, USABLE),
        ("top1", (0.30, 0.10, 0.50), 20, math.nan, USABLE),
        ("top1", (0.30, 0.05, 0.50), 20, math.nan, AT_CHANCE),  # chance itself is in the interval
        ("top1", (0.0, 0.0, 0.0), 20, math.nan, AT_CHANCE),
        ("top1", (0.67, 0.33, 1.0), 3, math.nan, TOO_FEW),
        ("mrr", (0.50, 0.30, 0.70), 20, math.nan, USABLE),
        ("pcc", (0.30, -0.10, 0.60), 40, math.nan, AT_CHANCE),
        ("pcc", (0.50, 0.20, 0.70), 40, math.nan, USABLE),
        ("within_distance", (0.5, 0.4, 0.6), 40, math.nan, ""),
        ("pcc", (math.nan, math.nan, math.nan), 40, math.nan, ""),
        ("pcc", (0.5, math.nan, math.nan), 40, math.nan, ""),
    ],
)
def test_rules(metric, figures, n, copied, word):
    found = judge(metric, *figures, n, copied)
    assert found.word == word
    assert found.word in ("", *verdicts.VERDICTS)
    assert (found.reason == "") == (word == "")
    assert found.reason == "" or (found.reason.endswith(".") and found.reason.count(". ") == 0)


def test_a_better_figure_never_has_a_worse_verdict():
    order = {TOO_FEW: 0, WORSE: 0, AT_CHANCE: 1, USABLE: 2}
    for copied in (math.nan, 0.65):
        found = [order[judge("ranking_accuracy", v, v - 0.05, v + 0.05, 12, copied).word] for v in np.linspace(0.3, 1, 71)]
        assert found == sorted(found)
        assert found[-1] == 2


def row(method, metric, value, n, **more):
    return dict(method=method, metric=metric, value=value, low=value - 0.03, high=value + 0.03, n=n) | more


def ranked(copied, split="test", n=20, **more):
    return [
        row(method, "ranking_accuracy", value, n, scales="1", split=split, **more)
        for method, value in (("generic", 0.7), ("copy_input", copied), ("untrained", 0.55))
    ]


def test_results_are_judged_and_baselines_controls_and_differences_are_not(tmp_path):
    scores.replace_scores(tmp_path, "pretrain", ranked(0.8, "validation") + ranked(0.6))
    fit = [row(m, "ranking_accuracy", v, 20, scales="1") for m, v in (("generic", 0.6), ("representation", 0.7))]
    fit += [row("representation_minus_generic", "ranking_accuracy", 0.1, 20, scales="1")]
    fit += [row("representation", "ranking_accuracy", 0.56, 20, scales="1", note=scores.ON_STATES)]
    fit += [row(m, "top1", 0.4, 20, scales="1", unit="person") for m in ("split_half", "time_shuffled")]
    fit += [row("cross_task", "top1", 0.4, 20, scales="1", control="untrained")]
    scores.replace_scores(tmp_path, "fit", fit)
    traits = [row(m, "pcc", 0.5, 40, trait="mean") for m in ("representation", "mean_face", "representation_minus_mean_face")]
    scores.replace_scores(tmp_path, "traits", traits)
    table = scores.load_scores(tmp_path)
    found = {(r.stage, r.method, r.split, r.note, r.metric): r.verdict for r in table.itertuples() if r.verdict}
    assert found == {
        ("pretrain", "generic", "test", "", "ranking_accuracy"): USABLE,
        ("pretrain", "generic", "validation", "", "ranking_accuracy"): WORSE,  # by the copy of the same people
        ("fit", "representation", "", "", "ranking_accuracy"): USABLE,
        ("fit", "representation", "", scores.ON_STATES, "ranking_accuracy"): USABLE,  # below the copy, which is of pixels
        ("fit", "split_half", "", "", "top1"): USABLE,
        ("traits", "representation", "", "", "pcc"): USABLE,
    }
    chance = table.set_index("method")["chance"]
    assert chance["time_shuffled"] == 0.05
    assert np.isnan(chance["representation_minus_generic"])


def test_a_verdict_follows_what_it_rests_on(tmp_path):
    """The fit is judged by the copied input of pretrain: when that is measured again, so is the verdict."""
    scores.replace_scores(tmp_path, "pretrain", ranked(0.6))
    scores.replace_scores(tmp_path, "fit", [row("representation", "ranking_accuracy", 0.7, 20, scales="1")])
    assert scores.load_scores(tmp_path)["verdict"].iloc[-1] == USABLE
    scores.replace_scores(tmp_path, "pretrain", ranked(0.75))
    assert scores.load_scores(tmp_path)["verdict"].iloc[-1] == WORSE


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_of_too_few_people_there_is_no_interval_and_no_conclusion(tmp_path, n):
    scores.replace_scores(tmp_path, "pretrain", ranked(0.6, n=n))
    scores.replace_scores(tmp_path, "fit", [row("split_half", "top1", 0.67, n, scales="1", unit="person")])
    table = scores.load_scores(tmp_path)
    assert table["low"].isna().all() == table["high"].isna().all() == (n < 3)
    judged = table[table["verdict"] != ""]
    assert (judged["verdict"] == TOO_FEW).all() == (n < MIN_PEOPLE)
    text = tables.score_table(table)
    assert ("too few people" in text) == (n < MIN_PEOPLE)
    top1 = table[table["metric"] == "top1"].iloc[0]
    assert tables.key_figure(top1) == ("–" if n < MIN_PEOPLE else "0.67")

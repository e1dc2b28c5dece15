"""Whether a figure shows anything: one of four verdicts, with its reason in a sentence. Needs no JAX.

A figure is judged by its 95 % interval over people, the chance level of its metric, the ranking accuracy of the copied input
(the cheapest predictor of all) and the number of people.
"""

import math
from typing import NamedTuple

USABLE, AT_CHANCE, WORSE, TOO_FEW = "usable", "at chance", "worse than the copied input", "too few people"
VERDICTS = (USABLE, AT_CHANCE, WORSE, TOO_FEW)
# Resampling fewer people than this gives no interval: of two there are three different draws.
MIN_INTERVAL_PEOPLE = 3
# With fewer people than this, one of them decides the figure and its interval, so nothing is concluded from them.
MIN_PEOPLE = 6


class Verdict(NamedTuple):
    """word: one of VERDICTS, or '' for a figure that is not judged; reason: a sentence, '' with it."""

    word: str
    reason: str


NOT_JUDGED = Verdict("", "")


def chance_level(metric: str, n: int) -> float:
    """What someone who guesses would score among n people; NaN for a metric that has no such level.

    Identification by guessing draws each rank 1 .. n equally often: top-1 is 1 / n, the mean reciprocal rank the mean of 1 / k.

    >>> chance_level("top1", 4), round(chance_level("mrr", 4), 3), chance_level("ranking_accuracy", 4)
    (0.25, 0.521, 0.5)
    """
    if metric in ("top1", "mrr"):
        if n < 1:
            return math.nan
        return 1 / n if metric == "top1" else sum(1 / k for k in range(1, n + 1)) / n
    return {"ranking_accuracy": 0.5, "icc": 0.0, "pcc": 0.0, "ccc": 0.0, "r2": 0.0}.get(metric, math.nan)


def judge(metric: str, value: float, low: float, high: float, n: int, copied: float = math.nan) -> Verdict:
    """The verdict on a figure.

    Args:
      metric: as scores.csv names it; value, low, high: the figure and its interval, NaN where there is none.
      n: people it was measured on.
      copied: ranking accuracy of the copied input, in the same unit; NaN where it does not apply.
    Returns: NOT_JUDGED where the metric has no chance level, or there are enough people but no interval.

    >>> judge("top1", 0.4, 0.2, 0.6, 20)
    Verdict(word='usable', reason='0.400 [0.200, 0.600] lies above chance, 0.050, with 20 people.')
    """
    chance, has_copy = chance_level(metric, n), not math.isnan(copied)
    if math.isnan(chance) or math.isnan(value):
        return NOT_JUDGED
    reference = f"the copied input's {copied:.3f}" if has_copy else f"chance, {chance:.3f}"
    people = "1 person" if n == 1 else f"{n} people"
    if n < MIN_PEOPLE:
        place = "above" if value > (copied if has_copy else chance) else "not above"
        return Verdict(TOO_FEW, f"{people}, where {MIN_PEOPLE} are needed; {value:.3f} is {place} {reference}.")
    if math.isnan(low) or math.isnan(high):
        return NOT_JUDGED
    figure = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    if has_copy and value <= copied:
        return Verdict(WORSE, f"{figure} does not exceed {reference}: the model predicts no better than a copy of the frame.")
    if low <= chance:
        return Verdict(AT_CHANCE, f"The interval of {figure} does not lie above chance, {chance:.3f}, with {people}.")
    if has_copy and low <= copied:
        return Verdict(AT_CHANCE, f"The interval of {figure} contains {reference}: the gain over it may be chance.")
    return Verdict(USABLE, f"{figure} lies above {reference}, with {people}.")

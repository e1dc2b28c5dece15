"""Directions of a representation that tell people apart: where they differ most for how little each differs from itself.

Linear discriminant analysis of two measurements of each person, for many more features than people: the leading principal
components of both, features counted by their reliability, then the two covariances against each other. Host, float64.
"""

import numpy as np

from facedyn.core import metrics

# Share of the covariance within people that is taken from between its components: they are estimated from few people.
SHRINKAGE = 0.5
# Candidates for how many directions, a person: looks differ in many ways, movement tells of few before it is noise.
PER_PERSON = (0.125, 0.25, 0.5, 1.0)


def learn(first, second) -> tuple[np.ndarray, np.ndarray]:
    """(reliability [D], directions [D, count]) of two measurements of each of N > 3 people: [N, D], [N, D].

    The count is the one of PER_PERSON by which one half of the people is found again best (mean reciprocal rank) in the
    directions of the other half; the directions are those of all.
    """
    first, second = np.asarray(first), np.asarray(second)
    people = np.arange(len(first))
    found = np.zeros(len(PER_PERSON))
    for learnt, others in ((people % 2 == 0, people % 2 == 1), (people % 2 == 1, people % 2 == 0)):
        reliability = np.asarray(metrics.reliability(first[learnt], second[learnt]))
        for i, share in enumerate(PER_PERSON):
            directions = discriminants(first[learnt], second[learnt], reliability, max(1, int(share * learnt.sum())))
            found[i] += np.mean(1 / np.asarray(metrics.match_ranks(first[others], second[others], directions)))
    reliability = np.asarray(metrics.reliability(first, second))
    count = max(1, int(PER_PERSON[int(found.argmax())] * len(people)))
    return reliability, discriminants(first, second, reliability, count)


def discriminants(first, second, reliability, count: int) -> np.ndarray:
    """Directions for z-scored features, by two measurements of each of N people: [N, D], [N, D], [D] -> float32 [D, count].

    A direction of unit spread whose share r of the variance is between people has length r. In a product of two such vectors
    it counts by r^2, so that noise is left out; the cosine is near the likelihood ratio of "the same person" under Gaussian
    people and measurements (probabilistic LDA: S. Ioffe, ECCV 2006).

    Args:
      reliability: what share of each feature's variance is between people, in [0, 1]; those of 0 count for nothing.
      count: of directions, less than 2 N.
    Raises: ValueError for another count.
    """
    both = np.concatenate([first, second]).astype(np.float64)
    people = len(first)
    if not 1 <= count < 2 * people:
        raise ValueError(f"count={count} must lie between 1 and {2 * people - 1}, less than two for each of {people} people.")
    spread = both.std(0)
    weights = np.divide(reliability, spread, out=np.zeros(both.shape[1]), where=spread > 0)
    rows = (both - both.mean(0)) * weights
    size, left = np.linalg.eigh(rows @ rows.T)
    size, left = np.maximum(size[::-1][:count], 1e-12 * max(size[-1], 1e-300)), left[:, ::-1][:, :count]
    components, scores = rows.T @ (left / size), left  # rows @ components = scores

    apart = scores[:people] - scores[people:]
    within = apart.T @ apart / (2 * people)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.diag(np.diag(within))
    within += 1e-9 * np.trace(within) / count * np.eye(count)  # who is alike in both has none
    whiten = np.linalg.inv(np.linalg.cholesky(within)).T
    total, turn = np.linalg.eigh(np.cov((scores @ whiten).T, ddof=0).reshape(count, count))
    total = np.maximum(total, 1.0)
    between = 1 - 1 / total  # of a variance of `total`, 1 is within people
    directions = components @ whiten @ turn * (between / np.sqrt(total))
    return (directions * np.asarray(reliability)[:, None]).astype(np.float32)

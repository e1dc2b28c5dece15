"""Identification by what tells people apart: which weights belong to which features, side by side."""

import numpy as np
import pandas as pd

from facedyn.config import default_config
from facedyn.stages.fit import fit_scores

PEOPLE, WIDTH = [f"p{i:02d}" for i in range(12)], 6


def halves_of(scales, told_by):
    """A table of halves and its vectors, [N, 6]: only those of the scale `told_by` are a person's own, the others are noise."""
    random = np.random.default_rng(0)
    own, rows, vectors = random.normal(size=(len(PEOPLE), WIDTH)), [], []
    for scale in scales:
        for number, person in enumerate(PEOPLE):
            for half in (1, 2):
                rows.append(dict(unit_id=f"{person}#{half}", person_id=person, scale=scale, finite=True))
                vectors.append(own[number] if scale == told_by else 5 * random.normal(size=WIDTH))
    return pd.DataFrame(rows), np.array(vectors, np.float32)


def test_weights_stand_where_their_scale_does():
    scales = (1, 2, 16)  # as text 16 comes before 2
    for told_by in scales:
        table, vectors = halves_of(scales, told_by)
        first, second, order = fit_scores.half_vectors(table, vectors, list(scales))
        reliability = {scale: np.full(WIDTH, float(scale == told_by)) for scale in scales}
        weights = fit_scores.side_by_side_weights(reliability, order)
        directions = {scale: np.diag(of_scale)[:, :4] for scale, of_scale in reliability.items()}
        blocks = fit_scores.side_by_side_weights(directions, order)
        assert blocks.shape == (3 * WIDTH, 3 * 4)
        np.testing.assert_array_equal(blocks.sum(1) > 0, (weights > 0) & (np.arange(3 * WIDTH) % WIDTH < 4))
        np.testing.assert_array_equal((blocks != 0).sum(0) <= 1, True)
        np.testing.assert_array_equal(first[:, weights > 0], second[:, weights > 0])
        assert (first[:, weights == 0] != second[:, weights == 0]).all()


def test_identification_counts_by_reliability():
    table, vectors = halves_of((1, 2), 2)
    config = default_config()
    config.traits.bootstrap = 20

    def top1(reliability):
        found = fit_scores._identification_rows(
            config, table, vectors, fit_scores._halves_round, "split_half", identification_weights=reliability
        )
        return next(r["value"] for r in found if r["metric"] == "top1" and r["scales"] == "1+2")

    assert top1({1: np.zeros(WIDTH), 2: np.ones(WIDTH)}) == 1
    assert top1({1: np.ones(WIDTH), 2: np.zeros(WIDTH)}) < 0.5
    assert top1(None) < 1

"""Features: names from the layout, one row a person without NaN, comparable in scale, with their quality apart."""

import numpy as np
import pandas as pd
import pytest

from data_pipelines.errors import InputError
from facedyn import features
from facedyn.core import blocks, person_filters
from facedyn.core.person_filters import Site, Slot

SITES = (Site("skip0", 4), Site("bottleneck", 8))


@pytest.mark.parametrize("names", [("filters",), tuple(blocks.BLOCKS), ("filters", "autocorrelations")])
def test_every_number_of_a_layout_has_a_name_of_its_own(names):
    slots = blocks.layout(names, SITES, 4)
    found = features.feature_names(slots, (1, 2))
    assert len(found) == len(set(found)) == 2 * sum(slot.size for slot in slots)
    assert {name.split(".")[0] for name in found} == {"scale1", "scale2"}
    assert {name.split(".")[2] for name in found} == set(names)
    assert {name.split(".")[1] for name in found} == {"skip0", "bottleneck"}


def test_a_name_says_where_the_number_stands():
    slots = blocks.layout(("filters", "innovations", "step_correlations"), SITES, 4)
    found = features.feature_names(slots, (1,))

    def number_of(site, block, *place):
        slot = next(s for s in slots if s.site == blocks.slot_name(block, site))
        return slot.offset + int(np.ravel_multi_index(place, slot.shape))

    assert found[number_of("bottleneck", "filters", 1, 3, 2)] == "scale1.bottleneck.filters.after.3.2"
    assert found[number_of("skip0", "innovations", 2, 1, 3)] == "scale1.skip0.innovations.step.skewness.3"
    first, second = np.triu_indices(4, 1)
    for i in range(6):
        name = f"scale1.skip0.step_correlations.{first[i]}.{second[i]}"
        assert found[number_of("skip0", "step_correlations", i)] == name


def test_blocks_and_kinds_that_are_not_known_are_numbered():
    slots = (*person_filters.layout(SITES, "depthwise"), Slot("skip0_new_block", (2, 2), 0, 4))
    found = features.feature_names(slots, (1,))
    assert found[0] == "scale1.skip0.filters.0.0.0"
    assert found[-1] == "scale1.skip0.new_block.1.1"


def table(units, scales=(1, 2), width=3, seed=0):
    """Rows and vectors of units {(unit, person, session): frames}."""
    rng, rows = np.random.default_rng(seed), []
    for (unit, person, session), n in units.items():
        for scale in scales:
            row = dict(unit_id=unit, person_id=person, session=session, task="", scale=scale, n_frames=n, finite=True)
            rows.append(row | dict(ranking_accuracy_fitted=0.8))
    return pd.DataFrame(rows), rng.normal(size=(len(rows), width)).astype(np.float32)


SLOTS = (Slot("skip0", (3,), 0, 3),)


def test_a_persons_row_is_the_mean_of_the_units_by_their_frames():
    rows, vectors = table({("a/1", "a", "s1"): 100, ("a/2", "a", "s2"): 300, ("b/1", "b", "s1"): 50})
    found = features.wide(rows, vectors, SLOTS, (1, 2), "person")
    assert list(found.index) == ["a", "b"]
    assert found.index.name == "person_id"
    expected = 0.25 * vectors[[0, 1]] + 0.75 * vectors[[2, 3]]
    np.testing.assert_allclose(found.loc["a"], expected.ravel(), rtol=1e-5)
    by_session = features.wide(rows, vectors, SLOTS, (1, 2), "session")
    assert by_session.index.names == ["person_id", "session"]
    np.testing.assert_allclose(by_session.loc[("a", "s2")], vectors[[2, 3]].ravel(), rtol=1e-6)


def test_standardised_by_the_generic_models_people():
    rows, vectors = table({(p, p, ""): 10 for p in "abcdefgh"})
    scaling = {s: np.stack([of.mean(0), of.std(0)]) for s in (1, 2) for of in [vectors[(rows["scale"] == s).to_numpy()]]}
    found = features.wide(rows, vectors, SLOTS, (1, 2), "person", scaling)
    np.testing.assert_allclose(found.mean(), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(ddof=0), 1, rtol=1e-4)


def test_who_lacks_a_scale_has_no_row_but_a_reason():
    rows, vectors = table({("a", "a", ""): 10, ("b", "b", ""): 10, ("c", "c", ""): 10, ("d", "d", ""): 10})
    keep = ~((rows["unit_id"] == "b") & (rows["scale"] == 2)).to_numpy()
    rows, vectors = rows[keep].reset_index(drop=True), vectors[keep]
    rows.loc[rows["unit_id"] == "c", "finite"] = False
    rows.loc[rows["unit_id"] == "d", "ranking_accuracy_fitted"] = 0.4
    vectors[(rows["unit_id"] == "c").to_numpy()] = np.nan
    found, quality = features.wide(rows, vectors, SLOTS, (1, 2), "person"), features.quality(rows, (1, 2), "person", {"a": 2.5})
    assert list(found.index) == ["a", "d"]
    assert np.isfinite(found.to_numpy()).all()
    assert quality["reliable"].to_dict() == {"a": True, "b": False, "c": False, "d": False}
    assert quality.loc["a", "seconds"] == 2.5
    assert quality.loc["b", "reason"].startswith("no features: nothing could be fitted at scale 2,")
    assert "scale 1, 2" in quality.loc["c", "reason"]
    assert quality.loc["d", "reason"].startswith("at chance: 0.40 of the pairs of held-back frames")


def test_a_level_that_the_table_does_not_have_is_refused():
    with pytest.raises(InputError, match="level='people' must be one of person, session, clip"):
        features.check_level("people")
    with pytest.raises(InputError, match="no row per clip in a table that was fitted by person"):
        features.check_level("clip", "person")
    features.check_level("person", "clip")


def test_seconds_are_frames_by_their_rate():
    from data_pipelines.dataset.face_clips import ClipInfo

    clips = [ClipInfo(f"c{i}", "a", "", "s", "test", 25.0, np.arange(50), np.zeros(0)) for i in range(2)]
    assert features.seconds_of(clips, "person") == {"a": 4.0}
    assert features.seconds_of(clips, "clip") == {("a", "c0"): 2.0, ("a", "c1"): 2.0}

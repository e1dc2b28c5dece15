"""The control with somebody else's course in time: who gets whose, and what is left of either."""

import numpy as np
import test_fit_engine
from test_site_engine import CLIPS, UNITS, closed_form_settings, reference, shape_of  # noqa: F401

from facedyn import settings_rules
from facedyn.core import surrogates
from facedyn.stages.fit import batching, swapped
from facedyn.stages.fit.batching import WHOLE
from facedyn.stages.fit.units import plan


def planned(half_length=2):
    settings = dict(unit="clip", scale=1, half_length=half_length, max_frames=512, min_frames=1)
    records, of_parts = list(range(len(CLIPS.clips))), []
    for half, held_back in enumerate((0.2, 0.0, 0.0)):
        of_parts.append({u.unit_id: u for u in plan(CLIPS, records, half=half, held_back=held_back, **settings)[0]})
    return [{(half, 0.0): of[name] for half, of in enumerate(of_parts) if name in of} for name in sorted(of_parts[0])]


def test_halves_and_clips_of_a_person_get_other_people():
    units = planned()
    shapes = batching.shapes_of([(1, units)], 2)
    found = swapped.choose_donors(units, shapes, 1, 2)
    assert found.keys() == {(unit.unit_id, half) for parts in units for half, unit in parts.items()}
    for parts in units:
        own = {part[0]: found[unit.unit_id, part].person_id for part, unit in parts.items()}
        person = next(iter(parts.values())).person_id
        assert person not in own.values()
        if 1 in own and 2 in own:
            assert own[1] != own[2]
    again = swapped.choose_donors(units[::-1], shapes, 1, 2)
    assert {key: unit.unit_id for key, unit in again.items()} == {key: unit.unit_id for key, unit in found.items()}
    few = [parts for parts in units if parts[WHOLE].person_id in sorted({p[WHOLE].person_id for p in units})[:2]]
    assert swapped.choose_donors(few, shapes, 1, 2) == {}


def test_the_surrogate_has_the_units_covariance_and_the_others_rows(reference):  # noqa: F811
    model, _, fitting = reference
    others = [{WHOLE: unit} for unit in UNITS[1:4]] + [{WHOLE: UNITS[0]}]
    units = [{WHOLE: unit} for unit in UNITS[:4]]
    batch, theirs = (test_fit_engine.batch_of(fitting, model, of, shape_of(), 4) for of in (units, others))
    sources = [[batching.sources_of(parts, 1, 2) for parts in of] for of in (units, others)]
    found = swapped.swapped_batch(batch, sources[0], theirs, sources[1])
    for rows, expected in ((found.fitted, theirs.fitted), (found.held, theirs.held)):
        for one, other in zip(rows, expected):
            np.testing.assert_array_equal(one, other)
    for p in range(4):
        parts = [(batch.frames[p], sources[0][p]), (found.frames[p], sources[1][p])]
        covariances = []
        for states, of in parts:
            clip = np.repeat(np.arange(len(of)), [len(positions) for positions in of.values()])
            covariances.append(surrogates.covariance(states[: len(clip)], clip))
        np.testing.assert_allclose(covariances[1], covariances[0], atol=1e-3 * np.abs(covariances[0]).max())


def test_it_needs_the_closed_form():
    config = closed_form_settings(controls=("swapped_dynamics",))
    assert not list(settings_rules.faults(config, None))
    config.fit.solver, config.fit.filter_kind, config.fit.blocks = "adam", "pointwise", ("filters",)
    assert "swapped_dynamics needs config.fit.solver=least_squares" in " ".join(settings_rules.faults(config, None))

"""States that were computed before are used again, for the same frames of the same U-net only, and results are the same."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_fit_engine import CLIPS
from test_site_engine import closed_form_settings, learnt

from facedyn.stages.fit import fit_stage, kept_states, learning, shared
from facedyn.store import representations

SITES, RANK = 2, 3


def model_of(value):
    return SimpleNamespace(params={"kernel": np.full(2, value)}, basis=(np.full((4, RANK), value),) * SITES)


def states_of(model, reader, record, position):
    return np.full((SITES, RANK), 1e6 * model.params["kernel"][0] + 1e5 * reader + 1e3 * record + position, np.float32)


@pytest.fixture
def asked():
    return []


@pytest.fixture
def load(asked):
    """A `load` that notes the (record, position) of each frame that it is asked for."""

    def load(shared, reader, sources, people, n_frames):
        found = np.zeros((people, n_frames, SITES, RANK), np.float32)
        for p, own in enumerate(sources):
            wanted = [(record, int(position)) for record, positions in own.items() for position in positions]
            asked.extend(wanted)
            for t, (record, position) in enumerate(wanted):
                found[p, t] = states_of(shared, reader, record, position)
        return found

    return load


SOURCES = [
    [{0: np.arange(0, 9), 1: np.arange(3, 6)}, {2: np.arange(5)}],
    [{2: np.arange(5)}, {1: np.arange(4, 6), 0: np.array([1, 7, 8])}],  # known, in another order
    [{0: np.arange(6, 12), 3: np.arange(2)}, {}],  # partly known
]


def test_states_are_those_of_the_u_net_and_no_frame_passes_twice(load, asked):
    kept, model = kept_states.KeptStates(load), model_of(1)
    for sources in SOURCES:
        np.testing.assert_array_equal(kept(model, 0, sources, 3, 14), load(model, 0, sources, 3, 14))
    asked.clear()
    kept = kept_states.KeptStates(load)
    for sources in SOURCES:
        kept(model, 0, sources, 3, 14)
    assert len(asked) == len(set(asked)) == 9 + 3 + 5 + 3 + 2


def test_nothing_is_kept_of_another_model_or_reader(load, asked):
    kept = kept_states.KeptStates(load)
    for model, reader in ((model_of(1), 0), (model_of(2), 0), (model_of(2), 1), (model_of(1), 0)):
        np.testing.assert_array_equal(kept(model, reader, SOURCES[0], 2, 12), load(model, reader, SOURCES[0], 2, 12))
    assert len(asked) == 2 * 4 * 17
    kept(model_of(1), 0, SOURCES[0], 2, 12)  # equal numbers are the same model
    assert len(asked) == 2 * 4 * 17


def test_what_there_is_no_room_for_is_computed_again(load, asked, monkeypatch):
    monkeypatch.setattr(kept_states, "MOST_BYTES", 9 * SITES * RANK * 4)  # the first record's
    kept = kept_states.KeptStates(load)
    for _ in range(2):
        np.testing.assert_array_equal(kept(model_of(1), 0, SOURCES[0], 2, 12), load(model_of(1), 0, SOURCES[0], 2, 12))
    assert len(asked) == 17 + 17 + 8 + 17


def test_scales_of_one_u_net_share_the_states_of_their_frames(monkeypatch, tmp_path):
    """As the control `untrained` does; the tables are those of fits that share nothing."""
    config = closed_form_settings(controls=("untrained",), min_frames=4, chunk_size=4)
    config.rank_loss.scales = (1, 2)
    model, asked, frames = learnt(config)[""], [], CLIPS.frames

    def noted(record, positions=None):
        asked.extend((record, position) for position in np.asarray(positions).tolist())
        return frames(record, positions)

    monkeypatch.setattr(CLIPS, "frames", noted)
    fit_stage.fit_table(config, shared.make_fitting(config), CLIPS, lambda *_: model, tmp_path / "both", "", None)
    assert len(asked) == len(set(asked)) == 60 * len(CLIPS.clips)
    for scale in (1, 2):
        config.rank_loss.scales = (scale,)
        fit_stage.fit_table(config, shared.make_fitting(config), CLIPS, lambda *_: model, tmp_path / f"{scale}", "", None)
        for control in ("", "untrained"):
            rows, vectors = representations.read_parts(tmp_path / "both" / control)
            _, alone = representations.read_parts(tmp_path / f"{scale}" / control)
            np.testing.assert_allclose(vectors[rows["scale"] == scale], alone, atol=1e-5)


def test_the_basis_of_the_untrained_u_net_is_learnt_once_for_all_scales(monkeypatch, tmp_path):
    config = closed_form_settings(controls=("untrained",))
    config.rank_loss.scales = (1, 2)
    learnt_bases, learn_basis = [], learning.learn_basis
    monkeypatch.setattr(learning, "learn_basis", lambda *args: learnt_bases.append(args) or learn_basis(*args))
    monkeypatch.setattr(CLIPS, "metadata", {"fingerprint": "f"}, raising=False)
    models = shared.Models(config, tmp_path, shared.make_fitting(config), CLIPS)
    first, second = (models(scale, "untrained") for scale in (1, 2))
    assert len(learnt_bases) == 1
    for one, other in zip(first.basis, second.basis):
        np.testing.assert_array_equal(one, other)
    assert np.abs(first.population - second.population).max() > 1e-3

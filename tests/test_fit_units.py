"""Which frames a fit unit has: split, padded, in chunks, and loaded as the clip has them."""

import numpy as np
import pytest

from facedyn.command_line import parse
from facedyn.stages.fit import batching
from facedyn.stages.fit.units import FitUnit, frames_of, plan, split_centres
from facedyn.stages.runtime import common


def test_time_shuffled_windows_are_cut_from_frames_of_the_same_part_of_the_clip():
    rows = np.array([(record, c) for record in (0, 2) for c in range(2, 20)])
    sources = {0: np.arange(40), 2: np.arange(40)}  # more frames than the part's own
    ordered, shuffled = (batching.place_windows(rows, sources, 1, 2, seed) for seed in (None, 3))
    for record, own in ((0, ordered[:18]), (2, ordered[18:])):
        assert set(own.flat) == set(range(40 * (record > 0), 40 * (record > 0) + 22))
    moved = dict(zip(ordered.flat, shuffled.flat))
    np.testing.assert_array_equal(np.vectorize(moved.get)(ordered), shuffled)  # a frame goes to one place only
    for first in (0, 40):  # and to none of another clip, nor of another part of its own
        own = set(range(first, first + 22))
        assert {moved[frame] for frame in own} == own
        assert sum(moved[frame] == frame for frame in own) < 8


def test_held_back_rows_share_no_frame_with_fitted_ones(workdir, arguments):
    _, config, _ = parse(arguments("fit", workdir))
    face_clips = common.open_data(workdir / "data", config)
    settings = dict(unit="person", scale=2, half_length=2, held_back=0.2, max_frames=500, min_frames=4)
    units, _ = plan(face_clips, range(len(face_clips.clips)), **settings)
    halves = [plan(face_clips, range(len(face_clips.clips)), **settings, half=h)[0] for h in (1, 2)]

    def frames(rows):
        return {(record, centre + k) for record, centre in rows for k in (-4, -2, 0, 2, 4)}

    for unit, first, second in zip(units, *halves):
        assert len(unit.held_back)
        assert not frames(unit.fitted) & frames(unit.held_back)
        assert not frames(first.fitted) & frames(second.fitted)
        of_halves, of_unit = (set(map(tuple, rows)) for rows in (np.concatenate([first.fitted, second.fitted]), unit.fitted))
        assert of_halves <= of_unit
        assert abs(len(first.fitted) - len(second.fitted)) <= 4


def test_centres_are_split_with_a_gap_or_not_at_all():
    centres = np.arange(10, 50)
    first, last = split_centres(centres, 4, 0.25)
    assert last[0] - first[-1] > 8
    assert len(last) == 8
    short, none = split_centres(np.arange(6), 4, 0.25)
    assert len(short) == 6
    assert len(none) == 0


def made_up_units(lengths):
    rows = [np.array([(0, 2 + k) for k in range(n)], np.int32).reshape(-1, 2) for n in lengths]
    return [{batching.WHOLE: FitUnit(f"p{i}", f"p{i}", "", "", own, own[:0])} for i, own in enumerate(rows)]


@pytest.mark.parametrize("lengths", [(500, 3, 20, 77), (16, 16), (7, 1), (1,), ()])
def test_padded_shapes_are_few_and_cover_everyone(lengths):
    units = made_up_units(lengths)
    shapes = batching.shapes_of([(1, units), (2, units[:1])], half_length=2)
    assert len(shapes) <= 4
    assert list(shapes) == sorted(set(shapes))
    found = batching.chunks_of(units, dict.fromkeys(shapes, len(lengths) or 1))
    assert sorted(parts[batching.WHOLE].unit_id for *_, own in found for parts in own) == sorted(
        parts[batching.WHOLE].unit_id for parts in units
    )
    for shape, _, own in found:
        assert all(len(parts[batching.WHOLE].fitted) <= shape.rows for parts in own)
        frames = [frames_of(parts[batching.WHOLE].fitted, 1, 2).values() for parts in own]
        assert all(sum(map(len, of_unit)) <= shape.frames for of_unit in frames)


def test_chunks_hold_everyone_once():
    units = made_up_units(range(10, 21))
    shapes = batching.shapes_of([(1, units)], half_length=2)
    chunks = batching.chunks_of(units, dict(zip(shapes, (3, 4, 5))))
    assert sorted(u[batching.WHOLE].unit_id for _, _, grouped in chunks for u in grouped) == sorted(
        u[batching.WHOLE].unit_id for u in units
    )
    for shape, people, grouped in chunks:
        assert len(grouped) <= people
        assert all(len(u[batching.WHOLE].fitted) <= shape.rows for u in grouped)


def test_windows_of_loaded_units_are_the_clips_own(workdir, arguments):
    _, config, _ = parse(arguments("fit", workdir))
    face_clips = common.open_data(workdir / "data", config)
    rows = np.array([(3, 12), (0, 9), (3, 14), (0, 30)], np.int32)
    whole, half = (FitUnit("p", "p", "", "", own, own[:1]) for own in (rows, rows[2:]))
    sources = [batching.sources_of(parts, 2, 2) for parts in ({batching.WHOLE: whole, (2, 0.0): half}, {(2, 0.0): half})]
    frames = batching.load_frames(face_clips, sources, 3, 40)
    streamed = np.concatenate(list(batching.stream_frames(face_clips, sources, 7)))
    before = 0
    for own, sources_of_unit in zip(frames, sources):
        n = sum(map(len, sources_of_unit.values()))
        np.testing.assert_array_equal(own[:n], streamed[before : before + n])
        before += n
    batch = batching.batch_of(frames, [whole, half], sources, batching.Shape(6, 2, 40), 2, 2)
    assert batch.shape == (6, 2, 40)
    assert batch.fitted.count.tolist() == [4, 2, 0]
    assert batch.held.count.tolist() == [1, 1, 0]
    assert batch.fitted.windows.shape == (3, 6, 5)
    for p, own in enumerate((rows, rows[2:])):
        for row, (record, centre) in enumerate(own):
            expected = face_clips.frames(record, centre + 2 * np.arange(-2, 3))
            np.testing.assert_array_equal(frames[p, batch.fitted.windows[p, row]], expected)


def test_the_next_block_is_begun_before_one_is_waited_for():
    happened = []

    def begin(item):
        happened.append(f"begun {item}")
        return item

    for result in batching.one_ahead(begin, range(3)):
        happened.append(f"read {result}")
    assert happened == ["begun 0", "begun 1", "read 0", "begun 2", "read 1", "read 2"]
    assert list(batching.one_ahead(begin, [])) == []

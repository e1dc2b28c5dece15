"""The control `swapped_dynamics`: every unit with its own covariance and somebody else's movement over time.

Who identifies people by it identifies looks. The others are chosen from all that is planned, so that a fit that was broken
off chooses the same; both halves of a person, and his or her sessions, get those of different people.
"""

import numpy as np

from facedyn.core.surrogates import swap_dynamics
from facedyn.stages.fit import batching
from facedyn.stages.fit.batching import Batch, Parts, Shape
from facedyn.stages.fit.units import FitUnit

NAME = "swapped_dynamics"
# At least so many people, so that both halves of a person can get those of others.
MIN_PEOPLE = 3


def choose_donors(units: list[Parts], shapes, scale: int, half_length: int) -> dict[tuple[str, tuple[int, float]], FitUnit]:
    """{(unit_id, part): another person's unit of that part}, one that the arrays of the unit's shape have room for.

    A unit for which there is none is not in it, and nobody's of fewer than MIN_PEOPLE. shapes: of all units, ascending.
    """
    by_person: dict[str, list[Parts]] = {}
    for parts in units:
        by_person.setdefault(next(iter(parts.values())).person_id, []).append(parts)
    people = sorted(by_person)
    if len(people) < MIN_PEOPLE:
        return {}
    sizes = {id(unit): _size(unit, scale, half_length) for parts in units for unit in parts.values()}
    found = {}
    for number, person in enumerate(people):
        for place, parts in enumerate(by_person[person]):
            room = next(shape for shape in shapes if max(len(unit.fitted) for unit in parts.values()) <= shape.rows)
            for part, unit in parts.items():
                start = number + 1 + part[0] + MIN_PEOPLE * place
                for other in (people[(start + step) % len(people)] for step in range(len(people))):
                    theirs = by_person[other][place % len(by_person[other])].get(part)
                    if other != person and theirs is not None and np.all(np.less_equal(sizes[id(theirs)], room)):
                        found[unit.unit_id, part] = theirs
                        break
    return found


def swapped_batch(batch: Batch, sources, of_others: Batch, sources_of_others) -> Batch:
    """The others' rows, of whose states [P, T, S, K] each unit's own covariance was made.

    batch, of_others: of the same units, and of those whose course in time they get; sources: {record: positions} of each.
    """
    states = np.array(of_others.frames)
    for p, (own, others) in enumerate(zip(sources, sources_of_others)):
        used = np.unique(np.concatenate([rows.windows[p, : rows.count[p]].reshape(-1) for rows in (batch.fitted, batch.held)]))
        if len(used) and others:
            clip = np.repeat(np.arange(len(own)), [len(positions) for positions in own.values()])
            their_clip = np.repeat(np.arange(len(others)), [len(positions) for positions in others.values()])
            theirs = states[p, : len(their_clip)]
            states[p, : len(their_clip)] = swap_dynamics(batch.frames[p][used], theirs, clip[used], their_clip)
    return of_others._replace(frames=states)


def _size(unit: FitUnit, scale: int, half_length: int) -> Shape:
    frames = sum(map(len, batching.sources_of({batching.WHOLE: unit}, scale, half_length).values()))
    return Shape(len(unit.fitted), len(unit.held_back), frames)

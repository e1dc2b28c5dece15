"""The worlds of synthetic people: how they move, how they look, how that becomes pictures, and what the oracle is told.

Two of them, as unlike as can be, so that what was chosen on one can be judged on the other. People of both have the five traits
`dynamics.TRAITS`, each world by functions of its own.
"""

from collections.abc import Callable
from typing import NamedTuple

from data_pipelines.synthetic import appearance, dynamics, rendering, track_statistics, warped_dynamics, warped_faces


class World(NamedTuple):
    """What a bench is made of; every `rng` is a numpy Generator.

    Attributes:
      parameters: names of what differs between people's movement, in the order of a person's `parameters`.
      draw_dynamics: rng -> a person.
      simulate: (person, task, frames, fps, rng) -> tracks, float32 [T, U].
      true_traits: person -> [5], without noise.
      draw_appearance: rng -> looks.
      render: (looks, tracks, size, rng) -> uint8 RGB [T, size, size, 3].
      statistics: tracks of a person's clips -> float64 [d], what the oracle predicts the traits from.
    """

    parameters: tuple[str, ...]
    draw_dynamics: Callable
    simulate: Callable
    true_traits: Callable
    draw_appearance: Callable
    render: Callable
    statistics: Callable


def _world(moves, looks, render, statistics) -> World:
    own = moves.PARAMETERS, moves.draw_dynamics, moves.simulate, moves.true_traits
    return World(*own, looks.draw_appearance, render, statistics)


WORLDS = {
    "drawn": _world(dynamics, appearance, rendering.render, track_statistics.dynamics_statistics),
    "warped": _world(warped_dynamics, warped_faces, warped_faces.render, warped_dynamics.dynamics_statistics),
}

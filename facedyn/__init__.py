"""Person-specific facial dynamics by self-supervision, in JAX.

The names are loaded on first use, so that `facedyn --help` need not import JAX.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facedyn.features import load_features, load_quality
    from facedyn.stages.export import was_trained_on
    from facedyn.store.representations import load_representations
    from facedyn.store.scores import load_scores
    from facedyn.transformer import FacialDynamics

__version__ = "0.2.0"

_WHERE = {
    "FacialDynamics": "facedyn.transformer",
    "load_features": "facedyn.features",
    "load_quality": "facedyn.features",
    "load_representations": "facedyn.store.representations",
    "load_scores": "facedyn.store.scores",
    "was_trained_on": "facedyn.stages.export",
}

__all__ = [
    "FacialDynamics",
    "__version__",
    "load_features",
    "load_quality",
    "load_representations",
    "load_scores",
    "was_trained_on",
]


def __getattr__(name):
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'facedyn' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})

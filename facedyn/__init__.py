"""Person-specific facial dynamics by self-supervision, in JAX.

The names are loaded on first use, so that `facedyn --help` need not import JAX.
"""

import importlib

__version__ = "0.2.0"

_WHERE = {
    "FacialDynamics": "facedyn.stages.embed",
    "load_representations": "facedyn.store.representations",
    "load_scores": "facedyn.store.scores",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name):
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'facedyn' has no attribute {name!r}")

"""Names for the arrays in annotations: jaxtyping's type and shape, the letters those of the docstrings.

Letters: B centre frames of a step, C channels, D features or length of a representation, H height, K coordinates of a site's
state, M maps of a dynamic representation, N rows, P people (fit units), S sites, T frames, or traits where heads are fitted, W
width; `window` is 2n + 1 frames. A letter that occurs twice in one signature stands for one number. Other letters: the module's
docstring. tests/conftest.py checks types and shapes at every call in a test; nothing is checked in a run. (" N" begins with a
space, as linters take "N" for a name.)
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

AnyArray: TypeAlias = jax.Array | np.ndarray
# A number, also one that is traced.
Scalar: TypeAlias = float | np.floating | Float[AnyArray, ""]
Count: TypeAlias = int | np.integer | Int[AnyArray, ""]

# Of a fit unit: states of its frames, frames of each row's window, each row's clip, person filters in closed form.
States: TypeAlias = Float[AnyArray, "T S K"]
Windows: TypeAlias = Int[AnyArray, "N window"]
Clips: TypeAlias = Int[AnyArray, " N"]
SiteFilters: TypeAlias = Float[AnyArray, "S 2 K K"]
# (states, windows, clip, count): two parts of a unit have different numbers of frames and rows.
Part: TypeAlias = tuple[Float[AnyArray, "_ S K"], Int[AnyArray, "_ window"], Int[AnyArray, " _"], Count]

# Of trait heads, on the host. A set of rows is a mask.
Features: TypeAlias = Float[np.ndarray, "N D"]
Labels: TypeAlias = Float[np.ndarray, "N T"]
Rows: TypeAlias = Bool[np.ndarray, " N"]
Folds: TypeAlias = Int[np.ndarray, " N"]
FeatureWeights: TypeAlias = Float[np.ndarray, " D"]
People: TypeAlias = Sequence | Shaped[np.ndarray, " N"]
Layers: TypeAlias = Sequence[dict[str, Any]]
Head: TypeAlias = dict[str, Any]

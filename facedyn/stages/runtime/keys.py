"""Keys of random numbers: one for each use of the seed, so that no two of them draw the same numbers."""

import jax

# Above every scale, which the generic models' keys are folded with. A number, once given, stays that use's.
TAGS = {
    "fit_draws": 2**20 + 1,  # centre frames of the fit's steps
    "pretrain_intervals": 2**20 + 2,
    "fit_intervals": 2**20 + 3,
    "trait_intervals": 2**20 + 4,
}


def key(seed: int, use: str) -> jax.Array:
    """The key of one use, a name of TAGS."""
    return jax.random.fold_in(jax.random.key(seed), TAGS[use])

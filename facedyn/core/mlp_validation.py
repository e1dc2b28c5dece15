"""Person-disjoint cross-validation of the MLP head: weight decay and components chosen inside, several networks averaged.

Coordinates and folds are those of the ridge (coordinates.py, cross_validation.py). One compiled call fits the networks of a few
training sets: small ones side by side, large ones one at a time, so that memory does not depend on the number of folds.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from facedyn.core import trait_heads
from facedyn.core.cross_validation import fewest_people, inner_splits
from facedyn.core.pca import coordinate_columns, has_features, principal_coordinates, unproject_head, usable_rows
from facedyn.core.shapes import Features, FeatureWeights, Folds, Head, Labels, People, Rows

# Training sets, or where those are large, inner folds of one, are fitted side by side up to so many bytes of inputs.
BYTES_AT_ONCE = 2**25
# Leading components that a network sees at most: work and memory would grow with the square of the number of people.
MAX_COMPONENTS = 512


@dataclasses.dataclass(frozen=True)
class MlpSettings:
    """How the network is chosen and fitted; all traits share one. Candidates are judged by a network each."""

    weight_decays: tuple[float | np.floating, ...] = (0.1,)
    components: int | tuple[int, ...] = 0  # candidates of how many principal components are kept, 0 = MAX_COMPONENTS
    networks: int = 1  # fitted from different starts and averaged
    inner_folds: int = 5
    hidden: int = 64
    steps: int = 300
    learning_rate: float = 1e-3
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class MlpValidated:
    """What `cross_validate_mlp` finds; S networks, K outer folds."""

    predictions: Float32[np.ndarray, "N T"]  # mean over the networks; NaN without features or a fold
    networks: Float32[np.ndarray, "S N T"]  # each network's own
    weight_decays: Float32[np.ndarray, " _"]  # K + 1: the choice in each fold, and that of the head
    components: Float32[np.ndarray, " _"]  # likewise
    head: Head  # for `trait_heads.predict`, fitted to the rows named; the mean of the networks as one of S times the width


def cross_validate_mlp(
    x: Features,
    y: Labels,
    person_ids: People,
    settings: MlpSettings,
    fold: Folds,
    head_rows: Rows | None = None,
    weights: FeatureWeights | None = None,
) -> MlpValidated:
    """Out-of-fold predictions of the mean of several MLPs for all traits, and the head.

    In each training set the candidate (weight decay, components) with the smallest squared error in units of each trait's
    variance, over the inner folds, is chosen; with one candidate nothing needs choosing.

    Args: x, y, person_ids, fold, weights as in `cross_validate_ridge`; head_rows: those the head is fitted to, None = all.
    """
    usable, columns, n = usable_rows(x, y), min(coordinate_columns(x), MAX_COMPONENTS), len(y)
    trains = [fold != k for k in range(fold.max() + 1)] + [np.ones(n, bool) if head_rows is None else head_rows]
    components = [c or columns for c in np.atleast_1d(settings.components)]
    grid = np.array([(c, decay) for c in components for decay in settings.weight_decays], np.float32)
    inner_folds = min(settings.inner_folds, fewest_people(person_ids, trains)) if len(grid) > 1 else 0
    networks = np.full((settings.networks, *y.shape), np.nan, np.float32)
    predicted, chosen = has_features(x) & (fold >= 0), np.zeros((len(trains), 2), np.float32)
    keys, target = jax.random.split(jax.random.key(settings.seed), settings.networks), jnp.asarray(y, jnp.float32)
    inner = int(np.clip(BYTES_AT_ONCE // (4 * n * columns * len(grid)), 1, max(1, inner_folds)))
    outer = int(np.clip(BYTES_AT_ONCE // (4 * (inner_folds + 1) * n * columns * len(grid)), 1, len(trains)))
    sizes = {name: getattr(settings, name) for name in ("hidden", "steps", "learning_rate")}
    for first_of in range(0, len(trains), outer):
        numbers = range(first_of, min(first_of + outer, len(trains)))
        fits = np.zeros((outer, inner_folds + 1, n), bool)  # of one size, for one compilation
        z = np.zeros((*fits.shape, columns), np.float32)
        for j, k in enumerate(numbers):
            seed = settings.seed + 1 + k
            splits = inner_splits(person_ids, trains[k], inner_folds, seed) if inner_folds else [trains[k]]
            fits[j] = np.stack(splits) & usable.any(1)
            for i, fit in enumerate(fits[j]):
                z[j, i], basis = principal_coordinates(x, fit, columns, weights)
        arrays = map(jnp.asarray, (z, target, usable, fits, grid))
        out, layers, choices = jax.tree.map(np.asarray, _select_and_fit(keys, *arrays, at_once=inner, **sizes))
        for j, k in enumerate(numbers):
            test, chosen[k] = predicted & (fold == k), choices[j]
            networks[:, test] = out[j][:, test]
    last_of = len(numbers) - 1
    first, last = jax.tree.map(lambda leaf: leaf[last_of], layers)
    joined = {"weights": np.concatenate(first["weights"], 1), "bias": first["bias"].reshape(-1)}
    joined["weights"] = basis @ joined["weights"].astype(float)
    mean = {"weights": np.concatenate(last["weights"]) / settings.networks, "bias": last["bias"].mean(0)}
    head = unproject_head(x, fits[last_of, -1], [joined, mean], weights)
    return MlpValidated(networks.mean(0), networks, chosen[:, 1], chosen[:, 0], head)


@functools.partial(jax.jit, static_argnames=("at_once", "hidden", "steps"))
def _select_and_fit(keys, z, y, usable, fits, grid, *, at_once, **settings):
    """Selection over training sets x inner folds x candidates, then fits over training sets x networks.

    Args: keys [S]; z [K, I + 1, N, R] coordinates; y, usable [N, T]; fits bool [K, I + 1, N]; grid [L, 2] candidates
      (components, weight decay); at_once: inner folds of a training set fitted side by side.
    Returns: predictions [K, S, N, T], layers in terms of the coordinates [K, S, ...], chosen [K, 2].
    """

    def network(key, z, fit, choice):
        """One MLP on the components kept, brought to mean variance 1 over the training rows."""
        keep = (jnp.arange(z.shape[1]) < choice[0]) & jnp.any(fit[:, None] & (z != 0), 0)  # [R]
        variance = jnp.sum(jnp.where(fit[:, None] & keep[None], z**2, 0.0)) / jnp.maximum(jnp.sum(fit), 1)
        scale = keep * jnp.where(variance > 0, jnp.sqrt(jnp.sum(keep) / jnp.where(variance > 0, variance, 1.0)), 1.0)
        where = usable & fit[:, None]
        (first, last), _ = trait_heads.fit_mlp(key, z * scale[None], y, where, weight_decay=choice[1], **settings)
        layers = [first | {"weights": scale[:, None] * first["weights"]}, last]
        return trait_heads.apply_layers(layers, z), layers

    def over_candidates(z_and_fit):
        z, fit = z_and_fit
        return jax.vmap(lambda choice: network(keys[0], z, fit, choice)[0])(grid)

    def training_set(z, fits):
        choice = grid[0]
        if len(fits) > 1:
            predicted = jax.lax.map(over_candidates, (z[:-1], fits[:-1]), batch_size=at_once)  # [I, L, N, T]
            test = (usable & fits[-1][:, None])[None] & ~fits[:-1][..., None]  # [I, N, T]
            truth = jnp.where(usable, y, 0.0)
            mean = jnp.sum(jnp.where(test, truth[None], 0.0), (0, 1)) / jnp.maximum(jnp.sum(test, (0, 1)), 1)  # [T]
            variance = jnp.sum(jnp.where(test, (truth - mean[None])[None] ** 2, 0.0), (0, 1))
            errors = jnp.sum(jnp.where(test[:, None], (predicted - truth[None, None]) ** 2, 0.0), (0, 2))  # [L, T]
            relative = jnp.where(variance > 0, errors / jnp.where(variance > 0, variance, 1.0)[None], 0.0)
            errors = jnp.sum(relative, 1)
            # A candidate that diverged has no error; argmin would take it for the smallest.
            choice = grid[jnp.argmin(jnp.where(jnp.isnan(errors), jnp.inf, errors))]
        out, layers = jax.vmap(network, (0, None, None, None))(keys, z[-1], fits[-1], choice)
        return out, layers, choice

    return jax.vmap(training_set)(z, fits)

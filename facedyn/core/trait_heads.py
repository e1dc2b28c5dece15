"""Heads that read traits off representations: ridge (closed form and L-BFGS) and a small MLP.

A fitted head is a plain pytree with its own normalisation,
`{"mean": [D], "sd": [D], "layers": [{"weights": [D, .], "bias": [.]}, ...]}`: ridge is one layer, the MLP two. Heads of
several traits that were fitted to different people are stacked along a first axis of every leaf.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from facedyn.core.shapes import AnyArray, Head, Layers, Scalar


def predict(head: Head, x: Float[AnyArray, "N D"]) -> Float[Array, "N T"]:
    """Predictions of a fitted head.

    Args:
      head: pytree as in the module's docstring; `head["mean"]` is [D], or [T, D] for T stacked heads.
      x: a NaN (a task the person lacks) counts as the training people's mean.
    """
    if head["mean"].ndim == 2:
        return jax.vmap(lambda one: predict(one, x)[:, 0], out_axes=1)(head)
    sd = head["sd"]
    z = (x - head["mean"][None]) / jnp.where(sd > 0, sd, 1.0)[None]
    z = jnp.where(jnp.isfinite(z) & (sd > 0)[None], z, 0.0)
    return apply_layers(head["layers"], z)


def apply_layers(layers: Layers, z: Float[AnyArray, "N D"]) -> Float[Array, "N T"]:
    """Affine layers with ReLU in between."""
    h = jnp.asarray(z)
    for i, layer in enumerate(layers):
        h = jnp.matmul(jax.nn.relu(h) if i else h, layer["weights"], precision="highest") + layer["bias"][None]
    return h


def ridge_closed_form_rotated(
    coordinates: Float[AnyArray, "N R"], y: Float[AnyArray, " N"], penalty: Scalar, keep: float | Float[Array, " R"] = 1.0
) -> Float[Array, " R"]:
    """The minimiser of `ridge_lbfgs_rotated`, same arguments, for coordinates whose columns are orthogonal.

    >>> c, y = jnp.array([[-1.0], [0.0], [1.0]]), jnp.array([-2.0, 0.0, 2.0])
    >>> print(f"{ridge_closed_form_rotated(c, y, penalty=2.0)[0]:.2f}")  # 2 without the penalty
    1.00
    """
    curvature = jnp.sum(coordinates**2, 0)
    return keep * jnp.matmul(coordinates.T, y, precision="highest") / (curvature + penalty)


def ridge_lbfgs_rotated(
    coordinates: Float[AnyArray, "N R"],
    y: Float[AnyArray, " N"],
    penalty: Scalar,
    keep: float | Float[Array, " R"] = 1.0,
    *,
    tolerance: float = 1e-5,
    max_steps: int = 50,
) -> Float[Array, " R"]:
    """L-BFGS on ||y - c w||^2 + penalty ||w||^2 for centred y and centred coordinates c -> w.

    keep: 1, and 0 where w is to be 0; the coordinates themselves are never copied for it, nor under vmap.

    Any c is right; orthogonal columns (principal coordinates) are solved in a handful of steps, whereas on raw features float32
    would stall long before the minimum. Stops when the norm of the gradient is `tolerance` times that at w = 0, or after
    `max_steps`.
    """
    scale = keep * jax.lax.rsqrt(jnp.sum(coordinates**2, 0) + penalty)  # inverse root of the curvature's diagonal
    size = jnp.maximum(jnp.linalg.norm(y), 1e-30)
    target = y / size

    def loss(v):
        residual = target - jnp.matmul(coordinates, scale * v, precision="highest")
        return 0.5 * (jnp.sum(residual**2) + penalty * jnp.sum((scale * v) ** 2))

    v = _minimise_lbfgs(loss, jnp.zeros(coordinates.shape[1]), tolerance, max_steps)
    return scale * v * size


def _minimise_lbfgs(loss, start, tolerance, max_steps) -> jax.Array:
    # On a convex quadratic every step has positive curvature, so backtracking serves; zoom compiles half as long again.
    solver = optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(max_backtracking_steps=20, store_grad=True))
    value_and_grad = optax.value_and_grad_from_state(loss)
    first = jnp.linalg.norm(jax.grad(loss)(start))

    def step(carry) -> Any:
        v, state = carry
        value, grad = value_and_grad(v, state=state)
        updates, state = solver.update(grad, state, v, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(v, updates), state

    def unfinished(carry):
        _, state = carry
        steps = optax.tree.get(state, "count")
        norm = jnp.linalg.norm(optax.tree.get(state, "grad"))
        return (steps == 0) | ((steps < max_steps) & (norm > tolerance * first))

    return jax.lax.while_loop(unfinished, step, (start, solver.init(start)))[0]


def init_mlp(key: PRNGKeyArray, features: int, hidden: int, traits: int) -> list[dict[str, Float[Array, " ..."]]]:
    """Layers of an MLP with one hidden layer; its output starts at 0, the (standardised) mean label."""
    weights = jax.random.normal(key, (features, hidden)) / jnp.sqrt(features)
    return [
        {"weights": weights, "bias": jnp.zeros(hidden)},
        {"weights": jnp.zeros((hidden, traits)), "bias": jnp.zeros(traits)},
    ]


@functools.partial(jax.jit, static_argnames=("hidden", "steps"))
def fit_mlp(
    key: PRNGKeyArray,
    z: Float[AnyArray, "N R"],
    y: Float[AnyArray, "N T"],
    where: Shaped[AnyArray, "N T"],
    *,
    hidden: int = 64,
    steps: int = 300,
    learning_rate: float | Array = 1e-3,
    weight_decay: float | Array = 1e-1,
) -> tuple[list[dict[str, Float[Array, " ..."]]], Float[Array, " {steps}"]]:
    """Fits an MLP to all traits at once by full-batch AdamW on the squared error of the standardised labels.

    Args: z: normalised features; y: labels; where: mask of the labels that count (others may be NaN).
    Returns: (layers, losses); the layers predict in the labels' own unit.
    """
    where = where.astype(z.dtype)
    count = jnp.maximum(jnp.sum(where, 0, keepdims=True), 1.0)
    y = jnp.where(where > 0, y, 0.0)
    mean = jnp.sum(y, 0, keepdims=True) / count  # [1, T]
    sd = jnp.sqrt(jnp.sum(where * (y - mean) ** 2, 0, keepdims=True) / count)
    target = jnp.where(where > 0, (y - mean) / jnp.where(sd > 0, sd, 1.0), 0.0)
    solver = optax.adamw(learning_rate, weight_decay=weight_decay)
    layers = init_mlp(key, z.shape[1], hidden, y.shape[1])

    def loss(layers):
        return jnp.sum(where * (apply_layers(layers, z) - target) ** 2) / jnp.maximum(jnp.sum(where), 1.0)

    def step(carry, _) -> tuple[Any, jax.Array]:
        layers, state = carry
        value, grad = jax.value_and_grad(loss)(layers)
        updates, state = solver.update(grad, state, layers)
        return (optax.apply_updates(layers, updates), state), value

    (layers, _), losses = jax.lax.scan(step, (layers, solver.init(layers)), None, steps)
    last = {"weights": layers[1]["weights"] * sd, "bias": layers[1]["bias"] * sd[0] + mean[0]}
    return [layers[0], last], losses

"""The annotations of the core: complete, and checked at every call in a test."""

import ast

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from facedyn.core import low_rank, person_filters

STATES, WINDOWS = jnp.zeros((9, 2, 3)), jnp.arange(5)[:, None] + jnp.arange(5)[None]


def of_half(states, windows):
    return low_rank.changes(states, windows)[0]


def over_people(states, windows):
    return jax.vmap(of_half, (0, None))(states[None], windows)


def in_loop(states, windows):
    return jax.lax.scan(lambda carry, one: (carry, of_half(one, windows)), 0, states[None])[1]


@pytest.mark.parametrize("call", [of_half, over_people, in_loop])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_an_array_of_a_wrong_shape_or_type_is_refused(call, wrap):
    wrap(call)(STATES, WINDOWS)
    with pytest.raises(TypeCheckError, match="states"):
        wrap(call)(STATES[0], WINDOWS)  # an axis is missing
    with pytest.raises(TypeCheckError, match="windows"):
        wrap(call)(STATES, WINDOWS.astype(jnp.float32))


def test_a_letter_stands_for_one_number_in_a_call():
    filters = jnp.zeros((2, 2, 3, 3))
    low_rank.dynamics(filters, jnp.zeros((4, 2, 3)))
    with pytest.raises(TypeCheckError, match="centred"):
        low_rank.dynamics(filters, jnp.zeros((4, 1, 3)))  # would be broadcast


def test_what_a_function_returns_is_checked(monkeypatch):
    wrong = person_filters.Kind(lambda c: (c, c), lambda weights, h: jnp.zeros((1, 2, 2, 5)))
    monkeypatch.setitem(person_filters.KINDS, "wrong", wrong)
    with pytest.raises(TypeCheckError, match="return"):
        person_filters.apply_filter(jnp.zeros((1, 1)), jnp.zeros((1, 2, 2, 1)), "wrong")


def test_every_public_function_of_the_core_is_annotated(root):
    missing = []
    for path in sorted((root / "facedyn" / "core").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for f in node.body if isinstance(node, ast.ClassDef) else [node]:
                if not isinstance(f, ast.FunctionDef) or (f.name.startswith("_") and f.name != "__call__"):
                    continue
                taken = [a for a in f.args.posonlyargs + f.args.args + f.args.kwonlyargs if a.arg != "self"]
                if f.returns is None or any(a.annotation is None for a in taken):
                    missing.append(f"{path.name}: {f.name}")
    assert not missing

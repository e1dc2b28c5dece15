"""What a fork is promised: its own network and loss, fitted to many people at once, without a change of the core."""

import ast

import fork_example
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import drifting_blob

PEOPLE, FRAMES = 3, 24


@pytest.fixture(scope="module")
def frames():
    return jnp.asarray(np.stack([drifting_blob(FRAMES, seed)[..., :1] for seed in range(PEOPLE)]))


def test_a_network_and_a_loss_of_one_s_own(frames):
    params = fork_example.init(jax.random.key(0), 16)
    representations, before, after = fork_example.fit_people(params, frames)
    assert representations.shape == (PEOPLE, 2 * fork_example.WIDTH**2)
    assert np.isfinite(representations).all()
    assert (after < before).all(), "the filters should lower the loss that they were fitted to"
    alone, _, _ = fork_example.fit_people(params, frames[1:2])
    np.testing.assert_allclose(alone[0], representations[1], atol=1e-4 * np.abs(representations).max())


def test_it_imports_nothing_of_ours_but_the_core(root):
    tree = ast.parse((root / "tests" / "fork_example.py").read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    ours = [name for name in imported if name.split(".")[0] in ("facedyn", "data_pipelines")]
    assert ours == ["facedyn.core"]

"""What a fork is promised: its own network and loss, fitted to many people at once, without a change of the core."""

import ast

import fork_example
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import drifting_blob

from facedyn.core import person_filters

PEOPLE, FRAMES = 3, 24


@pytest.fixture(scope="module")
def frames():
    return jnp.asarray(np.stack([drifting_blob(FRAMES, seed)[..., :1] for seed in range(PEOPLE)]))


def losses(params, frames, representations):
    """Of everyone's last window: [P]."""
    slots, windows = person_filters.layout(fork_example.SITES, "pointwise"), frames[:, None, -5:]

    def of_one(representation, windows):
        tap = person_filters.tap(person_filters.unflatten(representation, slots))
        maps = fork_example.decode(params, fork_example.encode(params, windows[:, fork_example.HALF]), tap)
        return fork_example.own_loss(maps, windows)[0]

    return jax.vmap(of_one)(representations, windows)


def test_a_network_and_a_loss_of_one_s_own(frames):
    params = fork_example.init(jax.random.key(0), 16)
    representations = fork_example.fit_people(params, frames)
    assert representations.shape == (PEOPLE, 2 * fork_example.WIDTH**2)
    assert np.isfinite(representations).all()
    before, after = (losses(params, frames, r) for r in (jnp.zeros_like(representations), representations))
    assert (after < before).all(), "the filters should lower the loss that they were fitted to"
    alone = fork_example.fit_people(params, frames[1:2])
    np.testing.assert_allclose(alone[0], representations[1], atol=1e-4 * np.abs(representations).max())


def test_it_is_short_and_imports_nothing_of_ours_but_the_core(root):
    source = (root / "tests" / "fork_example.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert len(source.splitlines()) <= 45, "a fork is promised to take about 40 lines"
    ours = [name for name in imported if name.split(".")[0] in ("facedyn", "data_pipelines")]
    assert ours == ["facedyn.core"]

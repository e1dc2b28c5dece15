"""The API page names modules that exist, and the examples in their docstrings are right."""

import doctest
import importlib
import re

import pytest

# Those that must have an example; other modules of the page are free to.
WITH_EXAMPLES = {
    "facedyn.config",
    "facedyn.config_files",
    "facedyn.core.cross_validation",
    "facedyn.core.metrics",
    "facedyn.core.person_filters",
    "facedyn.core.rank_loss",
    "facedyn.core.trait_heads",
    "facedyn.core.unet",
    "facedyn.store.scores",
    "data_pipelines.dataset.windows",
}


@pytest.fixture(scope="module")
def modules(root):
    return re.findall(r"^::: ([\w.]+)$", (root / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_examples_in_docstrings(modules):
    examples = {}
    for name in modules:
        failed, examples[name] = doctest.testmod(importlib.import_module(name))
        assert not failed, f"an example in {name} failed: its output is above"
    assert {name for name, count in examples.items() if count} >= WITH_EXAMPLES


def test_public_names_are_on_the_page(modules):
    import facedyn

    assert set(facedyn._WHERE.values()) <= set(modules)


def test_the_whole_pure_core_is_on_the_page(root, modules):
    own = {f"facedyn.core.{path.stem}" for path in (root / "facedyn" / "core").glob("*.py") if path.stem != "__init__"}
    assert own - set(modules) <= {"facedyn.core.ridge_selection"}

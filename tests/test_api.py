"""docs/api.md says what the docstrings say, and the examples in the docstrings are right."""

import doctest
import importlib
import importlib.util

import pytest


def make_api(root):
    spec = importlib.util.spec_from_file_location("make_api", root / "docs" / "make_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(root):
    api = make_api(root)
    assert api.PAGE.read_text(encoding="utf-8") == api.page(), "docstrings changed: run python docs/make_api.py"


# Those that must have an example; other modules of the page are free to.
WITH_EXAMPLES = {
    "facedyn.command_line",
    "facedyn.config",
    "facedyn.core.cross_validation",
    "facedyn.core.metrics",
    "facedyn.core.person_filters",
    "facedyn.core.rank_loss",
    "facedyn.core.trait_heads",
    "facedyn.core.unet",
    "facedyn.store.scores",
    "data_pipelines.dataset.windows",
}


def test_examples_in_docstrings(root):
    api, examples = make_api(root), {}
    for name in map(api.name_of, api.MODULES):
        failed, examples[name] = doctest.testmod(importlib.import_module(name))
        assert not failed, f"an example in {name} failed: its output is above"
    assert {name for name, count in examples.items() if count} >= WITH_EXAMPLES


@pytest.mark.parametrize("name", ["load_representations", "load_scores"])
def test_public_names_are_on_the_page(root, name):
    assert f"### `{name}(" in make_api(root).page()

"""The documents keep their word: the examples in them run."""

import contextlib
import os
import shutil

import pytest
from documents import blocks

from data_pipelines.sources import SOURCES
from facedyn.core import person_filters
from facedyn.main import main


@pytest.fixture(scope="module")
def trained(arguments, tmp_path_factory):
    """A small finished workdir."""
    workdir = tmp_path_factory.mktemp("documents") / "trained"
    assert main(arguments("run", workdir, report__faces=False, fit__unit="person")) == 0
    return workdir


@contextlib.contextmanager
def inside(folder, workdir=None):
    """In `folder`, where runs/demo and runs/mine are copies of `workdir`."""
    for name in ("demo", "mine") if workdir else ():
        shutil.copytree(workdir, folder / "runs" / name)
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


def run_blocks(path, folder, workdir):
    """All Python blocks of a document, one after the other, names kept."""
    names = {}
    with inside(folder, workdir):
        for number, block in enumerate(blocks(path, "python")):
            exec(compile(block, f"{path.name}, Python block {number + 1}", "exec"), names)
    return names


def test_the_examples_of_contributing(root, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(person_filters, "KINDS", dict(person_filters.KINDS))
    before = dict(SOURCES)
    try:
        names = run_blocks(root / "CONTRIBUTING.md", tmp_path, trained)
    finally:
        SOURCES.clear()
        SOURCES.update(before)
    assert {"collect", "fit_people", "exponential_loss", "nearest_neighbours"} <= set(names)
    assert "nearest_neighbours" in (tmp_path / "runs/demo/scores.csv").read_text()


@pytest.mark.parametrize("name", ["README.md", "docs/data.md", "docs/processes.md"])
def test_the_python_examples_of_other_documents(root, trained, tmp_path, name):
    run_blocks(root / name, tmp_path, trained)

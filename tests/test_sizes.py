"""No function and no class is longer than a reader can hold in mind."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MOST = {ast.FunctionDef: 60, ast.ClassDef: 150}  # lines


def too_long(source: str) -> list[str]:
    """Names and lengths of the functions and classes of a module that are too long."""
    found = [node for node in ast.walk(ast.parse(source)) if type(node) in MOST]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in found if node.end_lineno}
    most = {node.name: MOST[type(node)] for node in found}
    return [f"{name}: {length} lines" for name, length in lengths.items() if length > most[name]]


@pytest.mark.parametrize("folder", ["facedyn", "data_pipelines", "configs", "benchmarks"])
def test_functions_and_classes_are_short(folder):
    of_files = {str(path.relative_to(ROOT)): too_long(path.read_text()) for path in (ROOT / folder).rglob("*.py")}
    assert {name: found for name, found in of_files.items() if found} == {}


def test_what_is_too_long_is_named():
    assert too_long("def f():\n" + "    x = 1\n" * 60) == ["f: 61 lines"]
    assert too_long("class A:\n" + "    x = 1\n" * 149) == []

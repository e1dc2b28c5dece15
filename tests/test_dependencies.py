"""pyproject.toml names every package that is imported, and none besides; nothing reaches into a library's inside unbounded."""

import ast
import importlib.metadata
import re
import sys
import tomllib

OURS = {"facedyn", "data_pipelines"}
# Needed without being imported by us: TFDS writes ArrayRecord through it.
THROUGH_OTHERS = {"array-record"}


def requirements(lines) -> dict[str, str]:
    """{name: the rest} of requirement lines."""
    found = (re.match(r"([\w.-]+)(?:\[[\w,]+\])?(.*)", line) for line in lines)
    return {normal(match[1]): match[2] for match in found}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def imported(root) -> dict[str, str]:
    """{first part of a module's name: a file that imports it} of everything imported in the packages."""
    found = {}
    for folder in OURS:
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                found |= {name.split(".")[0]: path.name for name in names}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names and name not in OURS}


def test_what_is_imported_is_declared_and_the_other_way_round(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = requirements(project["dependencies"])
    optional = requirements(line for extra in project["optional-dependencies"].values() for line in extra)
    packages = importlib.metadata.packages_distributions()
    used = set()
    for name, file in imported(root).items():
        owners = set(map(normal, packages.get(name, [name])))
        assert owners & (needed.keys() | optional.keys()), f"{file} imports {name}, which pyproject.toml does not name"
        used |= owners
    assert needed.keys() - used <= THROUGH_OTHERS, "pyproject.toml names packages that nothing imports"


def test_jax_has_an_upper_bound_while_its_inside_is_used(root):
    needed = requirements(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"])
    inside = [p.name for p in (root / "facedyn").rglob("*.py") if "jax._src" in p.read_text(encoding="utf-8")]
    assert inside == ["processes.py"]
    assert "<" in needed["jax"]

"""Writes docs/api.md from the docstrings of the modules that users and forks import. Reads the source, imports nothing.

python docs/make_api.py
"""

import ast
import inspect
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"

# What a user of results imports, what a fork of the core imports, what a new data set needs.
MODULES = (
    "facedyn/__init__.py",
    "facedyn/store/representations.py",
    "facedyn/store/scores.py",
    "facedyn/stages/embed.py",
    "facedyn/stages/traits/saved_heads.py",
    "facedyn/config.py",
    "facedyn/command_line.py",
    "facedyn/core/unet.py",
    "facedyn/core/rank_loss.py",
    "facedyn/core/person_filters.py",
    "facedyn/core/solvers.py",
    "facedyn/core/fit.py",
    "facedyn/core/low_rank.py",
    "facedyn/core/blocks.py",
    "facedyn/core/identification.py",
    "facedyn/core/trait_heads.py",
    "facedyn/core/cross_validation.py",
    "facedyn/core/mlp_validation.py",
    "facedyn/core/stacking.py",
    "facedyn/core/metrics.py",
    "facedyn/stages/traits/clip_features.py",
    "facedyn/core/pca.py",
    "facedyn/core/weight_shares.py",
    "data_pipelines/manifest.py",
    "data_pipelines/sources/__init__.py",
    "data_pipelines/sources/collection.py",
    "data_pipelines/dataset/face_clips.py",
    "data_pipelines/dataset/windows.py",
    "data_pipelines/synthetic/__init__.py",
    "data_pipelines/synthetic/bench.py",
)

TOP = """# API

Made by `python docs/make_api.py` from the docstrings; do not edit. Letters of shapes: P people, T frames, B centre frames,
N rows, H W C image, M maps, D representation length.
"""


def name_of(path: str) -> str:
    """'facedyn/core/fit.py' -> 'facedyn.core.fit'."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def signature(node) -> str:
    """As it is written, without `self` and `cls`."""
    arguments = ast.unparse(node.args)
    for first in ("self, ", "cls, ", "self", "cls"):
        if arguments.startswith(first):
            arguments = arguments.removeprefix(first)
            break
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({arguments}){result}"


def entries(body, within=""):
    """(signature, docstring) of every public function, class and method that has a docstring."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node):
                yield f"class {node.name}", ast.get_docstring(node)
            yield from entries(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ast.get_docstring(node):
            yield within + signature(node), ast.get_docstring(node)


def page() -> str:
    """The whole text."""
    trees = {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in MODULES}
    anchors = (f"[`{name_of(path)}`](#{name_of(path).replace('.', '').lower()})" for path in MODULES)
    parts = [TOP, " · ".join(anchors) + "\n"]
    for path, tree in trees.items():
        parts.append(f"## {name_of(path)}\n\n{fenced(ast.get_docstring(tree))}")
        parts += [f"### `{head}`\n\n{fenced(text)}" for head, text in entries(tree.body)]
    return "\n".join(parts)


def fenced(text: str) -> str:
    """A docstring as it stands in the source."""
    return f"```text\n{inspect.cleandoc(text)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(MODULES)} modules")

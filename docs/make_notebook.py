"""docs/tour.ipynb from docs/tour.py: its cells, without outputs.

    python docs/make_notebook.py

A cell begins at `# %%`; one marked `[markdown]` is text, commented out in the script.
"""

import json
import pathlib
import re

HERE = pathlib.Path(__file__).parent


def cells(script: str) -> list[dict]:
    """Cells of the notebook format 4.5, in order; ids by position, so that the same script gives the same file."""
    found = []
    for kind, body in re.findall(r"^# %%([^\n]*)\n(.*?)(?=^# %%|\Z)", script, re.MULTILINE | re.DOTALL):
        text = kind.strip() == "[markdown]"
        # An import in a later cell is nothing to silence in a notebook.
        source = re.sub(r"^# ?" if text else r"  # noqa: E402$", "", body.strip(), flags=re.MULTILINE)
        cell = {"cell_type": "markdown" if text else "code", "id": f"cell-{len(found)}", "metadata": {}}
        cell["source"] = source.splitlines(keepends=True)
        found.append(cell if text else cell | {"execution_count": None, "outputs": []})
    return found


def notebook(script: str) -> str:
    """The notebook's file, for any Python 3 kernel."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    whole = {"cells": cells(script), "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (HERE / "tour.ipynb").write_text(notebook((HERE / "tour.py").read_text(encoding="utf-8")), encoding="utf-8")

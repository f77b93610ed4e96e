"""Runs the notebooks and stores their outputs: ``python docs/run_notebooks.py [NOTEBOOK ...]``.

Cells are executed in order in one namespace, in a temporary folder, without Jupyter: its kernel and client would bring
some thirty packages for what is a loop here. Notebooks use no magics.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOKS = sorted((Path(__file__).parent / "notebooks").glob("*.ipynb"))
Cell = dict[str, Any]


def execute(source: str, names: dict[str, Any], number: int) -> list[Cell]:
    """Executes one cell.

    Args:
        source: Its code.
        names: The notebook's namespace, which the cell changes.
        number: The cell's number, from 1.

    Returns:
        Its outputs in the notebook format: printed text, then the value of a last expression.
    """
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    outputs: list[Cell] = []
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names) if last else None
    if text := printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        outputs.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return outputs


def run(notebook: Cell) -> Iterator[tuple[Cell, list[Cell]]]:
    """Executes a notebook in a temporary folder.

    Args:
        notebook: The parsed file.

    Yields:
        Each code cell with its new outputs.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
            for number, cell in enumerate(cells, start=1):
                yield cell, execute("".join(cell["source"]), names, number)
        finally:
            os.chdir(before)


def store(path: Path) -> None:
    """Executes a notebook and writes its outputs into it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for number, (cell, outputs) in enumerate(run(notebook), start=1):
        cell["outputs"], cell["execution_count"] = outputs, number
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for path in [Path(argument) for argument in sys.argv[1:]] or NOTEBOOKS:
        store(path)
        print(path)

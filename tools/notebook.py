#!/usr/bin/env python3
"""Runs the notebooks of docs/ from the root of the checkout: python tools/notebook.py

Executes the code cells in order, in one namespace, and writes what they print and draw back into the file. `--check`
writes nothing and exits with 1 if a notebook prints something else than it says; figures are drawn, but not compared.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

DOCS = Path(__file__).resolve().parent.parent / "docs"


def executed(book: dict[str, Any]) -> dict[str, Any]:
    """The notebook with the outputs that its cells have now."""
    space: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
                exec(compile("".join(cell["source"]), f"cell {count}", "exec", dont_inherit=True), space)
            cell = {**cell, "execution_count": count, "outputs": [*_stream(said.getvalue()), *_figures()]}
        cells.append(cell)
    return {**book, "cells": cells}


def _stream(text: str) -> Iterator[dict[str, Any]]:
    if text:
        yield {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}


def _figures() -> Iterator[dict[str, Any]]:
    for number in plt.get_fignums():
        data = io.BytesIO()
        plt.figure(number).savefig(data, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
        png = base64.b64encode(data.getvalue()).decode()
        yield {"data": {"image/png": png}, "metadata": {}, "output_type": "display_data"}
    plt.close("all")


def printed(book: dict[str, Any]) -> list[tuple[list[str], int]]:
    """Per code cell what it prints, and how many figures it draws."""
    found = []
    for outputs in (cell["outputs"] for cell in book["cells"] if cell["cell_type"] == "code"):
        text = [line for one in outputs for line in one.get("text", [])]
        found.append((text, sum("data" in one for one in outputs)))
    return found


def main() -> int:
    """Run every notebook."""
    different = 0
    for path in sorted(DOCS.glob("*.ipynb")):
        old = json.loads(path.read_text())
        new = executed(old)
        if "--check" not in sys.argv[1:]:
            path.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n")
        elif printed(old) != printed(new):
            different += 1
            print(f"{path.name} prints {printed(new)}")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())

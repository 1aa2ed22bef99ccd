"""What scripts write into README and docs/ is what they write now: figures of tables, the drawing, notebooks."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from experiments.planning.table_plans import reference_of
from tools import notebook, readme

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILLED = [page for page in PAGES if readme.BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", FILLED, ids=lambda page: page.name)
def test_figures_are_those_of_the_references(page: Path) -> None:
    assert readme.filled(page.read_text()) == page.read_text(), "python tools/readme.py"


def test_a_block_without_a_reference_says_so(tmp_path: Path) -> None:
    text = "<!-- quick:table -->\nwhat was here\n<!-- /quick:table -->\n"
    assert "has not been run" in readme.filled(text, tmp_path) and "what was here" not in readme.filled(text, tmp_path)


def test_each_row_has_the_ngrams_of_what_it_reads() -> None:
    """A row that trains for more steps has read more text, and counting more text needs no more bits."""
    found = reference_of("scale", readme.REFERENCES)
    assert found is not None
    own = readme.own_ngrams(found[0], "pycode")
    steps = {spec.model: spec.steps for spec in found[0].runs}
    assert set(own) == set(steps) and len(set(own.values())) > 5
    assert own["ressformer x4"] < own["ressformer x1"] < own["ressformer x0.25"]
    few, many = min(steps, key=lambda row: steps[row]), max(steps, key=lambda row: steps[row])
    assert own[few] == max(own.values()) and own[many] == min(own.values())


def test_a_task_without_text_has_no_ngrams() -> None:
    found = reference_of("hops", readme.REFERENCES)
    assert found is not None and readme.own_ngrams(found[0], "chain") == {}


def test_the_drawing_is_what_its_script_draws() -> None:
    spec = importlib.util.spec_from_file_location("draw_overview", ROOT / "docs" / "draw_overview.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    assert module.drawing() == (ROOT / "docs" / "overview.svg").read_text(), "python docs/draw_overview.py"


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_prints_what_it_shows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    book = json.loads(path.read_text())
    assert notebook.printed(notebook.executed(book)) == notebook.printed(book), "python tools/notebook.py"

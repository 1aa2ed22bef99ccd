"""The Python of the pages on cost and on trained models runs as it stands, in a folder that holds nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
BLOCKS = [
    (page, number, block)
    for page in ("cost.md", "look-at-a-model.md")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL))
]


def test_the_pages_have_their_snippets() -> None:
    assert len(BLOCKS) == 4 and all("assert " in block for _, _, block in BLOCKS)


@pytest.mark.parametrize(("page", "number", "block"), BLOCKS)
def test_a_snippet_runs(page: str, number: int, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"{page} #{number}", "exec", dont_inherit=True), {"__name__": "__main__"})

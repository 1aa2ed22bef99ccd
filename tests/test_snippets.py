"""The Python of pages on cost, trained models and one's own data runs as it stands, in a folder that holds nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

DOCS = Path(__file__).parent.parent / "docs"
BLOCKS = [
    (page, number, block)
    for page in ("cost.md", "look-at-a-model.md", "your-data.md")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL))
]


def test_the_pages_have_their_snippets() -> None:
    assert {page for page, _, _ in BLOCKS} == {"cost.md", "look-at-a-model.md", "your-data.md"}
    assert all("assert " in block for _, _, block in BLOCKS)


@pytest.mark.parametrize(("page", "number", "block"), BLOCKS)
def test_a_snippet_runs(page: str, number: int, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"{page} #{number}", "exec", dont_inherit=True), {"__name__": "__main__"})


@pytest.mark.parametrize(
    "block", re.findall(r"```yaml\n(.*?)```", (DOCS / "your-data.md").read_text(), flags=re.DOTALL)
)
def test_a_yaml_of_ones_own_is_a_task(block: str) -> None:
    values = OmegaConf.to_container(OmegaConf.create(block))
    assert isinstance(values, dict)
    task = get_class(str(values.pop("_target_")))(**values)
    assert task.columns and task.describe().licence == values["licence"]

"""How a task is found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import registry


def test_a_new_yaml_is_a_new_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CONF", tmp_path)
    (tmp_path / "mine.yaml").write_text("_target_: tasks.qa.chain.Chain\nfacts_max: 4\n", encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("_target_: tasks.qa.chain.Nothing\n", encoding="utf-8")
    assert registry.names() == ["broken", "mine"] and registry.load("mine").config.facts_max == 4
    with pytest.raises(ValueError, match=r"cannot import '_target_' of broken.yaml"):
        registry.load("broken")


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nope", [], "unknown task 'nope'; tasks: "),
        ("chain", ["facts_max"], "'facts_max' is not of the form key=value"),
        ("chain", ["facts=3"], "unknown key 'facts'; known keys: batch_size"),
    ],
)
def test_mistakes_are_one_line(name: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        registry.load(name, overrides)
    assert message in str(caught.value) and "\n" not in str(caught.value)

"""`python -m tasks`, and how a task is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from tasks.__main__ import main

from tasks import registry


def test_list_names_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == registry.names()


def test_show_prints_card_and_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "listops", "n_test=50", "n_validation=10"]) == 0
    out = capsys.readouterr().out
    assert "chance" in out and "test/ood_far, item 0" in out and "= -> " in out and "test/id: 50" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nope"], "unknown task 'nope'; tasks: "),
        (["show", "chain", "facts_max"], "'facts_max' is not of the form key=value"),
        (["show", "chain", "facts=3"], "unknown key 'facts'; known keys: batch_size"),
        ([], "usage: "),
        (["check", "mqar", "--n", "many"], "--n many: give a number of items of 1 or more"),
        (["check", "nope"], "unknown task 'nope'; tasks: "),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_a_new_yaml_is_a_new_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CONF", tmp_path)
    (tmp_path / "mine.yaml").write_text("_target_: tasks.qa.chain.Chain\nfacts_max: 4\n", encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("_target_: tasks.qa.chain.Nothing\n", encoding="utf-8")
    assert registry.names() == ["broken", "mine"] and registry.load("mine").config.facts_max == 4
    with pytest.raises(ValueError, match=r"cannot import '_target_' of broken.yaml"):
        registry.load("broken")


def test_check_counts_agreement(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["check", "mqar", "--n", "20"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:4] == ["mqar", "20", "20", "5"]
    monkeypatch.setattr("tasks.figures._agrees", lambda task, split, index: index > 0)
    assert main(["check", "mqar", "--n", "20"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].split()[:4] == ["mqar", "20", "15", "5"]


def test_show_prints_probes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "mqar", "probe=permute+noise", "n_test=20"]) == 0
    out = capsys.readouterr().out
    assert "probe/noise40, item 0" in out and "permute, rename, noise, distract, size" in out

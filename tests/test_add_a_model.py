"""The page on adding a model, as a visitor would paste it into an empty folder: every file, every command."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from experiments.__main__ import program

PAGE = (Path(__file__).parent.parent / "docs" / "add-a-model.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "console" for line in text.strip().splitlines()]
FILES = {text.partition("\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind in ("python", "yaml")}
OUTPUTS = [text for kind, text in BLOCKS if kind == "text"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the page's files in it, and a cache of its own."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RESSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("experiments.training.throughput.time_cell", lambda *_: None)
    for name in ("my", "smoothing", "whole"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def bare(text: str) -> str:
    """The text with its figures left out."""
    return re.sub(r"[\d.,]*\d(e[+-]\d+)?", "#", text).strip()


def test_the_page_has_its_blocks() -> None:
    assert {"my.py", "run.py", "smoothing.py", "whole.py"} <= set(FILES)
    assert len(COMMANDS) >= 9 and all(line.startswith("python -m experiments ") for line in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_the_page_says(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[3:]
    words += ["--dry-run"] if words[0] == "compare" else []  # minutes: the slow test trains
    assert program(words) == 0
    out = capsys.readouterr().out
    if command == COMMANDS[0]:
        assert bare(out) == bare(OUTPUTS[0])
    if words[0] == "check":
        assert out.endswith("every check passed\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_comparison_in_python_prints_what_the_page_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(FILES["run.py"], "run.py", "exec", dont_inherit=True), {"__name__": "__main__"})
    out = capsys.readouterr().out
    for line in ("Counted: FLOPs of mine", "- mqar: ", "- Cost, mine over transformer_rope: "):
        assert line in out and line in OUTPUTS[1]

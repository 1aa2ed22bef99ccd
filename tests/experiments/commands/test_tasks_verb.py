"""`python -m experiments tasks`: lists, shows and checks tasks, one that lies elsewhere included."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.__main__ import program
from experiments.errors import UserError
from tasks import registry
from tasks.hub.installed import Source, pack, unpack


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A task in a package and a conf folder of the user's own."""
    (tmp_path / "conf_of_mine" / "task").mkdir(parents=True)
    (tmp_path / "conf_of_mine" / "task" / "mine.yaml").write_text("_target_: tasks_of_mine.Mine\nfacts_max: 6\n")
    source = "from tasks.qa.chain import Chain\n\n\nclass Mine(Chain):\n    pass\n"
    (tmp_path / "tasks_of_mine.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    return [f"hydra.searchpath=[file://{tmp_path}/conf_of_mine]", "allow_targets=[tasks_of_mine]"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert program(["tasks", *words]) == 0
    return capsys.readouterr().out


def test_list_names_every_task(capsys: pytest.CaptureFixture[str], elsewhere: list[str]) -> None:
    names = [line.split()[0] for line in said(capsys, "list", *elsewhere).splitlines()]
    assert names == sorted([*registry.names(), "mine"])


def test_show_prints_card_samples_and_probes(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "show", "mqar", "probe=permute+noise", "task.n_test=20")
    assert "chance" in out and "test/id, item 0" in out and "test/id: 20" in out
    assert "probe/noise40, item 0" in out and "permute, rename, noise, distract, size" in out


def test_show_and_check_see_a_task_of_another_package(capsys: pytest.CaptureFixture[str], elsewhere: list[str]) -> None:
    out = said(capsys, "show", "mine", "n_test=20", "n_validation=10", *elsewhere)
    assert out.startswith("mine\n") and "test/id: 20" in out
    assert said(capsys, "check", "mine", "--items", "20", *elsewhere).splitlines()[-1].split()[:3] == [
        "mine",
        "20",
        "20",
    ]


def test_check_counts_agreement(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(capsys, "check", "mqar", "--items", "20").splitlines()[-1].split()[:4] == ["mqar", "20", "20", "5"]
    monkeypatch.setattr("tasks.figures._agrees", lambda task, split, index: index > 0)
    assert program(["tasks", "check", "mqar", "--items=20"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].split()[:4] == ["mqar", "20", "15", "5"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "unknown action of tasks ''; available: check, list, pack-text, show, sizes, table"),
        ("shwo chain", "unknown action of tasks 'shwo' .did you mean show"),
        ("show", "tasks show takes one task"),
        ("show chian", "unknown task 'chian' .did you mean chain"),
        ("show chain facts=3", "unknown key 'facts'; known keys: batch_size"),
        ("check mqar --items many", "--items takes a whole number of 1 or more, got 'many'"),
        ("check nope", "unknown task 'nope'"),
        ("pack-text pycode", "takes one task and a file, e.g. tasks pack-text pycode --to pycode.jsonl.gz"),
        ("pack-text chain --to a.jsonl.gz", "chain reads no installed packages; pycode does"),
        ("pack-text pycode --to a.gz", "takes one task and a file"),
        ("list --to a.jsonl.gz", "--to belongs to tasks pack-text"),
        ("list chain", "tasks list takes no 'chain'"),
    ],
)
def test_mistakes_are_one_line(words: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        program(["tasks", *words.split()])
    assert "\n" not in str(caught.value)


def test_a_packed_text_is_read_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "".join(f"def name{'abcdefghij'[n % 10] * (n + 1)}(value):\n    return value\n" for n in range(40))
    made = [Source("sympy", "1", "BSD", f"sympy/{n}.py", source[n:]) for n in range(40)]
    made += [Source("networkx", "1", "BSD", "networkx/a.py", source)]
    (tmp_path / "first.jsonl").write_bytes(pack(made, []))
    packed = tmp_path / "second.jsonl.gz"
    out = said(capsys, "pack-text", "pycode", f"path={tmp_path / 'first.jsonl'}", f"to={packed}")
    assert "sympy 1: BSD" in out and f"task.path={packed}" in out
    assert unpack(packed, ["sympy", "networkx"]) == sorted(made, key=lambda one: (one.package != "sympy", one.file))
    with pytest.raises(UserError, match="cannot be written"):
        program(["tasks", "pack-text", "pycode", f"path={packed}", "--to", str(tmp_path / "no" / "a.jsonl.gz")])

"""Input that cannot be read or shown at all: long values, control characters, paths that lead nowhere, broken YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.__main__ import VERBS, program
from experiments.errors import LONGEST_LINE, UserError, explain
from experiments.planning.hydra_config import require_jobs
from experiments.planning.plan import read_request, request_key
from experiments.planning.settings import TableSettings

LOOKING = ("status", "runs", "verify", "export", "report", "spent", "prune")


def line_of(words: list[str]) -> str:
    """The one line that the words end with; it can be printed and has a bound."""
    with pytest.raises(Exception) as raised:
        program(words)
    line = explain(raised.value)
    assert line is not None, f"a traceback: {raised.value!r}"
    assert line.isprintable() and len(line) < LONGEST_LINE + 100
    return line


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_repeats_a_long_value_or_sends_control_characters(verb: str) -> None:
    counts_words = verb in ("why", "compare")  # they complain of how many there are, and repeat none
    assert counts_words or "(100000 characters)'" in line_of([verb, "x" * 100_000])
    assert counts_words or "\\x1b[31m" in line_of([verb, "\x1b[31mred\x07"])


def test_a_long_value_of_many_words_is_cut_too() -> None:
    line = line_of(["word " * 30_000])
    assert "characters)" in line


@pytest.mark.parametrize("verb", LOOKING)
def test_a_results_folder_whose_name_is_too_long(verb: str) -> None:
    words = ["table=smoke"] if verb == "report" else []
    assert "File name too long" in line_of([verb, *words, "--results-dir", "x" * 5000])


BROKEN = {
    "unclosed": b"name: [unclosed\n  x: :",
    "tab": b"name:\tx\n\tmodels: [a]\n",
    "twice": b"name: a\nname: b\n",
    "scalar": b"3\n",
    "binary": b"\xff\xfe\x00name: x",
    "list": b"- a\n- b\n",
}


@pytest.mark.parametrize("group", ["table", "sweep"])
@pytest.mark.parametrize("name", BROKEN)
def test_an_own_file_that_is_no_yaml(group: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "conf" / group / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(BROKEN[name])
    line = line_of(["plan" if group == "table" else "sweep", f"{group}={name}", f"results_dir={tmp_path}"])
    assert name in line or group in line


@pytest.mark.parametrize("value", ["null", "3"])
@pytest.mark.parametrize("group", ["table", "trainer", "budget"])
def test_a_group_that_is_set_to_what_names_no_file(group: str, value: str) -> None:
    line = line_of(["plan", *(["table=smoke"] if group != "table" else []), f"{group}={value}"])
    assert group in line


def test_files_of_others_do_not_stop_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "table" / "folder.yaml").mkdir(parents=True)
    (tmp_path / "conf" / "table" / "other.yaml").write_bytes(BROKEN["binary"])
    assert request_key(read_request(["table=smoke"]))


@pytest.mark.parametrize("key", ["allow_small_test", "allow_unchecked", "allow_targets"])
@pytest.mark.parametrize("value", ["3", "true", "chain", "{a:1}", "[3]", "[null]"])
def test_what_takes_names_takes_nothing_else(key: str, value: str, tmp_path: Path) -> None:
    assert key in line_of(["plan", "table=smoke", f"{key}={value}", f"results_dir={tmp_path}"])


OWN_CODE = """
class Model:
    @classmethod
    def from_dict(cls, values):
        raise RuntimeError("first line\\nsecond line")


class Task:
    def __init__(self):
        raise KeyError("inside")
"""


def own(folder: Path, monkeypatch: pytest.MonkeyPatch, group: str, target: str) -> list[str]:
    """The words that choose a file `mine` of the group, whose class lies in the folder."""
    (folder / "broken_import_of_mine.py").write_text("raise OSError('while it is imported')")
    (folder / "raising_code_of_mine.py").write_text(OWN_CODE)
    (folder / group).mkdir()
    (folder / group / "mine.yaml").write_text(f"_target_: {target}\n")
    monkeypatch.syspath_prepend(folder)
    allow = "allow_targets=[broken_import_of_mine,raising_code_of_mine]"
    return [f"{group}=mine", allow, f"hydra.searchpath=[file://{folder}]"]


@pytest.mark.parametrize(
    ("group", "target", "said"),
    [
        ("model", "broken_import_of_mine.Model", "OSError: while it is imported"),
        ("model", "raising_code_of_mine.Model", "RuntimeError: first line second line"),
        ("task", "broken_import_of_mine.Task", "OSError: while it is imported"),
        ("task", "raising_code_of_mine.Task", "KeyError: 'inside'"),
    ],
)
def test_own_code_that_raises(
    group: str, target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = own(tmp_path, monkeypatch, group, target)
    for verb in ("check", "cost"):
        line = line_of([verb, *words, *(["task=chain"] if group == "model" else ["model=transformer"])])
        assert said in line and target in line and "HYDRA_FULL_ERROR" in line


@pytest.mark.parametrize("action", ["show", "check", "sizes"])
def test_tasks_without_their_data(action: str, tmp_path: Path) -> None:
    line = line_of(["tasks", action, "text", f"path={tmp_path}/nowhere", "--items", "3"])
    assert "does not exist" in line


def test_a_wandb_project_that_cannot_be(tmp_path: Path) -> None:
    assert "logger.project" in line_of(["sync", "--project", "x" * 1000, f"results_dir={tmp_path}"])


def test_an_own_budget_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "budget").mkdir(parents=True)
    (tmp_path / "conf" / "budget" / "bare.yaml").write_text("")
    assert "no name" in line_of(["budget", "table", "bare"])


def test_a_file_of_sizes_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "sizes.csv").write_bytes(b"\xff\xfe\xfd" * 100)
    assert "is no CSV of solved sizes" in line_of(["budget", "check", "--to", str(tmp_path / "sizes.csv")])


def test_an_own_class_that_is_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = own(tmp_path, monkeypatch, "task", "collections.Counter")
    words[1] = "allow_targets=[collections]"
    assert "is no task" in line_of(["tasks", "check", "mine", *words[1:]])


LOOKED_AT: dict[str, list[str]] = {
    **{verb: [] for verb in ("status", "runs", "sync", "export", "prune", "verify", "pack", "unpack", "report")},
    "why": ["quick", "ressformer", "chain"],
    "sample": ["run=r0123456789abcd", "item=0"],
    "evaluate": ["run=r0123456789abcd"],
}


@pytest.mark.parametrize("verb", LOOKED_AT)
def test_a_results_folder_that_is_not_there(verb: str, tmp_path: Path) -> None:
    """Looking makes no folder; in an empty one there is nothing, which is no mistake."""
    words = [verb, *LOOKED_AT[verb]]
    assert f"there is no folder {tmp_path}/nowhere" in line_of([*words, f"results_dir={tmp_path}/nowhere"])
    assert not (tmp_path / "nowhere").exists()
    if verb in ("status", "runs", "sync"):
        assert program([verb, f"results_dir={tmp_path}"]) == 0


@pytest.mark.parametrize("verb", ["status", "verify"])
def test_a_table_of_a_results_folder_that_is_not_there(verb: str, tmp_path: Path) -> None:
    assert "there is no folder" in line_of([verb, "table=smoke", f"results_dir={tmp_path}/nowhere"])


@pytest.mark.parametrize("verb", ["plan", "check", "cost", "sweep", "tasks", "compare"])
@pytest.mark.parametrize(
    "path",
    [
        "[file:///nowhere/x]", "[file://nowhere]", "nowhere", "[pkg://nosuch.conf]", "[pkg://experiments,file://x]",
        "[file://${oc.env:HOME}]", "['file:///nowhere/x']", "[file://${oc.env:NOT_SET}/x]",
    ],
)  # fmt: skip
def test_a_search_path_that_leads_nowhere(verb: str, path: str) -> None:
    words = {"plan": ["table=smoke"], "tasks": ["show", "chain"], "compare": ["a=transformer", "b=longformer"]}
    line = line_of([verb, *words.get(verb, ["model=transformer", "task=chain"]), f"hydra.searchpath={path}"])
    assert "hydra.searchpath: there is no" in line and "file://FOLDER" in line


@pytest.mark.parametrize(
    "words",
    [
        "seed=range(0,1000000)", "seed=range(0,1000000000000)", "seed=range(0,100001)", "model=a,b seed=range(0,99999)",
        "seed=range(0,400) trainer.optim.lr=range(1,400)", "trainer.optim.lr=range(0,1000,0.001)",
        "sweep=lr seed=range(0,60000)",
    ],
)  # fmt: skip
def test_a_sweep_has_a_bound(words: str) -> None:
    line = line_of(["sweep", "model=transformer", "task=chain", *words.split()])
    assert "100,000" in line and "at most" in line


def test_a_table_and_a_multirun_have_the_same_bound() -> None:
    with pytest.raises(UserError, match="at most 100,000 runs, and this asks for 2 x 60,000 = 120,000"):
        TableSettings(name="x", models=["a", "b"], tasks=["t"], seeds=list(range(60_000)), budget="tiny")
    require_jobs(["-m", "seed=0,1", "task.length=range(0,50)", "model=glob(*)", "x=interval(0,1)", "plan='/a,b'"])
    with pytest.raises(UserError, match="at most 100,000 runs"):
        require_jobs(["--multirun", "seed=range(0,1000000000)", "+task.length=3"])

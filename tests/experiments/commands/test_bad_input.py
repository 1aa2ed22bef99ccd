"""Bad input: one clear line that names the thing and lists what would do, exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.__main__ import program
from experiments.errors import FULL, UserError, main
from experiments.planning.plan import plan_for, read_request
from experiments.planning.sweep_request import read_sweep
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.compare import compared_words
from experiments.studies.reproduce import reproduce
from experiments.studies.sweep import sweep


@pytest.fixture(autouse=True)
def _short_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FULL, raising=False)


def complaint(body: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that `body` leaves on stderr on its way out with code 2."""
    with pytest.raises(SystemExit) as left:
        main(body)
    assert left.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in said if not line.startswith("preflight:")]  # what went well before
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


BAD = {
    "table=quik": ["table", "'quik'", "did you mean quick", "smoke"],
    "": ["no table", "table=NAME", "quick"],
    "table=smoke table.models=[resformer]": ["model", "'resformer'", "did you mean ressformer", "transformer"],
    "table=smoke table.tasks=[chian]": ["task", "'chian'", "did you mean chain", "listops"],
    "table=smoke table.budget=tinny": ["budget", "'tinny'", "did you mean tiny"],
    "table=smoke trainer.val_evry=3": ["trainer", "'val_evry'", "did you mean val_every", "log_every"],
    "table=smoke trainer.val_every=soon": ["trainer.val_every", "integer", "'soon'"],
    "table=smoke trainer.select=worst": ["trainer.select", "'best' or 'last'"],
    "table=smoke nonsense=3": ["'nonsense'", "available", "results_dir"],
    "table=smoke table.seeds=[a]": ["table.seeds.0", "integer"],
    "table=smoke table.seed=[1]": ["'seed'", "did you mean seeds"],
    "table=smoke model=ressformer": ["model", "table.models=[NAME,...]"],
    "table=smoke seed=3": ["seed", "table.seeds="],
    "table=smoke launcher.n_jobs=0.5": ["launcher.n_jobs"],
    "table=smoke launcher=slurmy": ["launcher", "'slurmy'", "joblib"],
    "table=smoke ++trainer.colour=red": ["trainer.colour", "known keys of trainer", "val_every"],
    "table=smoke table.tasks=[chain] task.lenght=9": ["lenght", "known keys", "length"],
    "table=smoke table.tasks=[chain] task.length=3": ["length=3"],
    "table=smoke table.tasks=[chain] model.heads=3": ["heads", "known keys", "n_heads"],
    "table=smoke table.tasks=[chain] budget.params=100": ["budget tiny", "100", "nearest", "limits"],
    "table=smoke ++model._target_=os.system": ["os.system", "allowed packages", "allow_targets=[PACKAGE]"],
    "plan=nowhere/quick-1.json": ["plan", "quick-1.json"],
    "table=smoke a=b=c=[": ["a=b=c=["],
}


@pytest.mark.parametrize("arguments", BAD)
def test_reproduce(arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments.split()
    if not arguments.startswith("plan="):
        words.append(f"results_dir={tmp_path}/results")
    line = complaint(lambda: reproduce(words), capsys)
    for part in BAD[arguments]:
        assert part in line
    assert not list(tmp_path.glob("results/runs/*/*"))


def test_a_results_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    line = complaint(lambda: reproduce(["table=smoke", f"results_dir={tmp_path}/file/results"]), capsys)
    assert "file/results cannot be written" in line and "results_dir=FOLDER" in line


def test_a_corrupt_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["table=smoke", "table.tasks=[pydocs]", "table.models=[transformer]", f"results_dir={tmp_path}"]
    store = Store(tmp_path)
    plan, _ = plan_for(read_request(words), store)
    path = store.folder(plan.runs[0].id) / "record.json"
    atomic.write_text(path, "garbage")
    line = complaint(lambda: reproduce(words), capsys)
    assert plan.runs[0].id in line and "record.json.corrupt-1" in line and "redoes the run" in line
    assert path.with_name("record.json.corrupt-1").read_text() == "garbage"


def test_a_file_that_is_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plans" / "quick-1.json"
    atomic.write_text(path, "{}")
    assert "quick-1.json is not a plan" in complaint(lambda: reproduce([f"plan={path}"]), capsys)


def test_a_plan_is_frozen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(lambda: reproduce(["plan=x.json", "trainer.val_every=3"]), capsys)
    assert "frozen" in line and "trainer.val_every=3" in line


def test_compare_and_sweep_and_export(capsys: pytest.CaptureFixture[str]) -> None:
    assert "two models" in complaint(lambda: program(["compare", "a=ressformer"]), capsys)
    assert "needs task=NAME" in complaint(lambda: sweep(["model=ressformer"]), capsys)
    assert "one budget" in complaint(lambda: sweep(["model=a", "task=b", "budget=tiny,small"]), capsys)
    assert "'nosuch'" in complaint(lambda: sweep(["sweep=nosuch"]), capsys)
    assert "'tabel'" in complaint(lambda: program(["export", "tabel=quick"]), capsys)


def test_compare_spells_out_its_short_words() -> None:
    start = ["table.models=[x,y]", "table.name=compare-x-y"]
    assert compared_words(["x", "y"], ["seed.z=1"], tasks=["t"], budget="tiny") == [
        *("table=quick", "table.seeds=[0,1,2,3,4]", *start, "table.tasks=[t]", "table.budget=tiny", "seed.z=1")
    ]
    assert compared_words(["x", "y"], ["table=cpu"], seeds=["3"]) == [*start, "table.seeds=[3]", "table=cpu"]


def test_the_grid_of_a_sweep() -> None:
    request = read_sweep(["model=m", "task=t", "seed=0,1", "trainer.optim.lr=1e-3,2e-3", "+model.k=2,3", "x.y=1"])
    table, fixed = request.table, request.overrides
    assert [entry["overrides"] for entry in table["models"]] == [
        [f"trainer.optim.lr={lr}", f"+model.k={k}"] for lr in ("0.001", "0.002") for k in (2, 3)
    ]
    assert (table["tasks"], table["seeds"], table["budget"], fixed) == (["t"], [0, 1], "tiny", ["x.y=1"])


def test_a_later_argument_replaces_that_of_a_sweep_preset() -> None:
    table = read_sweep(["sweep=lr", "trainer.optim.lr=7,8", "task=listops"]).table
    assert table["tasks"] == ["listops"]
    assert {entry["overrides"][0] for entry in table["models"]} == {"trainer.optim.lr=7", "trainer.optim.lr=8"}


def test_the_traceback_is_there_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FULL, "1")
    with pytest.raises(UserError, match="no table"):
        main(lambda: reproduce([]))


def test_our_own_errors_are_not_hidden() -> None:
    def broken() -> int:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        main(broken)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["model=resformer"], ["'resformer'", "did you mean ressformer"]),
        (["trainer.foo=1"], ["'foo'", "val_every"]),
        (["task.length=3", "task=chain"], ["length=3"]),
    ],
)
def test_train_through_hydra(words: list[str], parts: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", *words, f"results_dir={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and all(part in lines[0] for part in parts)

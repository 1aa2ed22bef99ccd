"""What stands behind a cell, and what is asked for in vain."""

from __future__ import annotations

import os

import pytest
from toy import fill, table_plan

from experiments.__main__ import program
from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store.store import Store


@pytest.fixture
def folder(store: Store) -> str:
    plan = table_plan()
    fill(store, plan)
    atomic.write_text(store.root / "plans" / plan.file_name, plan.model_dump_json())
    return f"results_dir={store.root}"


def test_every_run_of_the_cell_is_named(folder: str, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["why", "toy", "a", "chain", folder]) == 0
    out = capsys.readouterr().out
    ids = [spec.id for spec in table_plan().runs if spec.model == "a"]
    assert len(ids) == 3 and all(f"run {run}," in out for run in ids)
    assert "mean 0.9100 over 3 of 3 runs" in out and "sources code" in out and str(store.root) in out


def test_a_newer_plan_of_other_cells_does_not_hide_it(
    folder: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    part = table_plan(models=("b",))
    atomic.write_text(store.root / "plans" / part.file_name, part.model_dump_json())
    for path in (store.root / "plans").iterdir():
        os.utime(path, (1, 2 if path.name == part.file_name else 1))
    assert program(["why", "toy", "a", "chain", folder]) == 0
    assert "mean 0.9100 over 3 of 3 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["toy", "a"], "takes a table, a row"),
        (["toi", "a", "chain"], "unknown table .*'toi' .did you mean toy"),
        (["toy", "c", "chain"], "unknown row of table toy 'c'; available: a, b"),
        (["toy", "a", "chian"], "unknown column of table toy 'chian' .did you mean chain"),
    ],
)
def test_what_is_not_there_is_named(words: list[str], message: str, folder: str) -> None:
    with pytest.raises(UserError, match=message):
        program(["why", *words, folder])

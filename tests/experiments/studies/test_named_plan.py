"""Which plan a command looks at: never an empty one if another of the name, or of the preset, has results."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toy import make_record, table_plan

import experiments
from experiments.__main__ import program
from experiments.analysis.claims import plan_with
from experiments.errors import UserError
from experiments.planning.plan import Plan
from experiments.planning.table_plans import plans_of
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.named_plan import frozen, named_plan


def put(store: Store, name: str, seeds: tuple[int, ...], *, age: int, run: int = 0) -> Plan:
    """A plan of that age, in which the first `run` runs have a record."""
    plan = table_plan(models=("a",), seeds=seeds)
    plan = plan.model_copy(update={"table": plan.table.model_copy(update={"name": name})})
    path = store.root / "plans" / plan.file_name
    atomic.write_text(path, plan.model_dump_json())
    os.utime(path, (1000 - age, 1000 - age))
    for spec in plan.runs[:run]:
        store.write_record(make_record(spec))
    return plan


def looked_at(store: Store, table: str = "toy") -> Plan:
    return named_plan([f"table={table}", f"results_dir={store.root}"])[0]


def test_the_newest_that_has_results(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    old = put(store, "toy", (0, 1, 2), age=3, run=1)
    assert looked_at(store) == old and capsys.readouterr().err == ""
    new = put(store, "toy", (3, 4), age=2, run=2)
    empty = put(store, "toy", (7,), age=1)
    assert looked_at(store) == new
    assert experiments.load("toy", str(store.root))["n_ok"].tolist() == [2, 2]
    assert frozen(["table=toy", f"results_dir={store.root}"])[0] == empty  # what `resume` goes on with


def test_a_part_never_stands_for_the_table_and_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    whole = put(store, "toy", (0, 1, 2), age=3, run=3)
    part = put(store, "toy+seeds-5-0a1b2c", (5,), age=1, run=1)
    assert looked_at(store) == whole
    assert capsys.readouterr().err == f"shown: toy, plan {whole.file_name}; also here: toy+seeds-5-0a1b2c\n"
    assert looked_at(store, "toy+seeds-5-0a1b2c") == part
    assert experiments.load("toy", str(store.root))["n_ok"].tolist() == [3, 3]


def test_where_the_table_is_empty_a_part_is_shown_and_said_to_be(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, "toy", (0, 1, 2), age=0)
    part = put(store, "toy+seeds-5-0a1b2c", (5,), age=1, run=1)
    put(store, "toys", (8,), age=0, run=1)
    assert looked_at(store) == part
    said = capsys.readouterr().err
    assert (
        said.startswith("shown: toy+seeds-5-0a1b2c, plan") and "nothing of toy has run" in said and "toys" not in said
    )
    assert set(experiments.load("toy", str(store.root), seeds=True)["seed"]) == {5}
    assert program(["why", "toy", "a", "chain", f"results_dir={store.root}"]) == 0
    assert "seed 5: accuracy" in capsys.readouterr().out


def test_nothing_at_all_is_said(store: Store) -> None:
    with pytest.raises(UserError, match=r"no plan of table toy in .* has results: make reproduce-table TABLE=toy"):
        experiments.load("toy", str(store.root))
    with pytest.raises(UserError, match="unknown frozen plan 'toy'"):
        looked_at(store)


def test_a_run_under_way_counts_for_its_status(store: Store) -> None:
    put(store, "toy", (0, 1), age=3, run=1)
    begun = put(store, "toy", (7,), age=1)
    words = ["table=toy", f"results_dir={store.root}"]
    with store.claim(begun.runs[0].id):
        assert named_plan(words, running=True)[0] == begun
        assert named_plan(words)[0] != begun


def test_claims_take_the_part_with_the_most_runs_and_no_other_runs(store: Store) -> None:
    put(store, "toy", (0, 1, 2), age=0, run=1)
    many = put(store, "toy+seeds-0-1-2-3-aaaaaa", (3, 4, 5, 6), age=3, run=4)
    put(store, "toy++lr-0.1-bbbbbb", (7, 8, 9, 10, 11), age=1, run=5)
    folder: Path = store.root / "plans"
    over = [spec.id for spec in many.runs]
    assert plan_with(plans_of(folder, "toy"), [("a", "chain")], lambda run: run in over) == many
    assert plan_with(plans_of(folder, "other"), [("a", "chain")], lambda run: True) is None
    assert plan_with(iter([many]), [("z", "chain")], lambda run: True) == many

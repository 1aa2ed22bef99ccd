"""The plan: complete, frozen, remembered; and what a second call costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy import make_record

from experiments.planning import plan as planning
from experiments.planning.instantiate import build_task
from experiments.planning.plan import Plan, load_plan, plan_for, read_request, run_overrides
from experiments.planning.run_spec import with_count
from experiments.planning.settings import Entry, TableSettings
from experiments.store.store import Store

WORDS = ["table=smoke", "table.tasks=[pydocs]", "table.seeds=[0,1]"]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Store]:
    store = Store(tmp_path_factory.mktemp("results"))
    plan, path = plan_for(read_request([*WORDS, f"results_dir={store.root}"]), store)
    return plan, path, store


def test_the_plan_is_complete(planned: tuple[Plan, Path, Store]) -> None:
    plan, path, store = planned
    assert [(s.model, s.task, s.seed) for s in plan.runs] == [
        (model, "pydocs", seed) for model in ("ressformer", "transformer") for seed in (0, 1)
    ]
    assert len({spec.id for spec in plan.runs}) == 4
    assert path.parent == store.root / "plans" and load_plan(path) == plan
    for spec in plan.runs:
        assert spec.config["seed"] == spec.seed and spec.steps >= 1
        assert spec.cost.flops_train == pytest.approx(4e10, rel=0.1)
        assert spec.cost.counted_forward is None
        counted = with_count(spec, build_task(spec.config["task"])).cost.counted_forward
        assert counted == pytest.approx(spec.cost.flops_forward_executed, rel=0.005)
        assert abs(spec.budget.residual["params"]) <= 0.02 and spec.budget.on_budget
        assert "results_dir" not in spec.config and "launcher" not in spec.config


def test_a_plan_names_no_path(planned: tuple[Plan, Path, Store]) -> None:
    assert str(planned[2].root) not in planned[1].read_text()


def test_the_second_time_nothing_is_solved(planned: tuple[Plan, Path, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    plan, path, store = planned
    monkeypatch.setattr(planning, "make_plan", lambda request: pytest.fail("solved again"))
    again = plan_for(read_request([*WORDS, f"results_dir={store.root}", "launcher.n_jobs=1"]), store)
    assert again == (plan, path)


@pytest.mark.parametrize("change", [["trainer.val_every=7"], ["table.seeds=[0]"]])
def test_a_change_makes_a_new_plan(
    planned: tuple[Plan, Path, Store], monkeypatch: pytest.MonkeyPatch, change: list[str]
) -> None:
    class Solved(Exception):
        pass

    def solve(request: Any) -> Plan:
        raise Solved

    monkeypatch.setattr(planning, "make_plan", solve)
    with pytest.raises(Solved):
        plan_for(read_request([*WORDS, *change, f"results_dir={planned[2].root}"]), planned[2])


def test_a_changed_source_makes_a_new_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    request = read_request(WORDS)
    before = planning.request_key(request)
    monkeypatch.setattr(planning, "source_fingerprint", lambda folders: "edited")
    assert planning.request_key(request) != before


def test_the_more_specific_override_is_the_later() -> None:
    table = TableSettings(
        name="t",
        models=["m"],
        tasks=["k"],
        seeds=[0],
        budget="tiny",
        overrides=["a=1"],
        per_task={"k": ["a=2"]},
        per_model={"m": ["a=3"]},
        per_cell={"k": {"m": ["a=4"], "other": ["a=9"]}, "another": {"m": ["a=9"]}},
    )
    entry = Entry(label="x", model="m", overrides=["a=5"])
    assert run_overrides(table, entry, "k", ["a=6"]) == [
        *("model=m", "task=k", "budget=tiny", "++logger.group='t'"),
        *("a=1", "a=2", "a=3", "a=4", "a=5", "a=6"),
    ]


NOTHING_TO_DO = """
import sys
from experiments.studies.reproduce import reproduce
code = reproduce(sys.argv[1:])
print(sorted(name for name in ("torch", "lightning", "tasks", "ressformer") if name in sys.modules))
raise SystemExit(code)
"""


def test_with_nothing_to_do_torch_is_not_imported(planned: tuple[Plan, Path, Store]) -> None:
    plan, _, store = planned
    for spec in plan.runs:
        store.write_record(make_record(spec, 0.5, items={}))
    words = [sys.executable, "-c", NOTHING_TO_DO, *WORDS, f"results_dir={store.root}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "4 runs, 4 over, 0 to do" in done.stderr
    assert (store.root / "exports" / f"{plan.table.name}.csv").exists()

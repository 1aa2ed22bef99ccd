"""The first screen and the index: what is claimed is what the table decides."""

from __future__ import annotations

from typing import Any

import pytest
from toy import fill, frozen_plan, make_record, make_spec, table_plan

from experiments.analysis.frames import Runs
from experiments.errors import UserError
from experiments.planning.plan import Plan
from experiments.planning.settings import Entry
from experiments.reporting.answers import answers, asked, question
from experiments.reporting.scaling_figure import SUFFIX
from experiments.reporting.strips import columns_of, level_rows
from experiments.reporting.table import from_records
from experiments.store import atomic_files as atomic
from experiments.store.records import LevelInfo
from experiments.store.store import Store
from experiments.studies.report import report


def answer(plan: Plan, store: Store) -> dict[str, Any]:
    records = store.records(spec.id for spec in plan.unique())
    runs: Runs = [(spec, records.get(spec.id)) for spec in plan.runs]
    (found,) = answers(plan, runs, from_records(plan, records))
    return found


def with_levels(plan: Plan, *levels: LevelInfo) -> Plan:
    runs = [
        s.model_copy(update={"task_info": s.task_info.model_copy(update={"levels": list(levels)})}) for s in plan.runs
    ]
    return plan.model_copy(update={"runs": runs})


def rule(name: str, value: float, split: str = "test/id") -> LevelInfo:
    return LevelInfo(split=split, metric="accuracy", name=name, value=value)


def test_what_is_decided_is_said_so(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    found = answer(plan, store)
    assert found["won"] and found["text"] == "a is best, and that is decided"
    assert "a 0.9100, b 0.5100 test accuracy: apart by 0.4 [" in found["more"]
    assert "relations" in found["asks"] and found["example"]


def test_too_few_seeds_are_no_verdict(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    plan = plan.model_copy(update={"table": plan.table.model_copy(update={"bold_seeds": 5})})
    found = answer(plan, store)
    assert found["text"] == "a leads b by 0.4; only 3 seeds: no verdict" and not found["won"]
    assert "A verdict needs 5 seeds." in found["more"]


def test_nobody_leads_who_is_no_better_than_a_simple_rule(store: Store) -> None:
    plan = with_levels(table_plan(), rule("nearest", 0.95))
    fill(store, plan)
    found = answer(plan, store)
    assert found["text"] == "no row is better than the best simple rule (a is best, and that is decided)"
    assert "The best simple rule, nearest, scores 0.9500." in found["more"]


def test_the_question_names_rows_tasks_and_what_is_the_same() -> None:
    text = question(table_plan())
    assert text == "Which of 2 models is best on chain, at the same 1k non-embedding parameters and 1G training FLOPs?"


def test_a_task_without_its_data_has_no_example() -> None:
    spec = make_spec()
    broken = {**spec.config, "task": {"_target_": "tasks.qa.chain.Nothing"}}
    assert asked(spec.model_copy(update={"config": broken})) == {"asks": "", "example": ""}


def test_levels_of_a_column_and_where_they_lie(store: Store) -> None:
    plan = with_levels(table_plan(), rule("nearest", 0.6), rule("3-gram of 10 bytes", 0.7), rule("4-gram", 0.8))
    records = {spec.id: make_record(spec, 0.4 + 0.2 * spec.seed) for spec in plan.runs}
    (column,) = columns_of(from_records(plan, records), [(spec, records[spec.id]) for spec in plan.runs])
    # From chance at 0.25 to the best seed at 0.8, with 4 % of 0.55 at each end: 0.022 of 0.594, 0.372, 0.472.
    assert column["lines"] == {"chance": 3.7, "rule": 62.6, "ngram": 79.5}
    assert column["levels"]["ngram"]["name"] == "3-gram of 10 bytes" and column["levels"]["rule"]["name"] == "nearest"
    assert len(column["cells"]) == 2 and len(column["cells"][0]["strip"]["seeds"]) == 3
    assert [row["kind"] for row in level_rows([column])] == ["rule", "ngram"]


def test_report_without_a_table_is_an_index(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    plan = table_plan()
    fill(store, plan)
    atomic.write_text(store.root / "plans" / "toy-1.json", plan.model_dump_json())
    swept = plan.model_copy(update={"table": plan.table.model_copy(update={"name": "sweep-lr-toy-abc"})})
    atomic.write_text(store.root / "plans" / "sweep-lr-toy-abc-1.json", swept.model_dump_json())
    rows = [{"label": f"a #{n}", "model": "a", "tasks": ["chain"][:n]} for n in (0, 1)]
    tuned = plan.table.model_copy(update={"name": "lr-toy", "models": [Entry.model_validate(row) for row in rows]})
    trials = [spec.model_copy(update={"model": f"a #{spec.seed % 2}"}) for spec in plan.runs]
    lr = plan.model_copy(update={"table": tuned, "runs": trials})
    atomic.write_text(store.root / "plans" / "lr-toy-1.json", lr.model_dump_json())
    atomic.write_text(store.root / "exports" / "lr-toy-best.csv", "model,task\n")
    atomic.write_text(store.root / "exports" / "figures" / "lr-toy" / "lr-toy-chain.png", "")
    for name in ("toy-scaling.csv", f"toy{SUFFIX}.csv"):
        atomic.write_text(
            store.root / "exports" / name, "table,task,row,metric,higher_is_better,flops,level,seed,value\n"
        )
    assert report([f"results_dir={store.root}"], figures=False) == 0
    text = (store.root / "exports" / "index.html").read_text()
    tables, sweeps, fits = (
        text.split(f'id="{name}"')[1].split("</section>")[0] for name in ("tables", "sweeps", "fits")
    )
    assert 'href="toy.html"' in tables and "6 of 6" in tables and (store.root / "exports" / "toy.html").exists()
    assert "sweep-lr-toy-abc" in sweeps and "sweep-lr" not in tables and 'href="toy-scaling.csv"' in fits
    # A tuning is called PRESET-TABLE, as a table may be; its rows say what it is.
    assert "lr-toy" not in tables and not (store.root / "exports" / "lr-toy.html").exists()
    assert 'href="lr-toy-best.csv"' in sweeps and 'href="figures/lr-toy/lr-toy-chain.png"' in sweeps
    assert "a on chain; budget" in sweeps
    assert "index.html" in capsys.readouterr().out


def test_an_index_over_nothing_is_one_line(store: Store) -> None:
    with pytest.raises(UserError, match="nothing has been planned"):
        report([f"results_dir={store.root}"], figures=False)


def test_a_plan_without_results_has_the_command(store: Store) -> None:
    frozen_plan(store, [make_spec()])
    assert report([f"results_dir={store.root}"], figures=False) == 0
    assert "python -m experiments report table=toy" in (store.root / "exports" / "index.html").read_text()

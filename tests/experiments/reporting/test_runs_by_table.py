"""Rows per run: what a notebook asks of them, which table a run belongs to, what its config was, labels in CSV."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from toy import fill, frozen_plan, make_record, make_spec, table_plan

import experiments
from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.reporting.csv_export import FLATTENED, export, to_csv
from experiments.reporting.table import build, write
from experiments.store import atomic_files as atomic
from experiments.store.store import Store

DOCS = Path(__file__).resolve().parents[3] / "docs" / "exports.md"


def kept(store: Store, plan: Plan) -> Plan:
    atomic.write_text(store.root / "plans" / plan.file_name, plan.model_dump_json())
    return plan


def test_the_best_per_flop_by_the_three_lines_of_the_docs(store: Store) -> None:
    """A smoke run of one seed, a row off budget and a lucky row of two seeds score higher, and none of them wins."""
    plan = table_plan(models=("a", "b"))
    lucky = [make_spec(model="lucky", seed=seed, labelled="lucky") for seed in (0, 1, 2)]
    off = [make_spec(model="off", seed=seed, labelled="off") for seed in (0, 1, 2)]
    off = [s.model_copy(update={"budget": s.budget.model_copy(update={"on_budget": False})}) for s in off]
    dear = [make_spec(model="dear", seed=seed, labelled="dear") for seed in (0, 1, 2)]
    dear = [s.model_copy(update={"cost": s.cost.model_copy(update={"flops_train": 4e9})}) for s in dear]
    table = {**plan.table.model_dump(), "models": ["a", "b", "lucky", "off", "dear"]}
    fill(store, plan)
    whole = Plan(
        table=TableSettings.model_validate(table), code_fingerprint="code", runs=[*plan.runs, *lucky, *off, *dear]
    )
    kept(store, whole)
    for spec in (*lucky[:2], *off, *dear):
        store.write_record(make_record(spec, 0.99))
    store.write_record(make_record(lucky[2], None))
    smoke = make_spec(model="smoke", labelled="smoke", steps=1)
    store.write_record(
        make_record(smoke.model_copy(update={"cost": smoke.cost.model_copy(update={"flops_train": 1e3})}))
    )

    lines = next(
        block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL) if "best" in block
    )
    assert len(lines.splitlines()) == 3
    names = {"runs": experiments.load("toy", str(store.root), seeds=True)}
    exec(lines, names)
    (found,) = names["best"].reset_index().to_dict("records")
    assert (found["task"], found["model"], found["count"]) == ("chain", "a", 3)
    assert found["mean"] == pytest.approx((0.91 - 0.25) / 0.75 / 1e9)

    write(build(whole, store), "toy", store)
    read = pd.read_csv(store.root / "exports" / "toy-runs.csv").astype({"helps": object}).fillna({"helps": ""})
    loaded = experiments.load("toy", str(store.root), seeds=True)
    known = [name for name in loaded if loaded[name].notna().any()]  # of a column that is all empty a CSV keeps no type
    assert list(read) == list(loaded)
    pd.testing.assert_frame_equal(read[known], loaded[known], check_dtype=False)
    assert read["status"].tolist() == ["done"] * 8 + ["failed"] + ["done"] * 6


def test_a_metric_that_is_to_be_low_scores_the_right_way(store: Store) -> None:
    """2 bits where chance has 4 is half of the way."""
    spec = make_spec(labelled="low")
    info = spec.task_info.model_copy(update={"higher_is_better": False, "chance": {"test/id": 4.0}})
    plan, _ = frozen_plan(store, [spec.model_copy(update={"task_info": info}), make_spec(seed=1, labelled="low")])
    store.write_record(make_record(plan.runs[0], 2.0))
    found = experiments.load("toy", str(store.root), seeds=True)
    assert found["score"].tolist()[0] == pytest.approx(0.5)
    assert found["status"].tolist() == ["done", "planned"] and pd.isna(found["test"][1])


def test_a_run_says_its_tables_and_its_config(store: Store) -> None:
    plan = kept(store, table_plan())
    other = plan.model_copy(update={"table": plan.table.model_copy(update={"name": "toy+seeds-0-abc123"})})
    other = kept(store, other.model_copy(update={"runs": plan.runs[:1]}))
    (store.root / "plans" / "toy-broken.json").write_text("{")
    fill(store, plan)
    store.write_record(make_record(make_spec(model="alone", seed=9)))
    export(store)
    runs = pd.read_csv(store.root / "exports" / "runs.csv").set_index("id")
    assert runs.loc[plan.runs[0].id, "tables"] == "toy+seeds-0-abc123;toy"
    assert set(runs.loc[plan.runs[0].id, "plans"].split(";")) == {plan.file_name, other.file_name}
    assert runs.loc[plan.runs[1].id, ["tables", "plans"]].tolist() == ["toy", plan.file_name]
    assert runs.loc[runs["model"] == "alone", "tables"].isna().all()
    assert (runs["config.trainer.optim.lr"] == 0.01).all() and (runs["sizes.d_model"] == 16).all()
    flat = [name for name in runs.columns if name.startswith(FLATTENED)]
    assert flat == sorted(flat) and list(runs.columns[-len(flat) :]) == flat


def test_text_comes_back_from_csv_as_it_was() -> None:
    labels = ["a,b", 'say "x"', "two\nlines", "semi;colon", "ünï", "model (k=4)", "a|b", "#1"]
    text = to_csv(["label", "n"], ({"label": label, "n": n} for n, label in enumerate(labels)))
    assert pd.read_csv(io.StringIO(text))["label"].tolist() == labels

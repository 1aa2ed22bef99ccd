"""Table and exports, from records alone, against values computed by hand."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from toy import VALUES, fill, make_record, make_spec, table_plan

import experiments
from experiments.analysis.frames import AGGREGATE_COLUMNS, CELL_COLUMNS, SEED_COLUMNS
from experiments.analysis.pace import EQUAL_COLUMNS
from experiments.analysis.pairwise import DUEL_COLUMNS
from experiments.analysis.timing_frame import TIMING_COLUMNS
from experiments.errors import UserError
from experiments.planning.instantiate import helps
from experiments.planning.settings import TableSettings
from experiments.reporting.csv_export import COLUMNS, ITEM_COLUMNS, RUN_COLUMNS, export
from experiments.reporting.grid import latex, wide
from experiments.reporting.html_page import write_html
from experiments.reporting.table import Report, build, markdown, results_grid, write
from experiments.store import atomic_files as atomic
from experiments.store.records import RunSpec
from experiments.store.store import Store


def row(report: Report, model: str, split: str = "test/id") -> dict[str, object]:
    found = report.cells[(report.cells["model"] == model) & (report.cells["split"] == split)]
    assert len(found) == 1
    return {str(key): value for key, value in found.iloc[0].items()}


def test_means_and_intervals_by_hand(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    report = build(plan, store)
    # a: mean 0.91, sd 0.01; half = 4.30265 * 0.01 / sqrt(3) = 0.024841
    a = row(report, "a")
    assert a["mean"] == pytest.approx(0.91) and a["sd"] == pytest.approx(0.01)
    assert a["low"] == pytest.approx(0.91 - 0.024841, abs=1e-6)
    assert (a["n_ok"], a["n_launched"], a["chance"], a["above_chance"]) == (3, 3, 0.25, True)
    assert a["best"] and not row(report, "b")["best"]
    assert report.results.rows[0][1].text == "0.9100 ± 0.0248"
    assert report.results.rows[0][1].bold and not report.results.rows[1][1].bold
    assert [cell.text for cell in report.results.rows[2]] == ["chance", "0.2500", "", ""]
    assert math.isnan(float(str(row(report, "a", "test/ood")["chance"])))
    assert not row(report, "a", "test/ood")["best"]


def test_two_seeds_print_no_interval_and_no_bold(store: Store) -> None:
    plan = table_plan(seeds=(0, 1))
    fill(store, plan)
    cell = build(plan, store).results.rows[0][1]
    assert (cell.text, cell.bold) == ("0.9050", False)


def test_off_budget_is_marked_and_never_bold(store: Store) -> None:
    plan = table_plan()
    off = [
        spec.model_copy(update={"budget": spec.budget.model_copy(update={"on_budget": spec.model != "a"})})
        for spec in plan.runs
    ]
    plan = plan.model_copy(update={"runs": off})
    fill(store, plan)
    report = build(plan, store)
    assert report.results.rows[0][0].text == "a !" and not report.results.rows[0][1].bold
    assert any("off budget" in note for note in report.notes)


def test_failed_runs_are_counted_and_named(store: Store) -> None:
    plan = table_plan()
    for spec in plan.runs[:-1]:
        store.write_record(make_record(spec, None if spec.seed == 1 else 0.5))
    report = build(plan, store)
    assert (row(report, "a")["n_ok"], row(report, "a")["n_launched"]) == (2, 3)
    assert (row(report, "b")["n_ok"], row(report, "b")["n_launched"]) == (1, 2)
    assert report.results.rows[0][2].text == "2/3"
    assert any(note.startswith("failed: a on chain, seed 1") for note in report.notes)


def test_without_records_there_is_no_number(store: Store) -> None:
    report = build(table_plan(), store)
    assert report.results.rows[0][1].text == "no result"
    assert report.cells["mean"].isna().all()


def test_records_of_other_sources_are_named(store: Store) -> None:
    plan = table_plan().model_copy(update={"code_fingerprint": "newer"})
    fill(store, plan)
    assert any(note.startswith("6 of 6 records were made by other sources") for note in build(plan, store).notes)


def test_header_names_regime_and_tolerance(store: Store) -> None:
    header = " ".join(build(table_plan(), store).header)
    assert "regime train_flops" in header
    assert "1k non-embedding parameters (within 2 %), 1G training FLOPs (within 1 %)" in header


def test_helps_are_named() -> None:
    ours = {"_target_": "ressformer.models.ressformer.ReSSFormerConfig"}
    assert helps(ours) == "cache_lean=4.0 edge_similarity=True expert_copies=True"
    assert (
        helps({**ours, "cache_lean": 0.0, "expert_copies": False, "graph": "none", "short_conv": 4}) == "short_conv=4"
    )
    assert helps({"_target_": "ressformer.models.transformer.TransformerConfig"}) == ""
    assert helps({"_target_": "ressformer.models.mamba2.Mamba2Config"}) == "conv-by-design"
    assert helps({"_target_": "gone.Model", "short_conv": 4}) == "short_conv=4"


def test_a_corrupt_record_stops_the_table(store: Store) -> None:
    plan = table_plan()
    atomic.write_text(store.folder(plan.runs[0].id) / "record.json", "{")
    with pytest.raises(UserError, match="corrupt record"):
        build(plan, store)


def slower(store: Store, spec: RunSpec) -> None:
    record = make_record(spec, VALUES[spec.model][spec.seed])
    measured = record.measured.model_copy(update={"tokens_per_second": 7.0, "wall_seconds": 99.0, "finished": "t9"})
    store.write_record(record.model_copy(update={"measured": measured}))


def test_all_but_the_clock_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        store, plan = Store(tmp_path / name), table_plan()
        for spec in plan.runs:
            slower(store, spec) if name == "two" else store.write_record(
                make_record(spec, VALUES[spec.model][spec.seed])
            )
        paths = {path.name: path for path in write(build(plan, store), "toy", store)}
        cells, timing, page = (paths[n] for n in ("toy.csv", "toy-timing.csv", "toy.md"))
        texts.append((cells.read_bytes(), page.read_text().split("**Measured")[0], timing.read_bytes()))
    assert texts[0][:2] == texts[1][:2]
    assert texts[0][2] != texts[1][2]


def test_markdown_sets_the_best_in_bold(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    text = markdown(build(plan, store), "toy")
    assert "| a | **0.9100 ± 0.0248** | 3/3 | none |" in text
    assert "| model | chain (accuracy ↑) | ok/launched | helps |" in text


def test_html_is_self_contained(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    text = write_html(plan, store).read_text()
    assert "<b>0.9100 ± 0.0248</b>" in text and plan.runs[0].id in text
    assert "http" not in text and "src=" not in text


def test_columns_of_the_tidy_table_are_pinned() -> None:
    assert " ".join(CELL_COLUMNS) == (
        "table model task split metric primary higher_is_better unit n_ok n_launched mean sd low high chance "
        "above_chance best budget regime on_budget params_residual train_flops_residual params params_total "
        "params_active flops_per_token train_flops train_flops_counted steps helps data_fingerprint eval_depth "
        "flops_eval_per_token different_items effective_items "
        "small_test best_rule best_rule_value checked ngram ngram_value perfect_reader seeds_apart"
    )
    assert [
        "table",
        "model",
        "task",
        "n_ok",
        "tokens_per_second",
        "peak_memory_mib",
        "train_seconds",
        "wall_seconds",
        *("executed_over_useful", "step_ms", "step_ms_without_kernels", "step_wall_ms", "mfu", "mfu_without_kernels"),
    ] == TIMING_COLUMNS
    assert " ".join(EQUAL_COLUMNS) == (
        "table model task reference metric seeds learned target steps reference_steps useful_ratio useful_low "
        "useful_high executed_ratio executed_low executed_high seconds_ratio seconds_low seconds_high "
        "seconds_without_kernels_ratio seconds_without_kernels_low seconds_without_kernels_high"
    )


def test_columns_of_the_raw_export_are_pinned() -> None:
    assert " ".join(RUN_COLUMNS) == (
        "id status model task seed budget regime on_budget steps steps_done selected_step params params_total "
        "params_active flops_forward flops_forward_executed flops_per_token train_flops counted_forward "
        "counted_train bytes_moved helps data_fingerprint code_fingerprint git_commit git_dirty cpu cores threads "
        "accelerator python torch started finished wall_seconds train_seconds tokens_per_second peak_memory_mib "
        "error_type error_message eval_depth flops_eval native_kernels tables plans"
    )
    assert " ".join(COLUMNS["metrics.csv"]) == (
        "id model task seed split metric primary value items_low items_high chance best_rule best_rule_value ngram "
        "ngram_value perfect_reader different_items effective_items"
    )
    assert " ".join(ITEM_COLUMNS) == "id model task seed split metric item value weight"


def test_the_table_comes_back_from_its_csv(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    report = build(plan, store)
    assert results_grid(pd.read_csv(io.StringIO(report.cells.to_csv(index=False)))) == report.results


def test_load_is_the_frame_of_the_newest_plan(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    atomic.write_text(store.root / "plans" / plan.file_name, plan.model_dump_json())
    pd.testing.assert_frame_equal(experiments.load("toy", str(store.root)), build(plan, store).cells)
    with pytest.raises(UserError, match="no plan of table other"):
        experiments.load("other", str(store.root))


def test_columns_groups_and_regime_of_the_spec(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    columns = [{"task": "chain", "split": "test/ood", "label": "far"}, {"task": "chain"}]
    layout = {"columns": columns, "groups": {"Ours": ["b"], "Theirs": ["a"]}, "regime": "train_flops"}
    table = TableSettings.model_validate({**plan.table.model_dump(), **layout})
    grid = build(plan.model_copy(update={"table": table}), store).results
    assert grid.columns[1:3] == ["far (accuracy ↑)", "chain (accuracy ↑)"]
    assert [row[0].text for row in grid.rows] == ["b", "a", "chance"] and grid.groups == ((0, "Ours"), (1, "Theirs"))
    other = table.model_copy(update={"regime": "params"})
    with pytest.raises(UserError, match="is for regime params"):
        build(plan.model_copy(update={"table": other}), store)
    with pytest.raises(ValueError, match="groups must name each row once"):
        TableSettings.model_validate({**plan.table.model_dump(), "groups": {"Ours": ["b"]}})


def test_latex_is_booktabs_and_escaped(store: Store) -> None:
    plan = table_plan(models=("a", "b"))
    fill(store, plan)
    text = latex(build(plan, store).results, "toy", ["100% of a_b"])
    assert r"\textbf{0.9100 $\pm$ 0.0248}" in text and r"100\% of a\_b" in text and r"accuracy $\uparrow$" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    body = re.search(r"\\begin{tabular}{(l r*|lr*)}(.*)\\end{tabular}", text, flags=re.DOTALL)
    assert body is not None
    lines = [line for line in body[2].splitlines() if line.endswith(r"\\")]
    assert {line.count("&") + 1 for line in lines} == {len(body[1])}


def test_wide_csv_has_a_row_per_model(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    frame = wide(build(plan, store).cells)
    assert list(frame["model"]) == ["a", "b"]
    assert frame["chain test/id accuracy mean"].tolist() == pytest.approx([0.91, 0.51])


def test_aggregate_over_two_tasks(store: Store) -> None:
    plan = table_plan()
    second = [make_spec(model=s.model, seed=s.seed, labelled=s.model, task="b", t=1) for s in plan.runs]
    table = plan.table.model_copy(update={"tasks": ["chain", "b"]})
    plan = plan.model_copy(update={"runs": [*plan.runs, *second], "table": table})
    fill(store, plan)
    found = build(plan, store).aggregate.set_index("model")
    # Accuracy 0.91 with chance 0.25 is (0.91 - 0.25) / 0.75 of the way; the two tasks score alike.
    assert found.loc["a", "iqm"] == pytest.approx(0.88) and found.loc["b", "beats_share"] == 0
    assert found.loc["a", "low"] < 0.88 < found.loc["a", "high"]


def test_every_exported_column_is_documented() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "exports.md").read_text()
    aggregate = {"TABLE-aggregate.csv": AGGREGATE_COLUMNS}
    for name, columns in {
        **COLUMNS,
        "TABLE.csv": CELL_COLUMNS,
        "TABLE-runs.csv": SEED_COLUMNS,
        "TABLE-timing.csv": TIMING_COLUMNS,
        "TABLE-equal.csv": EQUAL_COLUMNS,
        "TABLE-pairs.csv": DUEL_COLUMNS,
        **aggregate,
    }.items():
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE) == columns, name


def test_raw_export(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    store.write_record(make_record(make_spec(model="c", seed=5), None))
    (store.folder(plan.runs[0].id) / "metrics.jsonl").write_text('{"step": 6, "val/accuracy": 0.5}\n{"step": 1')
    runs, metrics, items, steps, costs = (list(csv.DictReader(path.read_text().splitlines())) for path in export(store))
    # Half of the 12 steps are half of the training FLOPs; the torn line is left out.
    assert [(s["step"], float(s["train_flops"]), s["key"], s["value"]) for s in steps] == [
        ("6", 5e8, "val/accuracy", "0.5")
    ]
    assert {(c["model"], c["depth"]) for c in costs} >= {("a", "0"), ("b", "0"), ("c", "0")}
    assert len(runs) == 7 and [r["status"] for r in runs].count("failed") == 1
    assert next(r for r in runs if r["model"] == "c")["error_type"] == "ValueError"
    chosen = [m for m in metrics if m["model"] == "a" and m["seed"] == "1"]
    assert [(m["split"], m["value"]) for m in chosen] == [
        ("validation", "0.91"),
        ("test/id", "0.91"),
        ("test/ood", "0.1"),
    ]
    first = [i for i in items if i["model"] == "a" and i["seed"] == "0"]
    assert [(i["item"], i["value"], i["weight"]) for i in first] == [("0", "0.9", "1.0"), ("1", "", "1.0")]

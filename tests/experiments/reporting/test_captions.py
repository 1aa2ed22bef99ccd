"""The remarks under a table, what stands behind them, and the table in LaTeX."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from toy import fill, make_record, table_plan

from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.reporting.csv_export import export
from experiments.reporting.html_page import write_html
from experiments.reporting.level_notes import level_notes, rule_notes
from experiments.reporting.table import build, markdown, write
from experiments.store.records import LevelInfo, TaskInfo
from experiments.store.store import Store


def test_three_seeds_are_too_few_for_bold_unless_the_table_says_so(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    settings = plan.table.model_copy(update={"bold_seeds": 5})
    report = build(plan.model_copy(update={"table": settings}), store)
    assert not report.results.rows[0][1].bold
    assert "No bold: 3 seeds are too few for it, it needs 5." in report.notes
    assert "no bold: it needs 5 seeds" in report.header[1]
    assert "bold = best, decided by 3 seeds or more" in build(plan, store).header[1]


def test_seeds_that_fall_apart_are_named(store: Store) -> None:
    plan = table_plan()
    for spec in plan.runs:
        store.write_record(make_record(spec, (0.3, 0.31, 0.9)[spec.seed] if spec.model == "a" else 0.5))
    notes = build(plan, store).notes
    found = "chain: the seeds of a fall apart, 0.30, 0.31 | 0.90; mean and interval describe neither group."
    assert [note for note in notes if "fall apart" in note] == [found]


def test_the_settings_of_a_table_are_frozen_in_full() -> None:
    plan = table_plan()
    # One that came later is left out while it is null, so that plans of before keep their names.
    assert set(plan.table.model_dump()) == set(TableSettings.model_fields) - {"reference"}
    chosen = plan.table.model_copy(update={"reference": "a"})
    assert set(chosen.model_dump()) == set(TableSettings.model_fields)
    assert TableSettings.model_validate(plan.table.model_dump()) == plan.table


def planned(**table: object) -> Plan:
    """The toy table with sizes and levels of its task."""
    plan = table_plan()
    split = {"items": 300, "different": 200}
    sizes = {
        "validation": {**split, "effective": 60.0, "needed": 50.0},
        "test/id": {**split, "effective": table.pop("effective", 120.0), "needed": 100.0},
    }
    rules = [("test/id", "first_hop", table.pop("level", 0.75)), ("test/id", "majority", 0.2)]
    rules += [("probe/noise20", "perfect_reader", 0.7), ("validation", "first_hop", 0.74)]
    levels = [{"split": s, "metric": "accuracy", "name": n, "value": v} for s, n, v in rules]
    info = TaskInfo.model_validate({**plan.runs[0].task_info.model_dump(), "sizes": sizes, "levels": levels})
    runs = [spec.model_copy(update={"task_info": info}) for spec in plan.runs]
    return plan.model_copy(update={"runs": runs, "table": plan.table.model_copy(update=table)})


def test_sizes_and_levels_stand_under_the_table_and_in_its_csv(store: Store) -> None:
    plan = planned()
    fill(store, plan)
    report = build(plan, store)
    assert report.results.rows[0][1].bold
    text = markdown(report, "toy")
    for line in (
        "validation has 300 items, 200 different, effectively 60; "
        "test/id has 300 items, 200 different, effectively 120.",
        "the strongest rule for accuracy on test/id is first_hop, 0.7500.",
        "a perfect reader of the noised facts scores 0.7000 (20 %).",
    ):
        assert f"- chain: {line}" in text
    assert "no row is better" not in text
    row = report.cells[report.cells["primary"]].iloc[0]
    found = [row[key] for key in ("different_items", "effective_items", "small_test", "best_rule", "best_rule_value")]
    assert found == [200, 120.0, False, "first_hop", 0.75]
    assert level_notes(table_plan().runs, plan.table, report.cells) == [], "a plan of before tests were measured"


def test_a_rule_that_no_row_beats_is_named(store: Store) -> None:
    plan = planned(level=0.95)
    fill(store, plan)
    assert "chain: no row is better than first_hop (0.9500) in accuracy on test/id." in build(plan, store).notes


def test_a_small_test_that_was_allowed_is_marked_and_never_bold(store: Store) -> None:
    plan = planned(effective=3.0)
    fill(store, plan)
    report = build(plan, store)
    said = "too small for a verdict, and never bold: test/id with effectively 3.0 of 100 items."
    assert f"chain: {said}" in report.notes and report.cells["small_test"].all() and not report.cells["best"].any()
    assert said in write_html(plan, store).read_text().partition("Results")[0], "on the card of the task"


def test_figures_that_mean_nothing_are_never_bold(store: Store) -> None:
    plan = planned(means_nothing=True)
    fill(store, plan)
    report = build(plan, store)
    assert "no bold: figures mean nothing" in report.header[1] and not report.cells["best"].any()
    assert "No bold: the figures of this table mean nothing; it shows that everything runs." in report.notes


def test_ngrams_of_a_text_are_listed_by_how_much_they_read() -> None:
    info = planned().runs[0].task_info
    named = [("bigram", 3.0), ("4-gram", 2.0), ("unigram of 640 bytes", 4.5), ("bigram of 640 bytes", 3.5)]
    levels = [LevelInfo(split="test/id", metric="bits_per_byte", name=n, value=v) for n, v in named]
    text = info.model_copy(update={"levels": levels, "higher_is_better": False})
    assert list(rule_notes(text, "test/id", "bits_per_byte")) == [
        "n-grams of all training text, bits_per_byte on test/id: bigram 3.0000, 4-gram 2.0000.",
        "n-grams of as much as a model reads, 640 bytes, bits_per_byte on test/id: unigram 4.5000, bigram 3.5000.",
    ]


def test_what_the_items_of_one_run_leave_open(store: Store) -> None:
    plan = table_plan()
    for spec in plan.runs:
        items = {"test/id": [1.0] * 90 + [0.0] * 10}
        store.write_record(make_record(spec, 0.9, items=items))
    # Wilson for 90 of 100: 0.8256 to 0.9448
    assert any(note.endswith("(Wilson, 95%): chain ± 0.060 (100 items).") for note in build(plan, store).notes)
    export(store)
    rows = pd.read_csv(store.root / "exports" / "metrics.csv")
    primary = rows[rows["primary"] & (rows["split"] == "test/id")]
    assert primary["items_low"].tolist() == pytest.approx([0.8256] * 6, abs=1e-4)
    assert primary["items_high"].tolist() == pytest.approx([0.9448] * 6, abs=1e-4)
    assert rows[rows["split"] != "test/id"]["items_low"].isna().all()


def test_latex_compiles(store: Store, tmp_path: Path) -> None:
    found = shutil.which("kpsewhich") and subprocess.run(
        ["kpsewhich", "booktabs.sty"], capture_output=True, check=False
    )
    if not found or found.returncode != 0:
        pytest.skip("no LaTeX with booktabs here: apt-get install texlive-latex-recommended")
    plan = table_plan()
    fill(store, plan)
    write(build(plan, store), "toy_100%", store)
    head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}"
    body = (store.root / "exports" / "toy_100%.tex").read_text()
    (tmp_path / "page.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n")
    command = ["pdflatex", "-halt-on-error", "-interaction=batchmode", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (tmp_path / "page.log").read_text()[-2000:]
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")

"""The remarks under a table, what stands behind them, and the table in LaTeX."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from toy import fill, make_record, table_plan

from experiments.planning.instantiate import build_task
from experiments.planning.plan import Plan
from experiments.planning.run_spec import FEW, different_items, task_info
from experiments.planning.settings import TableSettings
from experiments.reporting.captions import few_items
from experiments.reporting.csv_export import export
from experiments.reporting.html_page import write_html
from experiments.reporting.table import build, markdown, write
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
    assert set(plan.table.model_dump()) == set(TableSettings.model_fields)
    assert TableSettings.model_validate(plan.table.model_dump()) == plan.table


def planned(**settings: object) -> Plan:
    """A plan on `chain` with these settings, as planning describes the task."""
    info = task_info(build_task({"_target_": "tasks.qa.chain.Chain", **settings}))
    plan = table_plan()
    return plan.model_copy(update={"runs": [s.model_copy(update={"task_info": info}) for s in plan.runs]})


def test_a_test_of_few_different_items_says_how_many(store: Store) -> None:
    plan = planned(facts_max=4, n_relations=1, length=40, n_test=200)
    fill(store, plan)
    said = "test/id has 3 different items."
    report = build(plan, store)
    assert f"chain: {said}" in report.notes and f"- chain: {said}" in markdown(report, "toy")
    page = write_html(plan, store).read_text()
    assert page.count(said) >= 2, "under the table and on the card of the task"
    other = planned(n_test=200)
    assert few_items(other.runs) == {}
    assert few_items([*other.runs[:1], *plan.runs[-1:]]) == {"chain": said}, "one row of the column suffices"
    assert few_items(planned(n_test=FEW - 1).runs).keys() == {"chain"}


def test_a_task_that_reads_files_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("all work and no play makes jack a dull boy. " * 200)
    text = {"_target_": "tasks.language.text.Text", "path": str(tmp_path / "text.txt"), "length": 32}
    assert different_items(build_task(text)) is None
    assert few_items(table_plan().runs) == {}, "a plan of before items were counted"


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
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, (tmp_path / "page.log").read_text()[-2000:]
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")

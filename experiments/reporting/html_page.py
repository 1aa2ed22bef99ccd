"""A table with all that stands behind it as one self-contained HTML file. Runs nothing.

The page needs no network: style, script, figures and provenance are inside it.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.analysis.claims import judge, load_claims
from experiments.analysis.frames import Runs, item_interval
from experiments.analysis.registration import claims_frame, registrations
from experiments.planning.plan import Plan
from experiments.planning.table_name import preset_of
from experiments.reporting.answers import answers, question
from experiments.reporting.csv_export import kernels_of
from experiments.reporting.figures import sections
from experiments.reporting.grid import Cell, Grid, spoken
from experiments.reporting.plot_style import Pen, glyph
from experiments.reporting.strips import KINDS, columns_of, legend, level_rows
from experiments.reporting.table import Report, from_records
from experiments.store import atomic_files as atomic
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store

TEMPLATE = Path(__file__).with_name("report.html.j2")
STYLE = Path(__file__).with_name("style.css.j2")
FAILURES = 200  # rows of the ledger; the rest is counted
CELL_RUNS = 100  # runs named behind a cell; the rest is counted


class Remembering(Store):
    """A store that reads each record once: table, claims and figures ask for the same ones."""

    def __init__(self, results_dir: str | Path) -> None:
        super().__init__(results_dir)
        self._known: dict[str, Record | None] = {}

    def record(self, run: str) -> Record | None:
        if run not in self._known:
            self._known[run] = super().record(run)
        return self._known[run]


def write_html(plan: Plan, store: Store, *, figures: bool = False) -> Path:
    """The page of a plan from the records there are."""
    store = Remembering(store.root)
    gc.disable()  # thousands of records are made and none is dropped: the collector would walk all of them in vain
    try:
        records = store.records(spec.id for spec in plan.unique())
    finally:
        gc.enable()
    gc.freeze()
    store.require_sound()
    name = plan.table.name
    pen = Pen([e.label for e in plan.table.entries()], store.root / "exports" / "figures" / name if figures else None)
    target = store.root / "exports" / f"{name}.html"
    try:
        atomic.write_text(target, page(context(plan, records, store, pen)))
    finally:
        gc.unfreeze()
    return target


def page(values: Mapping[str, Any], template: str = TEMPLATE.name) -> str:
    """The template with the values; all text is escaped but figures and data, which escape themselves."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values) + "\n"


def context(plan: Plan, records: dict[str, Record], store: Store, pen: Pen) -> dict[str, Any]:
    """All that the template asks for."""
    built = from_records(plan, records, store)
    runs: Runs = [(spec, records.get(spec.id)) for spec in plan.runs]
    failed = [record for record in records.values() if record.status != "done"]
    done = len(records) - len(failed)
    columns = columns_of(built, runs)
    verdicts, undecided = claims(store, plan.table.name)
    notes = [note for note in built.notes if not note.startswith(("failed:", "diverged:"))]
    marks = {model: {"name": model, "n": n, "glyph": glyph(n)} for n, model in enumerate(pen.models)}
    return {
        "title": f"Table {plan.table.name}",
        "name": plan.table.name,
        "preset": preset_of(plan.table.name),
        "kinds": KINDS,
        "header": built.header,
        "question": question(plan),
        "answers": answers(plan, runs, built),
        "columns": columns,
        "strips": {"|".join(one["cell"].key): one["strip"] for column in columns for one in column["cells"]},
        "level_rows": level_rows(columns),
        "lines": legend(columns),
        "models": list(marks.values()),
        "marks": marks,
        "results": replace(built.results, columns=[spoken(column) for column in built.results.columns]),
        "overall": built.overall,
        "costs": built.costs,
        "measured": built.measured,
        "pace": built.pace,
        "loud": [note for note in notes if loud(note)],
        "notes": [note for note in notes if not loud(note)],
        "claims": verdicts,
        "undecided": undecided,
        "sections": sections(pen, runs, plan.table, built.cells, built.timing, store),
        "failures": [ledger_row(record) for record in failed[:FAILURES]],
        "failures_left": max(0, len(failed) - FAILURES),
        "counts": f"{done} of {len(plan.unique())} runs done, {len(failed)} failed",
        "done": done,
        "planned": len(plan.unique()),
        "provenance": provenance_grid(list(records.values())),
        "data": embedded(cell_data(plan, built, records)),
    }


def loud(note: str) -> bool:
    """Whether a remark changes how the table is to be read."""
    return note.startswith(("Bold", "No bold")) or any(word in note for word in ("fall apart", "too small", "Fewer"))


def claims(store: Store, table: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The verdicts that this table decides, as text, and the names of its claims that it does not decide yet."""
    registered = {name: claim for name, claim in load_claims().items() if claim.table == preset_of(table)}
    findings = [judge(name, claim, store, store.root / "benchmarks") for name, claim in registered.items()]
    waiting = [found.id for found in findings if found.verdict == "not run"]
    decided = [found for found in findings if found.verdict not in ("not run", "withdrawn")]
    if not decided:
        return [], waiting
    rows: list[dict[str, Any]] = []
    for row in claims_frame(decided, registrations(registered), registered).to_dict("records"):
        effect = row["why"]
        if not pd.isna(row["effect"]):
            p = "" if pd.isna(row["p"]) else f", p = {row['p']:.2g}"
            effect = (
                f"effect {row['effect']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]{p}; hardest: {row['hardest']}"
            )
        commit = "" if pd.isna(row["registered"]) else f" in {row['registered']}"
        count = len(str(row["runs"]).split())
        rows.append(
            {
                **{str(k): v for k, v in row.items()},
                "effect": effect,
                "registered": f"{row['hash']}{commit}",
                "runs": count or "",
            }
        )
    return rows, waiting


def ledger_row(record: Record) -> dict[str, Any]:
    """A failed run."""
    spec, error = record.spec, record.error
    why = "" if error is None else f"{error.type}: {error.message}"
    names = {"id": record.id, "model": spec.model, "task": spec.task, "seed": spec.seed}
    return {**names, "status": record.status, "why": f"{why} (step {record.steps_done} of {spec.steps})"}


def cell_data(plan: Plan, built: Report, records: Mapping[str, Record]) -> dict[str, Any]:
    """What a press on a cell shows: its runs, commits, data and config."""
    members: dict[tuple[str, str], list[Any]] = {}
    for spec in plan.runs:
        members.setdefault((spec.model, spec.task), []).append(spec)
    cells: dict[str, Any] = {}
    configs: list[str] = []
    numbers: dict[tuple[str, str], int] = {}
    for cell in (cell for row in built.results.rows for cell in row if cell.key):
        model, task, split, metric = cell.key
        specs = members[(model, task)]
        if (model, task) not in numbers:
            numbers[(model, task)] = len(configs)
            config = {key: value for key, value in specs[0].config.items() if key != "seed"}
            configs.append(json.dumps({"config": config, "sizes": specs[0].sizes}, indent=1))
        left = len(specs) - CELL_RUNS
        first = specs[0]
        residuals = ", ".join(f"{key} {value:+.2%}" for key, value in first.budget.residual.items())
        on = "on budget" if first.budget.on_budget else "off budget"
        cells["|".join(cell.key)] = {
            "title": f"{model} on {task}: {cell.text}",
            "lines": [
                f"{metric} ({first.task_info.unit}) on {split}; mean over runs that are done"
                + (f"; the first {CELL_RUNS} of {len(specs)} are shown" if left > 0 else ""),
                f"budget {first.budget.name} ({first.budget.regime}), {on}: {residuals}",
                f"data {first.data_fingerprint}",
            ],
            "runs": [_run_row(spec, records.get(spec.id), split, metric) for spec in specs[:CELL_RUNS]],
            "command": f"python -m experiments why {plan.table.name} {model} {task}",
            "config": numbers[(model, task)],
        }
    return {"cells": cells, "configs": configs}


def _run_row(spec: RunSpec, record: Record | None, split: str, metric: str) -> list[Any]:
    """Id, seed, value, what the items leave open, status, commit, start."""
    if record is None:
        return [spec.id, spec.seed, None, None, "no record", None, None]
    value = record.metrics.get(split, {}).get(metric)
    commit = (record.provenance.git_commit or "none")[:12] + ("+" if record.provenance.git_dirty else "")
    shown = None if value is None else f"{value:.4f}"
    found = item_interval(record, split) if metric == spec.task_info.metric else None
    items = None if found is None else f"[{found.low:.3f}, {found.high:.3f}]"
    return [spec.id, spec.seed, shown, items, record.status, commit, record.measured.started]


def embedded(values: Any) -> str:
    """JSON that may stand inside a script element: no text of it can end the element."""
    return json.dumps(values, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")


def provenance_grid(records: Sequence[Record]) -> Grid:
    """What the records say of sources, versions and hardware, each distinct answer once."""
    answers: dict[str, set[str]] = {}
    for record in records:
        origin = record.provenance
        dirty = " (with changes)" if origin.git_dirty else ""
        answers.setdefault("commit", set()).add(f"{origin.git_commit or 'none'}{dirty}")
        answers.setdefault("sources", set()).add(origin.code_fingerprint)
        answers.setdefault("hardware", set()).add(f"{origin.cpu}, {origin.cores} cores, {origin.accelerator}")
        answers.setdefault(f"data of {record.spec.task}", set()).add(record.spec.data_fingerprint[:16])
        if (kernels := kernels_of(origin)) is not None:
            answers.setdefault(f"C kernels of {record.spec.model}", set()).add(kernels.replace(";", ", "))
        for package, version in origin.versions.items():
            answers.setdefault(package, set()).add(version)
    rows = [[Cell(key), Cell("; ".join(sorted(values)))] for key, values in answers.items()]
    return Grid("Sources, versions, hardware", ["what", "answer"], rows)

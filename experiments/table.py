"""The table: rows = models, columns = the tasks' primary metrics, then what it cost. Made from records alone.

Bold means: significantly best (paired t-tests over seeds, Holm over the table) and on budget. Fewer than three
seeds print no interval. What depends on the clock stands apart, so that the rest is the same however often a run was
interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import atomic
from experiments.frame import Runs, cells_frame, primary_by_seed, timing_frame
from experiments.plan import Plan
from experiments.records import Record, RunSpec
from experiments.runs import Store
from experiments.settings import TableSettings
from experiments.stats import MIN_SEEDS, verdicts

OFF_BUDGET = "!"


@dataclass(frozen=True)
class Cell:
    """A formatted cell."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A formatted table."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Report:
    """All that is printed and written for one table."""

    header: list[str]
    results: Grid
    costs: Grid
    measured: Grid
    notes: list[str]
    cells: pd.DataFrame
    timing: pd.DataFrame


def build(plan: Plan, store: Store) -> Report:
    """The report of a plan from the records in the store.

    Raises:
        UserError: a record is corrupt.
    """
    records = store.records(dict.fromkeys(spec.id for spec in plan.runs))
    store.require_sound()
    runs: Runs = [(spec, records.get(spec.id)) for spec in plan.runs]
    settings = plan.table
    best = winners(runs, settings)
    cells = cells_frame(settings.name, runs, best, settings.confidence)
    timing = timing_frame(settings.name, runs)
    labels = [entry.label for entry in settings.entries()]
    return Report(
        header=_header(plan),
        results=_results(settings, labels, cells),
        costs=_costs(settings, labels, cells),
        measured=_measured(labels, timing),
        notes=_notes(plan, runs, cells),
        cells=cells,
        timing=timing,
    )


def write(report: Report, name: str, store: Store) -> list[Path]:
    """Write exports/<name>.csv, <name>-timing.csv and <name>.md; returns their paths."""
    folder = store.root / "exports"
    paths = [folder / f"{name}.csv", folder / f"{name}-timing.csv", folder / f"{name}.md"]
    atomic.write_text(paths[0], report.cells.to_csv(index=False, lineterminator="\n"))
    atomic.write_text(paths[1], report.timing.to_csv(index=False, lineterminator="\n"))
    atomic.write_text(paths[2], markdown(report, name))
    return paths


def markdown(report: Report, name: str) -> str:
    """The report in Markdown; the measured part is the last, as it alone depends on the clock."""
    parts = [f"# Table {name}", *report.header, _md(report.results), _md(report.costs)]
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join([*parts, _md(report.measured)]) + "\n"


def _md(grid: Grid) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rows = [line([f"**{c.text}**" if c.bold else c.text for c in row]) for row in grid.rows]
    rule = line(["---", *("---:" for _ in grid.columns[1:])])
    return "\n".join([f"**{grid.title}**", "", line(grid.columns), rule, *rows])


def winners(runs: Runs, settings: TableSettings) -> dict[str, str | None]:
    """Per task, the model that is significantly best in a table of all tasks, and on budget; else None."""
    higher = {spec.task: spec.task_info.higher_is_better for spec, _ in runs}
    found = verdicts({task: (primary_by_seed(runs, task), higher[task]) for task in settings.tasks}, settings.alpha)
    off = {(spec.task, spec.model) for spec, _ in runs if not spec.budget.on_budget}
    return {t: v.best if v.significant and (t, v.best) not in off else None for t, v in found.items()}


def _header(plan: Plan) -> list[str]:
    budget = plan.runs[0].budget
    parts = [
        f"{_engineering(target)} {_WORDS.get(key, key)} (within {budget.tolerance.get(key, 0):.0%})"
        for key, target in budget.target.items()
    ]
    n = len(plan.table.seeds)
    interval = f"mean ± {plan.table.confidence:.0%} t-interval over seeds" if n >= MIN_SEEDS else "mean"
    return [
        f"Budget {budget.name}, regime {budget.regime}: {', '.join(parts)}.",
        f"{n} seed{'s' if n > 1 else ''}; {interval}; split test/id.",
    ]


_WORDS = {"params": "non-embedding parameters", "train_flops": "training FLOPs"}


def _results(settings: TableSettings, labels: list[str], cells: pd.DataFrame) -> Grid:
    found = primary_rows(cells)
    columns, chance = ["model"], [Cell("chance")]
    for task in settings.tasks:
        row = found[labels[0], task]
        columns.append(f"{task} ({row['metric']} {'↑' if row['higher_is_better'] else '↓'})")
        chance.append(Cell(_number(row["chance"])))
    rows = []
    for label in labels:
        mine = [found[label, task] for task in settings.tasks]
        off = not all(row["on_budget"] for row in mine)
        ok, launched = (sum(int(row[key]) for row in mine) for key in ("n_ok", "n_launched"))
        helps = " ".join(sorted({row["helps"] for row in mine if row["helps"]}))
        name = Cell(f"{label} {OFF_BUDGET}" if off else label)
        rows.append([name, *map(_result, mine), Cell(f"{ok}/{launched}"), Cell(helps or "none")])
    chance += [Cell(""), Cell("")]
    return Grid("Results", [*columns, "ok/launched", "helps"], [*rows, chance])


def primary_rows(cells: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    """The row of the primary metric on test/id, by (model, task)."""
    chosen = cells[cells["primary"] & (cells["split"] == "test/id")]
    rows = [{str(key): value for key, value in row.items()} for row in chosen.to_dict("records")]
    return {(row["model"], row["task"]): row for row in rows}


def _result(row: dict[str, Any]) -> Cell:
    if pd.isna(row["mean"]):
        return Cell("no result")
    text = _number(row["mean"])
    if not pd.isna(row["high"]):
        text += f" ± {row['high'] - row['mean']:.4f}"
    return Cell(text, bold=bool(row["best"]))


def _costs(settings: TableSettings, labels: list[str], cells: pd.DataFrame) -> Grid:
    rows = []
    for label in labels:
        mine = cells[cells["model"] == label]
        figures = [mine[key] for key in ("params", "params_total", "flops_per_token", "train_flops", "steps")]
        rows.append([Cell(label), *(Cell(_span(values)) for values in figures)])
    columns = ["model", "params (non-emb.)", "params (total)", "FLOPs/token", "train FLOPs", "steps"]
    return Grid("Cost (a span where tasks differ)", columns, rows)


def _measured(labels: list[str], timing: pd.DataFrame) -> Grid:
    rows = []
    for label in labels:
        mine = timing[timing["model"] == label]
        peak = mine["peak_memory_mib"].max()
        speed = _span(mine["tokens_per_second"].dropna())
        rows.append([Cell(label), Cell(speed), Cell("" if pd.isna(peak) else f"{peak:.0f}")])
    return Grid("Measured on this machine", ["model", "tokens/s", "peak MiB"], rows)


def _notes(plan: Plan, runs: Runs, cells: pd.DataFrame) -> list[str]:
    rows = list(primary_rows(cells).values())
    notes = []
    if len(plan.table.seeds) >= MIN_SEEDS:
        for task in plan.table.tasks:
            above = [row["model"] for row in rows if row["task"] == task and row["above_chance"] is True]
            found = ", ".join(above) or "no model"
            notes.append(f"{task}: better than chance by more than the interval: {found}.")
        verdict = f"at p <= {plan.table.alpha:g}, paired over seeds, Holm over the columns"
        if any(row["best"] for row in rows):
            notes.append(f"Bold: best {verdict}, and on budget.")
        else:
            notes.append(f"No bold: no model on budget is best {verdict}.")
    else:
        notes.append(f"Fewer than {MIN_SEEDS} seeds: no interval and no verdict.")
    if not all(row["on_budget"] for row in rows):
        notes.append(f"{OFF_BUDGET} off budget by more than the tolerance; never bold.")
    records = [record for _, record in runs if record is not None]
    other = sum(record.provenance.code_fingerprint != plan.code_fingerprint for record in records)
    if other:
        what = "made by other sources of ressformer/ or tasks/ than those of the plan"
        notes.append(f"{other} of {len(records)} records were {what}.")
    return notes + [_mishap(record, spec) for spec, record in runs if record is not None and record.error]


def _mishap(record: Record, spec: RunSpec) -> str:
    assert record.error is not None
    where = f"{spec.model} on {spec.task}, seed {spec.seed} (run {spec.id})"
    return f"{record.status}: {where}: {record.error.type}: {record.error.message}"


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}"


def _span(values: pd.Series) -> str:
    if len(values) == 0:
        return ""
    low, high = _engineering(values.min()), _engineering(values.max())
    return low if low == high else f"{low} - {high}"


def _engineering(value: float) -> str:
    """12345 -> 12.3k; steps below a thousand stay whole."""
    for limit, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:g}"

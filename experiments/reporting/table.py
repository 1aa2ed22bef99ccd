"""The table: rows = models, columns = the tasks' primary metrics, then what it cost. Made from records alone.

Bold means: significantly best (paired t-tests over seeds, Holm over the table), on enough seeds, and on budget. Fewer
than three seeds print no interval. What depends on the clock stands apart, so that the rest is the same however often
a run was interrupted. Every grid is a function of a tidy frame, so that it can be made again from the CSV.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.frames import (
    Column,
    Runs,
    aggregate_frame,
    cells_frame,
    primary_by_seed,
    rows_of,
    seeds_frame,
)
from experiments.analysis.pace import EQUAL_COLUMNS, equal_quality, reference_rows
from experiments.analysis.significance import seeds_needed, verdicts
from experiments.analysis.timing_frame import timing_frame
from experiments.errors import UserError
from experiments.planning.levels import small_splits
from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.planning.table_name import preset_of
from experiments.reporting import grid as render
from experiments.reporting.captions import (
    OFF_BUDGET,
    UNCHECKED,
    by_regime,
    counted_rows,
    failing,
    footnotes,
    header,
)
from experiments.reporting.grid import Cell, Grid, number, span
from experiments.reporting.pace_grids import pace_grids, pace_notes
from experiments.store import atomic_files as atomic
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store
from experiments.store.timings import read_timings


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
    runs: pd.DataFrame
    aggregate: pd.DataFrame
    overall: Grid | None
    equal: pd.DataFrame
    pace: list[Grid]


def build(plan: Plan, store: Store, *, pace: bool = True) -> Report:
    """The report of a plan from the records in the store; `pace` False leaves out what needs every run's log.

    Raises:
        UserError: a record is corrupt, or the budget's regime is not the one that the table asks for.
    """
    records = store.records(dict.fromkeys(spec.id for spec in plan.runs))
    store.require_sound()
    return from_records(plan, records, store if pace else None)


def from_records(plan: Plan, records: dict[str, Record], store: Store | None = None) -> Report:
    """The report of a plan from records by id; costs to equal quality need the store that has logs and timings."""
    runs: Runs = [(spec, records.get(spec.id)) for spec in plan.runs]
    settings = plan.table
    if settings.regime and set(by_regime(plan.runs)) != {settings.regime}:
        has = ", ".join(by_regime(plan.runs))
        raise UserError(
            f"table {settings.name} is for regime {settings.regime}, its budget {settings.budget} has {has}"
        )
    columns = layout(settings, plan.runs)
    best = winners(runs, settings, columns, failing(plan))
    cells = cells_frame(settings.name, runs, best, settings.confidence, plan.checked, plan.helps)
    aggregate = aggregate_frame(runs, settings)
    timings = None if store is None else read_timings(store, settings.name, preset_of(settings.name))
    timing = timing_frame(settings.name, runs, timings)
    equal = pd.DataFrame(columns=EQUAL_COLUMNS)
    if store is not None:
        base = reference_rows(plan.runs, settings.reference)
        equal = equal_quality(settings.name, runs, store, base, timings, settings.confidence)
    labels = [entry.label for entry in settings.entries()]
    return Report(
        header=header(plan, _needed(plan)),
        results=results_grid(cells, columns, settings.groups),
        costs=_costs(labels, cells, counted_rows(plan.runs)),
        measured=_measured(labels, timing),
        notes=[*footnotes(plan, runs, cells, _needed(plan)), *pace_notes(equal, timings)],
        cells=cells,
        timing=timing,
        runs=seeds_frame(settings.name, runs, plan.helps),
        aggregate=aggregate,
        overall=_overall(aggregate) if len(aggregate) else None,
        equal=equal,
        pace=pace_grids(equal),
    )


def layout(settings: TableSettings, specs: Sequence[RunSpec]) -> dict[Column, str | None]:
    """The columns (task, split, metric) of a table, each with its heading if it has one of its own."""
    primary = {spec.task: spec.task_info.metric for spec in specs}
    if not settings.columns:
        return {(task, "test/id", primary[task]): None for task in settings.tasks}
    return {(c.task, c.split, c.metric or primary[c.task]): c.label for c in settings.columns}


def write(report: Report, name: str, store: Store) -> list[Path]:
    """Write <name>.csv (tidy), -timing, -equal, -runs, -wide and -aggregate.csv, .md, .tex, -table.html to exports/."""
    grids = [report.results, *([report.overall] if report.overall else []), report.costs]
    tex = "\n".join(render.latex(grid, f"{name}-{n}", report.header) for n, grid in enumerate(grids))
    texts = {
        f"{name}.csv": _csv(report.cells),
        f"{name}-timing.csv": _csv(report.timing),
        f"{name}-equal.csv": _csv(report.equal),
        f"{name}-runs.csv": _csv(report.runs),
        f"{name}-wide.csv": _csv(render.wide(report.cells)),
        f"{name}-aggregate.csv": _csv(report.aggregate),
        f"{name}.md": markdown(report, name),
        f"{name}.tex": tex,
        f"{name}-table.html": "\n".join(map(render.html, grids)) + "\n",
    }
    for file, text in texts.items():
        atomic.write_text(store.root / "exports" / file, text)
    return [store.root / "exports" / file for file in texts]


def _csv(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))


def markdown(report: Report, name: str) -> str:
    """The report in Markdown; the measured parts are the last, as they alone depend on the clock."""
    grids = [report.results, *([report.overall] if report.overall else []), report.costs]
    parts = [f"# Table {name}", *report.header, *map(render.markdown, grids)]
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join([*parts, *map(render.markdown, [*report.pace, report.measured])]) + "\n"


def winners(
    runs: Runs,
    settings: TableSettings,
    columns: Sequence[Column] | dict[Column, str | None],
    unchecked: Collection[str] = (),
) -> dict[Column, str | None]:
    """Per column, the model that is significantly best in a table of all columns, and on budget; else None.

    Models that fail preflight (`unchecked`) are never best, and nobody is best in a column that one of them leads. Rows
    that were matched in different ways are not ranked against each other, nor any on a test that is too small.
    """
    if settings.means_nothing or len(by_regime([spec for spec, _ in runs])) > 1:
        return dict.fromkeys(columns)
    higher = {spec.task: spec.task_info.higher_is_better for spec, _ in runs}
    by_seed = {column: (primary_by_seed(runs, *column), higher[column[0]]) for column in columns}
    found = verdicts(by_seed, settings.alpha, settings.bold_seeds)
    off = {(spec.task, spec.model) for spec, _ in runs if not spec.budget.on_budget or spec.model in unchecked}
    small = {spec.task for spec, _ in runs if small_splits(spec.task_info)}
    chosen: dict[Column, str | None] = {}
    for column, verdict in found.items():
        sound = verdict.significant and (column[0], verdict.best) not in off and column[0] not in small
        chosen[column] = verdict.best if sound else None
    return chosen


def _needed(plan: Plan) -> int:
    """Seeds that bold needs in this table."""
    return seeds_needed(len(layout(plan.table, plan.runs)), plan.table.alpha, plan.table.bold_seeds)


def results_grid(
    cells: pd.DataFrame,
    columns: dict[Column, str | None] | None = None,
    groups: dict[str, list[str]] | None = None,
) -> Grid:
    """The results from the tidy frame alone, be it just made or read from the CSV.

    Args:
        cells: see experiments.analysis.frames.
        columns: (task, split, metric) -> heading or None; default: the primary metric on test/id of each task.
        groups: headings and the rows under each.
    """
    found = {(r["model"], r["task"], r["split"], r["metric"]): r for r in rows_of(cells)}
    if columns is None:
        first = cells[cells["primary"] & (cells["split"] == "test/id")]
        columns = {(r["task"], r["split"], r["metric"]): None for r in rows_of(first)}
    labels = [m for members in groups.values() for m in members] if groups else list(dict.fromkeys(cells["model"]))
    heads, chance = ["model"], [Cell("chance")]
    for column, heading in columns.items():
        known = next((found[model, *column] for model in labels if (model, *column) in found), None)
        heads.append(_heading(column, heading, known))
        chance.append(Cell(number(known["chance"]) if known else ""))
    rows = [_row(label, columns, found, cells[cells["model"] == label]) for label in labels]
    at, starts = 0, []
    for heading, members in (groups or {}).items():
        starts.append((at, heading))
        at += len(members)
    return Grid("Results", [*heads, "ok/launched", "helps"], [*rows, [*chance, Cell(""), Cell("")]], tuple(starts))


def _heading(column: Column, heading: str | None, row: dict[str, Any] | None) -> str:
    task, split, metric = column
    arrow = "" if row is None else " ↑" if row["higher_is_better"] else " ↓"
    place = "" if split == "test/id" else f" {split}"
    return f"{heading or f'{task}{place}'} ({metric}{arrow})"


def _row(
    label: str, columns: dict[Column, str | None], found: Mapping[Any, dict[str, Any]], mine: pd.DataFrame
) -> list[Cell]:
    tasks = mine.drop_duplicates("task")
    ok, launched = int(tasks["n_ok"].sum()), int(tasks["n_launched"].sum())
    helps = " ".join(sorted({str(h) for h in tasks["helps"] if h and not pd.isna(h)}))
    marks = [] if bool(tasks["on_budget"].all()) else [OFF_BUDGET]
    if "checked" in tasks:  # CSVs of before preflight have no such column
        marks += sorted({f"({text})" for text in tasks["checked"].dropna() if str(text).startswith(UNCHECKED)})
    name = Cell(" ".join([label, *marks]))
    planned = set(tasks["task"])  # a row may lack tasks
    values = [_result(found.get((label, *c)), (label, *c)) if c[0] in planned else Cell("") for c in columns]
    return [name, *values, Cell(f"{ok}/{launched}"), Cell(helps or "none")]


def _result(row: dict[str, Any] | None, key: tuple[str, ...]) -> Cell:
    if row is None or pd.isna(row["mean"]):
        return Cell("no result", key=key)
    text = number(row["mean"])
    if not pd.isna(row["high"]):
        text += f" ± {row['high'] - row['mean']:.4f}"
    return Cell(text, bold=bool(row["best"]), key=key)


def _overall(aggregate: pd.DataFrame) -> Grid:
    first = str(aggregate["beats"].iloc[0])
    rows = []
    for row in rows_of(aggregate):
        interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
        share = "" if pd.isna(row["beats_share"]) else f"{row['beats_share']:.2f}"
        rows.append([Cell(row["model"]), Cell(f"{row['iqm']:.3f}{interval}"), Cell(str(row["seeds"])), Cell(share)])
    title = "Over all tasks (0 = chance, 1 = perfect)"
    return Grid(title, ["model", "interquartile mean", "seeds", f"P(better than {first})"], rows)


def _costs(labels: list[str], cells: pd.DataFrame, counted: Collection[str]) -> Grid:
    rows = []
    for label in labels:
        mine = cells[cells["model"] == label]
        keys = ["params", "params_total", "flops_per_token", "train_flops", "steps"]
        keys += ["eval_depth", "flops_eval_per_token"]
        figures = [mine[key].dropna() for key in keys]
        name = f"{label} (counted)" if label in counted else label
        rows.append([Cell(name), *(Cell(span(values)) for values in figures)])
    columns = ["model", "params (non-emb.)", "params (total)", "FLOPs/token", "train FLOPs", "steps"]
    columns += ["depth at test", "FLOPs/token at test"]
    return Grid("Cost (a span where tasks differ)", columns, rows)


def _measured(labels: list[str], timing: pd.DataFrame) -> Grid:
    forms = {"step_ms": ".1f", "step_ms_without_kernels": ".1f", "mfu": ".0%", "mfu_without_kernels": ".0%"}
    shown = forms if timing["step_ms"].notna().any() else {}
    rows = []
    for label in labels:
        mine = timing[timing["model"] == label]
        peak = mine["peak_memory_mib"].max()
        speed = span(mine["tokens_per_second"].dropna())
        timed = [_between(mine[key], form) for key, form in shown.items()]
        rows.append([Cell(label), Cell(speed), Cell("" if pd.isna(peak) else f"{peak:.0f}"), *map(Cell, timed)])
    heads = ["model", "tokens/s", "peak MiB"] + (
        ["step ms", "without C kernels", "MFU", "without C kernels"] if shown else []
    )
    return Grid("Measured on this machine", heads, rows)


def _between(values: pd.Series, form: str) -> str:
    """The least and the largest value, once where they read alike; nothing without a value."""
    known = values.dropna()
    ends = [format(value, form) for value in (known.min(), known.max())] if len(known) else [""]
    return " - ".join(dict.fromkeys(ends))

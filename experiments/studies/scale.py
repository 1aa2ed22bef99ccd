"""What more compute is worth: rows of one table or several at several budgets. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.markup import escape

from experiments.analysis.frames import Runs
from experiments.analysis.scaling import has_budgets, multipliers, orders, points_of
from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import values_of
from experiments.reporting.plot_style import Pen
from experiments.reporting.scaling_figure import SUFFIX, grid, order_notes, panels, reference_of
from experiments.reporting.screen import rich_table, wide_console
from experiments.store import atomic_files as atomic
from experiments.store.records import TaskInfo
from experiments.store.store import Store
from experiments.studies.named_plan import named_plan


def scale(words: Sequence[str], reference: str | None) -> int:
    """Print and write the multipliers, the order of the rows and the figure; the files are named after the first table.

    Args:
        words: `table=A,B` and `results_dir=FOLDER`.
        reference: the row that the others are measured against; None: see `reference_of`.

    Raises:
        UserError: no such table, no row at two budgets, or no such row.
    """
    names = [name for value in values_of("table", words) for name in value.strip("[]").split(",") if name]
    if not names:
        raise UserError("scale needs tables, e.g. scale table=scale, or table=scale_x1,scale_x4")
    others = [word for word in words if not word.startswith("table=")]
    tables: list[tuple[str, Runs]] = []
    for name in names:
        plan, _, store = named_plan([f"table={name}", *others])
        tables.append((plan.table.name, [(spec, store.record(spec.id)) for spec in plan.runs]))
    points = points_of(tables)
    if not has_budgets(points):
        raise UserError(
            f"no row of {', '.join(names)} has finished runs at two budgets: name several tables (table=A,B), or give "
            "one table rows such as {label: transformer_rope x4, model: transformer_rope, overrides: "
            "[budget.train_flops=4e12]}"
        )
    rows = list(dict.fromkeys(points["row"]))
    if reference is not None and reference not in rows:
        raise UserError(unknown("row", reference, rows))
    reference = reference or reference_of(points)
    infos = {spec.task: spec.task_info for _, runs in tables for spec, _ in runs}
    found, held = multipliers(points, reference), orders(points)
    console = wide_console()
    console.print(rich_table(grid(found, reference)))
    for note in order_notes(held):
        console.print(f"- {escape(note)}", highlight=False)
    frames = {SUFFIX: points, "-scaling": found, "-scaling-order": held}
    print("written: " + ", ".join(map(str, _write(frames, infos, tables[0][0], store))))
    return 0


def _write(frames: Mapping[str, pd.DataFrame], infos: Mapping[str, TaskInfo], title: str, store: Store) -> list[Path]:
    """The frames as CSV, and a figure per task."""
    folder = store.root / "exports"
    paths = [folder / f"{title}{suffix}.csv" for suffix in frames]
    for path, frame in zip(paths, frames.values(), strict=True):
        atomic.write_text(path, frame.to_csv(index=False, lineterminator="\n"))
    points, figures = frames[SUFFIX], folder / "figures" / title
    drawn = panels(Pen(list(dict.fromkeys(points["row"])), figures), points, infos, legend=True)
    return paths + [figures / f"{panel.name}.{kind}" for panel in drawn for kind in ("png", "pdf")]

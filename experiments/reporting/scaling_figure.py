"""The metric against training FLOPs for rows that ran at several budgets, and what the reference needs for the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.frames import rows_of
from experiments.analysis.scaling import curve_of, has_budgets, multipliers, orders
from experiments.planning.levels import best_rule
from experiments.reporting.grid import Cell, Grid, engineering, number
from experiments.reporting.plot_style import Panel, Pen, Section, clamp, level
from experiments.store.records import TaskInfo
from experiments.store.store import Store

SUFFIX = "-scaling-points"
WORDS = (
    "Test metric against training FLOPs: a dot per seed, a line per row. The multiplier says how many times the FLOPs "
    "the reference needs to reach the same value; above 1 the row is the cheaper one. A line is a power law where that "
    "fits, else it joins the means."
)
COLUMNS = ["row", "task", "FLOPs", "seeds", "value", "multiplier", "95 % interval", "reference's curve"]


def scaling(
    pen: Pen, own: pd.DataFrame, infos: Mapping[str, TaskInfo], table: str, store: Store, missing: str
) -> Section:
    """The section of a report: from the table's own runs, or from what the verb `scale` wrote of them and others.

    Args:
        pen: draws, with the colours of the table's models.
        own: see experiments.analysis.scaling.points_of, of the table's runs.
        infos: what was planned of the tasks.
        table: the table's name.
        store: where the exports are.
        missing: the command that would make the budgets.
    """
    found = own if has_budgets(own) else _exported(store, table)
    if not has_budgets(found):
        return Section("scaling", "More compute", WORDS, [], [("Every row has one budget here", missing)])
    reference = reference_of(found)
    section = Section("scaling", "More compute", WORDS, panels(pen, found, infos), [])
    section.grids.append(grid(multipliers(found, reference), reference))
    section.notes.extend(order_notes(orders(found)))
    return section


def _exported(store: Store, table: str) -> pd.DataFrame:
    for path in sorted((store.root / "exports").glob(f"*{SUFFIX}.csv")):
        points = pd.read_csv(path)
        if table in set(points["table"]):
            return points
    return pd.DataFrame()


def reference_of(points: pd.DataFrame) -> str:
    """The row that the others are measured against: transformer_rope, or the first that ran at the most budgets."""
    counts = points.groupby("row", sort=False)["level"].nunique()
    return "transformer_rope" if counts.get("transformer_rope", 0) > 1 else str(counts.idxmax())


def panels(pen: Pen, points: pd.DataFrame, infos: Mapping[str, TaskInfo], *, legend: bool = False) -> list[Panel]:
    """A panel per task; a picture of its own has a `legend`."""

    def paint(part: pd.DataFrame, task: str) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            for row, mine in part.groupby("row", sort=False):
                look = pen.look(str(row))
                axes.plot(
                    mine["flops"], mine["value"], gid=pen.mark(str(row)), **{**look, "linestyle": "none", "ms": 4}
                )
                curve = curve_of(mine)
                flops = np.geomspace(curve.flops_B[0], curve.flops_B[-1], 40)
                axes.plot(flops, curve.at(flops), gid=pen.mark(str(row)), **{**look, "marker": ""})
                axes.plot([], [], label=row, **look)  # what the legend shows: line and mark
            axes.set_xscale("log")
            axes.set_xticks(part.groupby("level")["flops"].median().to_list())
            axes.minorticks_off()
            info = infos.get(task)
            clamp(axes, part.rename(columns={"value": "mean"}), info.chance.get("test/id") if info else None)
            if info and (rule := best_rule(info, "test/id", info.metric)) is not None:
                level(axes, rule.name, rule.value)
            axes.set_xlabel("training FLOPs")
            axes.xaxis.set_major_formatter(lambda flops, _: engineering(flops))
            axes.set_ylabel(f"test {part['metric'].iloc[0].replace('_', ' ')} {'↑' if _higher(part) else '↓'}")
            if legend:
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)

        return on

    return [
        pen.panel(f"scaling-{task}", f"{task}, by training FLOPs", WORDS, paint(part, str(task)), _shapes(part))
        for task, part in points.groupby("task", sort=False)
        if part.groupby("row")["level"].nunique().max() > 1
    ]


def _higher(part: pd.DataFrame) -> bool:
    return bool(part["higher_is_better"].iloc[0])


def _shapes(part: pd.DataFrame) -> str:
    """Which lines are power laws."""
    rows = [(str(row), curve_of(mine).shape is not None) for row, mine in part.groupby("row", sort=False)]
    laws = [row for row, fits in rows if fits]
    if not laws:
        return "On test/id. Lines join the means: no power law was fitted."
    if len(laws) == len(rows):
        return "On test/id. Every line is a power law."
    return f"On test/id. Power laws: {', '.join(laws)}; other lines join the means."


def times(value: float | None, other: str = "") -> str:
    """A multiplier in words; 0 and inf are what the reference's curve does not reach."""
    if value is None or math.isnan(value):
        return other
    return "less than seen" if value == 0 else "more than seen" if math.isinf(value) else f"{value:.2f}"


def grid(found: pd.DataFrame, reference: str) -> Grid:
    """The multipliers as they are printed."""
    rows = []
    for row in rows_of(found):
        low, high = row["low"], row["high"]
        interval = "too few seeds" if low is None or pd.isna(low) else f"{times(low)} to {times(high)}"
        names = [row["row"], row["task"], engineering(row["flops"]), str(row["seeds"]), number(row["value"])]
        rows.append([*map(Cell, names), Cell(times(row["multiplier"])), Cell(interval), Cell(row["how"])])
    return Grid(f"Times the FLOPs that {reference} needs for the same test value", COLUMNS, rows)


def order_notes(found: pd.DataFrame) -> list[str]:
    """Whether the order of the rows holds between neighbouring budgets."""
    notes = []
    for row in rows_of(found):
        where = f"{row['task']}, budget {row['level'] + 1} to {row['next_level'] + 1}"
        if not row["swapped"]:
            notes.append(f"{where}: the order of the rows holds: {row['order']}.")
            continue
        sure = f"decided at both: {row['decided']}" if row["decided"] else "no change is decided at both"
        notes.append(f"{where}: {row['order']} becomes {row['next_order']}; {sure}.")
    return notes

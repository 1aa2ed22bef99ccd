"""Cost of an equal quality as grids, models by tasks: seconds with the C kernels and without, executed FLOPs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.analysis.frames import rows_of
from experiments.reporting.grid import Cell, Grid, engineering
from experiments.store.timings import Timings

TITLES = {
    "seconds": "Seconds to equal quality, over {reference}'s",
    "seconds_without_kernels": "The same seconds with PyTorch alone (no C kernels)",
    "executed": "Executed FLOPs to equal quality, over {reference}'s",
}


def pace_grids(equal: pd.DataFrame) -> list[Grid]:
    """A grid per axis that is known, from the frame of experiments.analysis.pace; empty without rows."""
    rows = rows_of(equal)
    if len({row["model"] for row in rows}) < 2:
        return []
    tasks, models = (list(dict.fromkeys(row[key] for row in rows)) for key in ("task", "model"))
    by_cell = {(row["model"], row["task"]): row for row in rows}
    over = {row["task"]: row["reference"] for row in rows}
    one = len(set(over.values())) == 1
    heads = ["model", *(task if one else f"{task} (over {over[task]})" for task in tasks)]
    whose = over[tasks[0]] if one else "the reference row"
    grids = []
    for axis, title in TITLES.items():
        if all(_missing(row[f"{axis}_ratio"]) for row in rows):
            continue
        body = [[Cell(model), *(Cell(_text(by_cell.get((model, task)), axis)) for task in tasks)] for model in models]
        grids.append(Grid(title.format(reference=whose), heads, body))
    return grids


def pace_notes(equal: pd.DataFrame, timings: Timings | None) -> list[str]:
    """What the grids mean and what their seconds rest on; empty where there are none."""
    if not pace_grids(equal):
        return []
    notes = [
        "Equal quality: the best validation of the weaker run of a pair of one seed; steps to it times a step's cost."
    ]
    if timings is not None:
        peak, load = f"{engineering(timings.peak_flops)}FLOP/s", timings.load_before
        quiet = "" if load is None else f", load {load:.1f} before"
        notes.append(f"Step times: {timings.cpu}, one thread, {timings.date[:10]}{quiet}; MFU over its peak of {peak}.")
    else:
        notes.append(
            f"No seconds: nobody has timed the cells (python -m experiments time table={equal['table'].iloc[0]})."
        )
    return notes


def _missing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _text(row: dict[str, Any] | None, axis: str) -> str:
    if row is None:
        return ""
    if not row["learned"]:
        return "not learned"
    if _missing(row[f"{axis}_ratio"]):
        return "not timed" if axis.startswith("seconds") else ""
    if row["model"] == row["reference"]:
        return "1"
    text = f"{row[f'{axis}_ratio']:.2f}x"
    if not _missing(row[f"{axis}_low"]):
        text += f" [{row[f'{axis}_low']:.2f}, {row[f'{axis}_high']:.2f}]"
    return text + ("" if row["learned"] == row["seeds"] else f" ({row['learned']} of {row['seeds']} seeds)")

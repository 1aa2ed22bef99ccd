"""What depends on the clock, a row per model x task: from records, and from the pass that timed steps."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.analysis.frames import Runs, runs_by_cell
from experiments.store.timings import Timings

TIMING_COLUMNS = [
    *("table", "model", "task", "n_ok", "tokens_per_second", "peak_memory_mib", "train_seconds", "wall_seconds"),
    *("executed_over_useful", "step_ms", "step_ms_without_kernels", "step_wall_ms", "mfu", "mfu_without_kernels"),
]


def timing_frame(table: str, runs: Runs, timings: Timings | None = None) -> pd.DataFrame:
    """Wall-clock figures per model x task: means over runs; the peak is the largest; `timings` gives those of steps."""
    rows = []
    for (model, task), members in runs_by_cell(runs).items():
        measured = [r.measured for _, r in members if r is not None and r.status == "done"]
        row: dict[str, Any] = {"table": table, "model": model, "task": task, "n_ok": len(measured)}
        for key in ("tokens_per_second", "train_seconds", "wall_seconds"):
            found = [v for m in measured if (v := getattr(m, key)) is not None]
            row[key] = sum(found) / len(found) if found else None
        peaks = [m.peak_memory_mib for m in measured if m.peak_memory_mib is not None]
        row["peak_memory_mib"] = max(peaks) if peaks else None
        rows.append(row | _step_figures(members, timings))
    return pd.DataFrame(rows, columns=TIMING_COLUMNS)


def _step_figures(members: Runs, timings: Timings | None) -> dict[str, float]:
    """What a step of the cell does and takes; the times are those of the pass that `timings` holds."""
    spec = next((record.spec for _, record in members if record is not None and record.status == "done"), members[0][0])
    cost, found = spec.cost, {}
    if cost.counted_train is not None:
        useful = cost.flops_train / spec.steps / spec.task_info.batch_size
        found["executed_over_useful"] = cost.counted_train / useful
    if timings is not None and (cell := timings.cell(spec)) is not None:
        found |= {
            "step_ms": 1e3 * cell.with_kernels.cpu_seconds,
            "step_ms_without_kernels": 1e3 * cell.without_kernels.cpu_seconds,
            "step_wall_ms": 1e3 * cell.with_kernels.wall_seconds,
            "mfu": timings.mfu(cell),
            "mfu_without_kernels": timings.mfu(cell, kernels=False),
        }
    return found

"""Iteration curves: the quality and the FLOPs of a trained model against the depth that it is run at.

    python -m experiments depth-curves table=iterations
    python -m experiments depth-curves table=quick 'trainer.eval_depths=[1,2,4,8]'

A loop may turn more or less often than it was trained to; a stack can be cut short. Runs what is missing of the
table, then writes exports/<table>-iterations.csv, a row per model, task, depth, split and metric, and the curves as
exports/figures/<table>/iterations-<task>.png and .pdf. The weights are those that were selected at the trained depth:
no depth is chosen on a test split.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.analysis.curves import DEPTH_COLUMNS, depth_rows
from experiments.errors import UserError
from experiments.reporting import depth_figure
from experiments.reporting.csv_export import to_csv
from experiments.reporting.screen import show_rows
from experiments.store import atomic_files as atomic
from experiments.studies.reproduce import carry, prepare


def depth_curves(arguments: Sequence[str]) -> int:
    """Run what is missing, write and print the curves; 1 if a run has no result.

    Raises:
        UserError: the table asks for no depths, or what `reproduce` raises.
    """
    plan, path, store, launcher = prepare(arguments)
    if not any(spec.config["trainer"].get("eval_depths") for spec in plan.runs):
        raise UserError("no depths to look at; give some, e.g. 'trainer.eval_depths=[1,2,4,8]', or table=iterations")
    carry(plan, path, store, launcher)
    found = store.records(spec.id for spec in plan.unique())
    rows = depth_rows([found[spec.id] for spec in plan.runs if spec.id in found], plan.table.confidence)
    target = store.root / "exports" / f"{plan.table.name}-iterations.csv"
    atomic.write_text(target, to_csv(DEPTH_COLUMNS, rows))
    shown = [row for row in rows if row["primary"] and row["split"] == "test/id"]
    columns = ["model", "task", "metric", "depth", "trained_depth", "flops_per_token", "n", "mean", "sd"]
    drawn = depth_figure.draw(shown, store.root / "exports" / "figures" / plan.table.name) if shown else []
    show_rows(shown, columns, f"{plan.table.name}: test/id against depth")
    print("written: " + ", ".join(map(str, [target, *drawn])))
    return 0 if all(store.state(spec.id) == "done" for spec in plan.unique()) else 1

"""Iteration curves: the quality and the FLOPs of a trained model against the depth that it is run at.

    python -m experiments.studies.depth_curves table=iterations
    python -m experiments.studies.depth_curves table=quick 'trainer.eval_depths=[1,2,4,8]'

A loop may turn more or less often than it was trained to; a stack can be cut short. Runs what is missing of the
table, then writes exports/<table>-iterations.csv, a row per model, task, depth, split and metric, and the curves as
exports/figures/<table>/iterations-<task>.png and .pdf. The weights are those that were selected at the trained depth:
no depth is chosen on a test split.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.analysis.significance import summary
from experiments.command_line import main
from experiments.errors import UserError
from experiments.planning.instantiate import build_model_config, build_task, model_shape
from experiments.store import atomic_files as atomic
from experiments.store.records import DepthPoint, Record, RunSpec
from ressformer.cost import model_cost

if TYPE_CHECKING:
    from experiments.training.fit import Fitted

COLUMNS = [
    *("model", "task", "split", "metric", "primary", "depth", "trained_depth", "flops_per_token", "train_flops"),
    *("n", "mean", "sd", "low", "high"),
]


def depth_points(fitted: Fitted, spec: RunSpec, depths: Sequence[int]) -> list[DepthPoint]:
    """The trained model on its test splits at each depth that it can be run at."""
    config = build_model_config(spec.sizes, spec.allow_targets)
    if not depths:
        return []
    core, shape = fitted.module.model.core, model_shape(build_task(spec.config["task"], spec.allow_targets))
    points = []
    for depth in sorted(set(depths)):
        at_depth = config.at_depth(depth)
        if at_depth is None:
            continue
        core.eval_depth = depth
        try:
            found = fitted.evaluate.all(fitted.module, fitted.splits)
        finally:
            core.eval_depth = 0
        flops = model_cost(at_depth, shape).flops_forward
        metrics = {split: outcome.metrics for split, outcome in found.items()}
        points.append(DepthPoint(depth=depth, flops_forward=flops, metrics=metrics))
    return points


def curve_rows(records: Sequence[Record], confidence: float = 0.95) -> list[dict[str, Any]]:
    """Points of the curves: mean over seeds with interval (three seeds or more), in the order of the records."""
    cells: dict[tuple[str, str, str, str, int], list[tuple[Record, DepthPoint, float]]] = {}
    for record in records:
        for point in record.depths:
            for split, metrics in point.metrics.items():
                for metric, value in metrics.items():
                    key = (record.spec.model, record.spec.task, split, metric, point.depth)
                    cells.setdefault(key, []).append((record, point, value))
    rows = []
    for (model, task, split, metric, depth), found in cells.items():
        spec, point = found[0][0].spec, found[0][1]
        short = summary([value for _, _, value in found], confidence)
        rows.append(
            {
                **{"model": model, "task": task, "split": split, "metric": metric, "depth": depth},
                "primary": metric == spec.task_info.metric,
                "trained_depth": spec.cost.eval_depth,
                "flops_per_token": point.flops_forward / spec.task_info.length,
                "train_flops": spec.cost.flops_train,
                "n": len(found),
                **{key: getattr(short, key) for key in ("mean", "sd", "low", "high")},
            }
        )
    return rows


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """The curves of `rows` as PNG and PDF, a picture per task; a ring stands at the depth of training.

    Args:
        rows: of one split and the primary metrics, see `curve_rows`.
        folder: made if need be.
    """
    import pandas as pd

    from experiments.reporting.plot_style import Pen

    frame = pd.DataFrame(rows)
    pen = Pen(list(dict.fromkeys(frame["model"])), folder)
    files = []
    for task, part in frame.groupby("task", sort=False):

        def paint(axes: Any, part: pd.DataFrame = part) -> None:
            pen.lines(axes, part, "depth")
            trained = part[part["depth"] == part["trained_depth"]]
            axes.plot(trained["depth"], trained["mean"], "o", ms=11, mfc="none", color="#66707b", label="as trained")
            axes.set_xticks(sorted(set(part["depth"])))
            axes.set_xlabel("depth at test (blocks applied)")
            axes.set_ylabel(str(part["metric"].iloc[0]))
            axes.legend(frameon=False, fontsize=8)

        name = f"iterations-{task}"
        pen.panel(name, f"{task}, by depth at test", "The metric by depth, a line per model.", paint)
        files += [folder / f"{name}.{kind}" for kind in ("png", "pdf")]
    return files


def iterations(arguments: Sequence[str]) -> int:
    """Run what is missing, write and print the curves; 1 if a run has no result.

    Raises:
        UserError: the table asks for no depths, or what `reproduce` raises.
    """
    from experiments.reporting.csv_export import to_csv
    from experiments.studies.reproduce import carry, prepare
    from experiments.studies.sweep import show_rows

    plan, path, store, launcher = prepare(arguments)
    if not any(spec.config["trainer"].get("eval_depths") for spec in plan.runs):
        raise UserError("no depths to look at; give some, e.g. 'trainer.eval_depths=[1,2,4,8]', or table=iterations")
    carry(plan, path, store, launcher)
    found = store.records(spec.id for spec in plan.unique())
    rows = curve_rows([found[spec.id] for spec in plan.runs if spec.id in found], plan.table.confidence)
    target = store.root / "exports" / f"{plan.table.name}-iterations.csv"
    atomic.write_text(target, to_csv(COLUMNS, rows))
    shown = [row for row in rows if row["primary"] and row["split"] == "test/id"]
    columns = ["model", "task", "metric", "depth", "trained_depth", "flops_per_token", "n", "mean", "sd"]
    show_rows(shown, columns, f"{plan.table.name}: test/id against depth")
    drawn = draw(shown, store.root / "exports" / "figures" / plan.table.name) if shown else []
    print("written: " + ", ".join(map(str, [target, *drawn])))
    return 0 if all(store.state(spec.id) == "done" for spec in plan.unique()) else 1


if __name__ == "__main__":
    main(lambda: iterations(sys.argv[1:]))

"""Trials of a sweep as rows: what each scored on validation and cost, which is chosen, what fewer would have found."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.analysis.significance import summary
from experiments.planning.plan import Plan
from experiments.planning.trial_points import VARIANT, points_of
from experiments.store.records import Record, RunSpec

RANKING = ["task", "rank", "trial", "metric", "mean", "sd", "n_ok", "n_launched", "steps", "params"]
TRIALS = ["model", "task", "trial", "status", "metric", "validation", "n_ok", "train_flops", "on_budget"]
BEST = ["model", "task", "trial", "metric", "validation", "trials", "trials_ok", "tuning_flops", "overrides"]
CURVE = ["model", "task", "k", "metric", "expected_best", "p_none"]
Points = Mapping[str, Mapping[str, Any]]  # by row label, "MODEL #TRIAL"


def trial_rows(plan: Plan, records: Mapping[str, Record], points: Points) -> list[dict[str, Any]]:
    """A row for each model, task and trial: what it scored on validation, and what it cost."""
    cells: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in plan.runs:
        cells.setdefault((spec.model, spec.task), []).append(spec)
    rows = []
    for (label, task), specs in cells.items():
        model, number = label.rsplit(" #", 1)
        metric = specs[0].task_info.metric
        found = [records[spec.id] for spec in specs if spec.id in records]
        values = [r.selection[metric] for r in found if r.status == "done" and metric in r.selection]
        whole = len(values) == len(specs)
        states = {record.status for record in found} if len(found) == len(specs) else {"missing"}
        rows.append(
            {
                "model": model,
                "task": task,
                "trial": int(number),
                "status": "done" if whole else "missing" if "missing" in states else "failed",
                "metric": metric,
                "validation": sum(values) / len(values) if whole else None,
                "n_ok": len(values),
                "train_flops": sum(r.spec.cost.flops_train * r.steps_done / r.spec.steps for r in found),
                "on_budget": all(spec.budget.on_budget for spec in specs),
                **points[label],
            }
        )
    return rows


def higher_is_better(plan: Plan) -> dict[str, bool]:
    """By task of the plan."""
    return {spec.task: spec.task_info.higher_is_better for spec in plan.runs}


def trial_files(
    plan: Plan, records: Mapping[str, Record], keys: Sequence[str]
) -> dict[str, tuple[list[str], list[dict[str, Any]]]]:
    """What a tuning exports: the end of each CSV's name, its columns and its rows; `keys` as in `points_of`."""
    rows = trial_rows(plan, records, points_of(plan, keys))
    better = higher_is_better(plan)
    best, curve = chosen(rows, better, keys), curve_rows(rows, better)
    return {"": ([*TRIALS, *keys], rows), "-best": (BEST, best), "-best-of-k": (CURVE, curve)}


def _cells(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["model"], row["task"]), []).append(row)
    return cells


def chosen(rows: Sequence[Mapping[str, Any]], better: Mapping[str, bool], keys: Sequence[str]) -> list[dict[str, Any]]:
    """The best trial of each model and task by validation, as overrides, with what finding it took."""
    found = []
    for (model, task), mine in _cells(rows).items():
        ok = [row for row in mine if row["validation"] is not None]
        sign = 1 if better[task] else -1
        best = max(ok, key=lambda row: (sign * row["validation"], -row["trial"]), default=None)
        found.append(
            {
                "model": model,
                "task": task,
                "trial": best["trial"] if best else None,
                "metric": mine[0]["metric"],
                "validation": best["validation"] if best else None,
                "trials": len(mine),
                "trials_ok": len(ok),
                "tuning_flops": sum(row["train_flops"] for row in mine),
                "overrides": _overrides(best, keys) if best else "",
            }
        )
    return found


def _overrides(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return str(row[VARIANT]) if list(keys) == [VARIANT] else " ".join(f"{key}={row[key]}" for key in keys)


def curve_rows(rows: Sequence[Mapping[str, Any]], better: Mapping[str, bool]) -> list[dict[str, Any]]:
    """The best-of-k curve of each model and task."""
    return [
        {"model": model, "task": task, "k": point.k, "metric": mine[0]["metric"]}
        | {"expected_best": point.mean, "p_none": point.p_none}
        for (model, task), mine in _cells(rows).items()
        for point in best_of_k([row["validation"] for row in mine], higher_is_better=better[task])
    ]


class BestOf(NamedTuple):
    """The best of `k` of the trials, drawn without replacement.

    Attributes:
        k: trials drawn.
        mean: expected best among draws in which at least one trial succeeded; None if none can have.
        p_none: probability that all k failed.
    """

    k: int
    mean: float | None
    p_none: float


def best_of_k(values: Sequence[float | None], *, higher_is_better: bool) -> list[BestOf]:
    """The expected best of k trials for k = 1 .. n, exactly, from n trials (None = failed).

    All C(n, k) draws are equally likely. The i-th worst of the s successes is the best of a draw if the other k - 1
    come from the f failures and the i - 1 successes below it, so
    P(best = i) = (C(f + i, k) - C(f + i - 1, k)) / C(n, k).
    """
    found = sorted((v for v in values if v is not None), reverse=not higher_is_better)  # the best is the last
    n, failed = len(values), len(values) - len(found)
    curve = []
    for k in range(1, n + 1):
        draws = math.comb(n, k)
        weights = [math.comb(failed + i, k) - math.comb(failed + i - 1, k) for i in range(1, len(found) + 1)]
        total = sum(weights)
        mean = sum(w * v for w, v in zip(weights, found, strict=True)) / total if total else None
        curve.append(BestOf(k, mean, math.comb(failed, k) / draws))
    return curve


def ranking(plan: Plan, records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Trials per task, the best validation mean first; trials without a result last."""
    cells: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in plan.runs:
        cells.setdefault((spec.task, spec.model), []).append(spec)
    rows: list[dict[str, Any]] = []
    for (task, trial), specs in cells.items():
        info = specs[0].task_info
        found = [records[s.id] for s in specs if s.id in records]
        values = [r.selection[info.metric] for r in found if r.status == "done" and info.metric in r.selection]
        short = summary(values)
        rows.append(
            {
                "task": task,
                "rank": 0,
                "trial": trial,
                "metric": f"validation {info.metric}",
                "mean": short.mean,
                "sd": short.sd,
                "n_ok": len(values),
                "n_launched": len(found),
                "steps": specs[0].steps,
                "params": specs[0].cost.params_non_embedding,
                "sign": -1 if info.higher_is_better else 1,
            }
        )
    order: dict[str, int] = {task: number for number, task in enumerate(plan.table.tasks)}
    rows.sort(key=lambda r: (order[r["task"]], r["mean"] is None, r["sign"] * (r["mean"] or 0.0), r["trial"]))
    for _, group in itertools.groupby(rows, key=lambda r: r["task"]):
        for number, row in enumerate(group, 1):
            row["rank"] = number
            del row["sign"]
    return rows

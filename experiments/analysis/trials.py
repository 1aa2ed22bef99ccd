"""Trials of a sweep as rows: what each scored on validation and cost, which is chosen, what fewer would have found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.analysis.bestof import best_of_k
from experiments.planning.plan import Plan
from experiments.store.records import Record, RunSpec

TRIALS = ["model", "task", "trial", "status", "metric", "validation", "n_ok", "train_flops", "on_budget"]
BEST = ["model", "task", "trial", "metric", "validation", "trials", "trials_ok", "tuning_flops", "overrides"]
CURVE = ["model", "task", "k", "metric", "expected_best", "p_none"]
ARM = "arm"  # the key of the points of a sweep of arms: a trial's overrides in one string
Points = Mapping[str, Mapping[str, Any]]  # by row label, "MODEL #TRIAL"


def trial_entries(
    models: Sequence[Mapping[str, Any]], trials: Mapping[str, Sequence[Sequence[str]]]
) -> list[dict[str, Any]]:
    """A row of the plan for each model and trial; `trials` holds the overrides of each, by the model's label."""
    return [
        {
            "label": f"{entry['label']} #{number}",
            "model": entry["model"],
            "overrides": [*entry.get("overrides", []), *overrides],
        }
        for entry in models
        for number, overrides in enumerate(trials[entry["label"]])
    ]


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


def points_of(plan: Plan, keys: Sequence[str]) -> dict[str, dict[str, str]]:
    """The point of each row, read from the overrides of a tuning's plan; `keys` are those of its space, or ARM."""
    points: dict[str, dict[str, str]] = {}
    for entry in plan.table.entries():
        given = dict(override.split("=", 1) for override in entry.overrides) | {ARM: " ".join(entry.overrides)}
        points[entry.label] = {key: given[key] for key in keys}
    return points


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
    return str(row[ARM]) if list(keys) == [ARM] else " ".join(f"{key}={row[key]}" for key in keys)


def curve_rows(rows: Sequence[Mapping[str, Any]], better: Mapping[str, bool]) -> list[dict[str, Any]]:
    """The best-of-k curve of each model and task."""
    return [
        {"model": model, "task": task, "k": point.k, "metric": mine[0]["metric"]}
        | {"expected_best": point.mean, "p_none": point.p_none}
        for (model, task), mine in _cells(rows).items()
        for point in best_of_k([row["validation"] for row in mine], higher_is_better=better[task])
    ]

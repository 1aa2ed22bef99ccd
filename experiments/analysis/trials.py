"""Trials of a sweep as rows: what each scored on validation and cost, which is chosen, what fewer would have found."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.analysis.significance import summary
from experiments.analysis.trial_choice import Tried, choose, tried
from experiments.analysis.validation_error import Scored, scored
from experiments.planning.plan import Plan
from experiments.planning.trial_points import VARIANT, points_of
from experiments.store.records import Record, RunSpec

RANKING = ["task", "rank", "trial", "metric", "mean", "sd", "n_ok", "n_launched", "steps", "params"]
TRIALS = [
    *("model", "task", "trial", "status", "metric", "validation", "validation_se", "n_ok"),
    *("train_flops", "on_budget"),
]
BEST = [
    *("model", "task", "trial", "chosen", "metric", "validation", "validation_se", "best", "best_validation"),
    *("tied", "place", "edge", "widened", "trials", "trials_ok", "tuning_flops", "overrides"),
]
SHOWN = [
    *("model", "task", "chosen", "metric", "validation", "validation_se", "best", "tied", "place", "edge", "widened"),
    "trials",
]
CURVE = ["model", "task", "k", "metric", "expected_best", "p_none"]
Points = Mapping[tuple[str, str], Mapping[str, Any]]  # by row label, "MODEL #TRIAL", and task
ROW = re.compile(r"(.+) #\d+")  # the label of a trial of a tuning or of variants


def is_grid(name: str, export: str) -> bool:
    """Whether a plan of that name is a sweep over axes of the command line; `export`: its CSV as far as written."""
    return name.startswith("sweep-") or export.startswith(",".join(RANKING))


def is_sweep_plan(plan: Plan, export: str) -> bool:
    """Whether the plan is a sweep's, whatever it is called; `export`: its CSV as far as written."""
    return is_grid(plan.table.name, export) or all(ROW.fullmatch(entry.label) for entry in plan.table.entries())


def trials_of(plan: Plan, records: Mapping[str, Record], keys: Sequence[str]) -> list[Tried]:
    """The trials of each model and task: what each scored on validation, and what it cost."""
    points = points_of(plan, keys)
    cells: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in plan.runs:
        cells.setdefault((spec.model, spec.task), []).append(spec)
    return tried(plan, [_row(cell, specs, records, points[cell]) for cell, specs in cells.items()], keys)


def _row(
    cell: tuple[str, str], specs: Sequence[RunSpec], records: Mapping[str, Record], point: Mapping[str, Any]
) -> tuple[dict[str, Any], Scored]:
    model, number = cell[0].rsplit(" #", 1)
    metric = specs[0].task_info.metric
    found = [records[spec.id] for spec in specs if spec.id in records]
    values = [r.selection[metric] for r in found if r.status == "done" and metric in r.selection]
    whole = len(values) == len(specs)
    states = {record.status for record in found} if len(found) == len(specs) else {"missing"}
    mine = scored(found, sum(values) / len(values) if whole else None)
    row = {
        "model": model,
        "task": cell[1],
        "trial": int(number),
        "status": "done" if whole else "missing" if "missing" in states else "failed",
        "metric": metric,
        "validation": mine.mean,
        "validation_se": mine.error,
        "n_ok": len(values),
        "train_flops": sum(r.spec.cost.flops_train * r.steps_done / r.spec.steps for r in found),
        "on_budget": all(spec.budget.on_budget for spec in specs),
        **point,
    }
    return row, mine


def higher_is_better(plan: Plan) -> dict[str, bool]:
    """By task of the plan."""
    return {spec.task: spec.task_info.higher_is_better for spec in plan.runs}


def trial_files(
    plan: Plan, records: Mapping[str, Record], keys: Sequence[str]
) -> dict[str, tuple[list[str], list[dict[str, Any]]]]:
    """What a tuning exports: the end of each CSV's name, its columns and its rows; `keys` as in `points_of`."""
    found = trials_of(plan, records, keys)
    rows, better = [dict(one.row) for one in found], higher_is_better(plan)
    curve = curve_rows(rows, better)
    best = chosen(found, better, keys)
    return {"": ([*TRIALS, *keys], rows), "-best": (BEST, best), "-best-of-k": (CURVE, curve)}


def _cells(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["model"], row["task"]), []).append(row)
    return cells


def by_cell(found: Sequence[Tried]) -> dict[tuple[str, str], list[Tried]]:
    """The trials of each model and task."""
    cells: dict[tuple[str, str], list[Tried]] = {}
    for one in found:
        cells.setdefault((one.row["model"], one.row["task"]), []).append(one)
    return cells


def chosen(found: Sequence[Tried], better: Mapping[str, bool], keys: Sequence[str]) -> list[dict[str, Any]]:
    """The trial that each model and task is given (`trial_choice`), as overrides, with what finding it took."""
    rows = []
    for (model, task), mine in by_cell(found).items():
        choice = choose(mine, keys, better[task])
        one, best = choice.chosen, choice.best
        rows.append(
            {
                "model": model,
                "task": task,
                "trial": one.row["trial"] if one else None,
                "chosen": _told(one, keys),
                "metric": mine[0].row["metric"],
                "validation": one.scored.mean if one else None,
                "validation_se": one.scored.error if one else None,
                "best": _told(best, keys),
                "best_validation": best.scored.mean if best else None,
                "tied": choice.tied,
                "place": choice.place,
                "edge": choice.edge,
                "widened": choice.widened,
                "trials": len(mine),
                "trials_ok": sum(other.scored.mean is not None for other in mine),
                "tuning_flops": sum(other.row["train_flops"] for other in mine),
                "overrides": _overrides(one.row, keys) if one else "",
            }
        )
    return rows


def _told(one: Tried | None, keys: Sequence[str]) -> str:
    """The point of a trial in short: its value, or its overrides; of a variant without any, what it is."""
    if one is None:
        return ""
    if list(keys) == [VARIANT]:
        return str(one.row[VARIANT]) or "as it is"
    return str(one.row[keys[0]]) if len(keys) == 1 else _overrides(one.row, keys)


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

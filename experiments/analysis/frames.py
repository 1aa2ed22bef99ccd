"""Records as tidy pandas frames: the only thing that tables and exports are made from.

`cells_frame` has one row per model x task x split x metric, `aggregate_frame` one per model over all tasks: the IQM of
normalised scores (0 = chance, 1 = perfection, on test/id, primary metric), and how often a model beats the first one.

Shapes: S seeds, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.bootstrap import (
    Floats,
    ItemInterval,
    iqm,
    normalised,
    probability_of_improvement,
    share_interval,
    stratified_bootstrap,
)
from experiments.analysis.significance import MIN_SEEDS, groups, summary
from experiments.planning.instantiate import helps
from experiments.planning.levels import level_columns, perfect_reader, small_splits
from experiments.planning.settings import TableSettings
from experiments.store.records import Record, RunSpec

CELL_COLUMNS = [
    *("table", "model", "task", "split", "metric", "primary", "higher_is_better", "unit"),
    *("n_ok", "n_launched", "mean", "sd", "low", "high", "chance", "above_chance", "best"),
    *("budget", "regime", "on_budget", "params_residual", "train_flops_residual"),
    *("params", "params_total", "params_active", "flops_per_token", "train_flops", "train_flops_counted"),
    *("steps", "helps", "data_fingerprint", "eval_depth", "flops_eval_per_token"),
    *("different_items", "effective_items", "small_test", "best_rule", "best_rule_value", "checked"),
    *("ngram", "ngram_value", "perfect_reader", "seeds_apart"),
]
AGGREGATE_COLUMNS = ["table", "model", "tasks", "seeds", "iqm", "low", "high", "beats", "beats_share"]
SEED_COLUMNS = [
    *("table", "model", "task", "seed", "id", "status", "metric", "higher_is_better", "chance", "test", "score"),
    *("validation", "steps", "steps_done", "selected_step", "params", "train_flops", "train_seconds"),
    *("budget", "regime", "on_budget", "helps"),
    *("best_rule", "best_rule_value", "ngram", "ngram_value", "different_items", "effective_items"),
]
VALUE_COLUMNS = ["id", "model", "task", "seed", "split", "metric", "primary", "value"]
Column = tuple[str, str, str]  # task, split, metric
Runs = Sequence[tuple[RunSpec, Record | None]]


def cells_frame(
    table: str,
    runs: Runs,
    best: Mapping[Column, str | None],
    confidence: float,
    checked: Mapping[str, str] = MappingProxyType({}),
    known_helps: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """One row per model x task x split x metric, in the order of the plan.

    Args:
        table: its name.
        runs: (spec, record or None) in the order of the plan; the spec's labels name rows and columns.
        best: per column (task, split, metric), the model that is significantly best.
        confidence: of the intervals.
        checked: what preflight found of each model, where it was asked.
        known_helps: the helps of runs by id, as planned; of others the class is asked.
    """
    rows: list[dict[str, Any]] = []
    for (model, task), members in runs_by_cell(runs).items():
        spec, _ = members[0]
        done = [record for _, record in members if record is not None and record.status == "done"]
        keys = list(dict.fromkeys((s, m) for r in done for s, values in r.metrics.items() for m in values))
        primary = ("test/id", spec.task_info.metric)
        common = _common(table, model, task, members, known_helps) | {"checked": checked.get(model, "")}
        for split, metric in keys if primary in keys else [primary, *keys]:
            values = [r.metrics[split][metric] for r in done if metric in r.metrics.get(split, {})]
            found = {"best": best.get((task, split, metric)) == model}
            rows.append(common | _figures(spec, split, metric, values, confidence) | found)
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def seeds_frame(table: str, runs: Runs, known_helps: Mapping[str, str] = MappingProxyType({})) -> pd.DataFrame:
    """One row per run of the plan, in its order: the primary metric on test/id and validation, and what it cost."""
    rows = []
    for spec, record in runs:
        info = spec.task_info
        test = None if record is None else record.metrics.get("test/id", {}).get(info.metric)
        chance = info.chance.get("test/id")
        score = None if test is None or chance is None else normalised(test, chance, info.higher_is_better)
        rows.append(
            {
                "table": table,
                **names_of(spec),
                "status": "planned" if record is None else record.status,
                "metric": info.metric,
                "higher_is_better": info.higher_is_better,
                "chance": chance,
                "test": test,
                "score": score,
                "validation": None if record is None else record.selection.get(info.metric),
                "steps": spec.steps,
                "steps_done": None if record is None else record.steps_done,
                "selected_step": None if record is None else record.selected_step,
                "params": spec.cost.params_non_embedding,
                "train_flops": spec.cost.flops_train,
                "train_seconds": None if record is None else record.measured.train_seconds,
                "budget": spec.budget.name,
                "regime": spec.budget.regime,
                "on_budget": spec.budget.on_budget,
                "helps": known_helps[spec.id] if spec.id in known_helps else helps(spec.sizes, spec.allow_targets),
                **level_columns(info, "test/id", info.metric),
            }
        )
    return pd.DataFrame(rows, columns=SEED_COLUMNS)


def metrics_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per run x split x metric; the validation metrics are those of the selected weights."""
    return pd.DataFrame(
        [
            (*names_of(record.spec).values(), split, metric, metric == record.spec.task_info.metric, value)
            for record in records
            for split, metrics in ({"validation": record.selection} | record.metrics).items()
            for metric, value in metrics.items()
        ],
        columns=VALUE_COLUMNS,
    )


def names_of(spec: RunSpec) -> dict[str, Any]:
    """The columns that say which run it is."""
    return {"id": spec.id, "model": spec.model, "task": spec.task, "seed": spec.seed}


def primary_by_seed(
    runs: Runs, task: str, split: str = "test/id", metric: str | None = None
) -> dict[str, dict[int, float]]:
    """Per model, a metric (default: the primary one) of a task by seed (done runs only)."""
    found: dict[str, dict[int, float]] = {}
    for spec, record in runs:
        if spec.task == task:
            seeds = found.setdefault(spec.model, {})
            if record is not None and record.status == "done":
                value = record.metrics.get(split, {}).get(metric or spec.task_info.metric)
                if value is not None:
                    seeds[spec.seed] = value
    return found


def rows_of(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as dicts."""
    return [{str(key): value for key, value in row.items()} for row in cells.to_dict("records")]


def primary_rows(cells: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    """The row of the primary metric on test/id, by (model, task)."""
    chosen = cells[cells["primary"] & (cells["split"] == "test/id")]
    return {(row["model"], row["task"]): row for row in rows_of(chosen)}


def item_interval(record: Record, split: str, confidence: float = 0.95) -> ItemInterval | None:
    """What the finite number of items of a split leaves open in the run's primary metric; None if it is no share."""
    values = record.items.get(split)
    if not record.spec.task_info.higher_is_better or not values or any(value is None for value in values):
        return None
    return share_interval(values, record.item_weights.get(split), confidence)


def runs_by_cell(runs: Runs) -> dict[tuple[str, str], list[tuple[RunSpec, Record | None]]]:
    """The runs by (model, task), in their order."""
    cells: dict[tuple[str, str], list[tuple[RunSpec, Record | None]]] = {}
    for spec, record in runs:
        cells.setdefault((spec.model, spec.task), []).append((spec, record))
    return cells


def _common(table: str, model: str, task: str, members: Runs, known_helps: Mapping[str, str]) -> dict[str, Any]:
    spec, _ = members[0]
    # Records have torch's count of the FLOPs; plans do not.
    cost = next(
        (record.spec.cost for _, record in members if record is not None and record.status == "done"), spec.cost
    )
    info, budget = spec.task_info, spec.budget
    step = None if cost.counted_train is None else cost.counted_train * info.batch_size * spec.steps
    return {
        "table": table,
        "model": model,
        "task": task,
        "higher_is_better": info.higher_is_better,
        "unit": info.unit,
        "n_ok": sum(record is not None and record.status == "done" for _, record in members),
        "n_launched": sum(record is not None for _, record in members),
        "budget": budget.name,
        "regime": budget.regime,
        "on_budget": budget.on_budget,
        "params_residual": budget.residual.get("params"),
        "train_flops_residual": budget.residual.get("train_flops"),
        "params": cost.params_non_embedding,
        "params_total": cost.params_total,
        "params_active": cost.params_active,
        "flops_per_token": cost.flops_per_token,
        "train_flops": cost.flops_train,
        "train_flops_counted": step,
        "steps": spec.steps,
        "helps": known_helps[spec.id] if spec.id in known_helps else helps(spec.sizes, spec.allow_targets),
        "data_fingerprint": spec.data_fingerprint[:12],
        "eval_depth": cost.eval_depth,
        "flops_eval_per_token": None if cost.flops_eval is None else cost.flops_eval / info.length,
    }


def _figures(spec: RunSpec, split: str, metric: str, values: Sequence[float], confidence: float) -> dict[str, Any]:
    found = summary(values, confidence)
    info = spec.task_info
    chance = info.chance.get(split) if metric == info.metric else None
    above = None
    if chance is not None and found.low is not None and found.high is not None:
        above = found.low > chance if info.higher_is_better else found.high < chance
    return {
        **level_columns(info, split, metric),
        "small_test": bool(small_splits(info)),
        "perfect_reader": perfect_reader(info, split, metric),
        "seeds_apart": None
        if chance is None
        else groups(values, abs(float(info.higher_is_better) - chance)) is not None,
        "split": split,
        "metric": metric,
        "primary": metric == info.metric,
        "mean": found.mean,
        "sd": found.sd,
        "low": found.low,
        "high": found.high,
        "chance": chance,
        "above_chance": above,
    }


def scores(runs: Runs, settings: TableSettings) -> dict[str, Floats]:
    """Per model, normalised scores [S, T] over the seeds that every task has; models that lack any are absent."""
    infos = {spec.task: spec.task_info for spec, _ in runs}
    if any("test/id" not in infos[task].chance for task in settings.tasks):
        return {}
    values = {task: primary_by_seed(runs, task) for task in settings.tasks}
    found = {}
    for entry in settings.entries():
        columns = [values[task].get(entry.label, {}) for task in settings.tasks]
        common = sorted(set.intersection(*(set(column) for column in columns)))
        if common:
            found[entry.label] = np.array([[column[seed] for column in columns] for seed in common])
    for t, task in enumerate(settings.tasks):
        info = infos[task]
        for matrix_ST in found.values():
            matrix_ST[:, t] = [normalised(v, info.chance["test/id"], info.higher_is_better) for v in matrix_ST[:, t]]
    return found


def aggregate_frame(runs: Runs, settings: TableSettings) -> pd.DataFrame:
    """One row per model in the table's order; empty where a task has no chance level or one task is all there is."""
    found = scores(runs, settings) if len(settings.tasks) > 1 else {}
    first = next((entry.label for entry in settings.entries() if entry.label in found), None)
    rows: list[dict[str, Any]] = []
    for model, matrix_ST in found.items():
        low: float | None = None
        high: float | None = None
        if matrix_ST.shape[0] >= MIN_SEEDS:
            low, high = stratified_bootstrap(matrix_ST, confidence=settings.confidence)
        beats = None if model == first or first is None else probability_of_improvement(matrix_ST, found[first])
        shape = {"tasks": matrix_ST.shape[1], "seeds": matrix_ST.shape[0]}
        figures = {"iqm": iqm(matrix_ST), "low": low, "high": high, "beats": first, "beats_share": beats}
        rows.append({"table": settings.name, "model": model, **shape, **figures})
    return pd.DataFrame(rows, columns=AGGREGATE_COLUMNS)

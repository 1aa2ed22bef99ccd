"""The remarks under a table: what beats chance, what bold means, which cells to doubt, what went wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

import pandas as pd

from experiments.store import atomic_files as atomic
from experiments.planning.instantiate import build_task, resolve
from experiments.errors import UserError
from experiments.analysis.frames import Runs, item_interval, primary_by_seed, primary_rows
from experiments.reporting.header import by_regime
from experiments.planning.plan import Plan
from experiments.store.records import Record, RunSpec
from experiments.analysis.significance import MIN_SEEDS, groups
from tasks.base import EVAL_SEED

OFF_BUDGET = "!"
FEW = 100  # different items of a test below which its column says how many there are


def footnotes(plan: Plan, runs: Runs, cells: pd.DataFrame, needed: int) -> list[str]:
    """All remarks on a table; `needed` is the number of seeds that bold needs."""
    rows = list(primary_rows(cells).values())
    notes = [f"{task}: {text}" for task, text in few_items(plan.runs).items()]
    if len(plan.table.seeds) >= MIN_SEEDS:
        for task in plan.table.tasks:
            above = [row["model"] for row in rows if row["task"] == task and row["above_chance"] is True]
            found = ", ".join(above) or "no model"
            notes.append(f"{task}: better than chance by more than the interval: {found}.")
        notes.append(_bold(plan, needed, any(row["best"] for row in rows)))
    else:
        notes.append(f"Fewer than {MIN_SEEDS} seeds: no interval and no verdict.")
    notes += [*_scattered(runs), *_items(runs, plan.table.confidence)]
    if not all(row["on_budget"] for row in rows):
        notes.append(f"{OFF_BUDGET} off budget by more than the tolerance; never bold.")
    records = [record for _, record in runs if record is not None]
    other = sum(record.provenance.code_fingerprint != plan.code_fingerprint for record in records)
    if other:
        what = "made by other sources of ressformer/ or tasks/ than those of the plan"
        notes.append(f"{other} of {len(records)} records were {what}.")
    return notes + [_mishap(record, spec) for spec, record in runs if record is not None and record.error]


def _bold(plan: Plan, needed: int, any_bold: bool) -> str:
    """What bold means here, or why there is none."""
    if len(by_regime(plan.runs)) > 1:
        return "No bold: rows of different regimes are not ranked against each other."
    n = len(plan.table.seeds)
    verdict = f"at p <= {plan.table.alpha:g}, paired over {needed} or more seeds, Holm over the columns"
    if n < needed:
        return f"No bold: {n} seeds are too few for it, it needs {needed}."
    return f"Bold: best {verdict}, and on budget." if any_bold else f"No bold: no model on budget is best {verdict}."


def few_items(specs: Sequence[RunSpec]) -> dict[str, str]:
    """Per task whose planned test/id holds fewer than `FEW` different items: a sentence that says how many."""
    firsts = {(spec.task, spec.model): spec for spec in reversed(specs)}  # rows of a column may set the task apart
    counts: dict[str, int] = {}
    for spec in firsts.values():
        count = _different(atomic.canonical(spec.config["task"]), tuple(spec.allow_targets))
        counts[spec.task] = min(counts.get(spec.task, FEW), count)
    tasks = [task for task in dict.fromkeys(spec.task for spec in specs) if counts[task] < FEW]
    return {task: f"test/id has {counts[task]} different item{'s' if counts[task] > 1 else ''}." for task in tasks}


@lru_cache(maxsize=256)
def _different(config: str, allow: tuple[str, ...]) -> int:
    """Different canonical forms in test/id of the task of this config (JSON), at most `FEW`.

    A task that reads files is not counted, nor one that a frozen plan describes and this version cannot build: `FEW`.
    """
    values = json.loads(config)
    try:
        kind = resolve(str(values.get("_target_")), "task", allow)
        if hasattr(getattr(kind, "Config", None), "download"):
            return FEW
        task = build_task(values, allow)
    except UserError:
        return FEW
    found: set[str] = set()
    for index in range(task.splits["test/id"]):
        found.add(task.generate("test/id", EVAL_SEED, index).canonical)
        if len(found) >= FEW:
            break
    return len(found)


def _scattered(runs: Runs) -> list[str]:
    """A remark for each cell whose seeds fall into two groups: its mean is that of no run."""
    infos = {spec.task: spec.task_info for spec, _ in runs}
    notes = []
    for task, info in infos.items():
        if "test/id" not in info.chance:
            continue
        scale = abs((1.0 if info.higher_is_better else 0.0) - info.chance["test/id"])
        for model, values in primary_by_seed(runs, task).items():
            if (found := groups(list(values.values()), scale)) is not None:
                low, high = (", ".join(f"{value:.2f}" for value in group) for group in found)
                what = "mean and interval describe neither group"
                notes.append(f"{task}: the seeds of {model} fall apart, {low} | {high}; {what}.")
    return notes


def _items(runs: Runs, confidence: float) -> list[str]:
    """What the number of test items leaves open in one run's share: the widest of the models' first runs."""
    widest: dict[str, tuple[float, int]] = {}
    seen: set[tuple[str, str]] = set()
    for spec, record in runs:
        if record is None or record.status != "done" or (spec.model, spec.task) in seen:
            continue
        seen.add((spec.model, spec.task))
        found = item_interval(record, "test/id", confidence)
        if found is not None:
            half = (found.high - found.low) / 2
            widest[spec.task] = max(widest.get(spec.task, (0.0, 0)), (half, found.items))
    if not widest:
        return []
    each = ", ".join(f"{task} ± {half:.3f} ({items} items)" for task, (half, items) in widest.items())
    return [f"What the test items alone leave open in one run (Wilson, {confidence:.0%}): {each}."]


def _mishap(record: Record, spec: RunSpec) -> str:
    assert record.error is not None
    where = f"{spec.model} on {spec.task}, seed {spec.seed} (run {spec.id})"
    return f"{record.status}: {where}: {record.error.type}: {record.error.message}"

"""Cost of an equal quality: when a run's validation is first as good as a target, in steps, seconds and FLOPs.

The target of two runs is the worse of their best validations, so that both come to it. Steps to it are in the records;
what a step takes was measured in a pass of its own on a quiet machine (the verb `time`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.analysis.frames import Runs
from experiments.analysis.run_log import log_lines
from experiments.analysis.significance import MIN_SEEDS, summary
from experiments.analysis.verdict import learned_from
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store
from experiments.store.timings import Timings

EQUAL_COLUMNS = [
    *("table", "model", "task", "reference", "metric", "seeds", "learned", "target", "steps", "reference_steps"),
    *("useful_ratio", "useful_low", "useful_high", "executed_ratio", "executed_low", "executed_high"),
    *("seconds_ratio", "seconds_low", "seconds_high", "seconds_without_kernels_ratio"),
    *("seconds_without_kernels_low", "seconds_without_kernels_high"),
]
AXES = ("useful", "executed", "seconds", "seconds_without_kernels")
Curve = list[tuple[float, float]]  # step, validation: higher is better
Pair = tuple[float, float, float]  # steps of a run, steps of the reference, the validation that both come to


def curve_of(record: Record, store: Store) -> Curve:
    """(step, validation) of a run in the order of its steps; higher is better."""
    info = record.spec.task_info
    key, sign = f"val/{info.metric}", 1.0 if info.higher_is_better else -1.0
    lines = [line for line in log_lines(store, record.id, b'"val/') if key in line]
    return [(line["step"], sign * line[key]) for line in lines]


def first_at(curves: Sequence[Curve]) -> tuple[list[float], float] | None:
    """Where each curve first is as good as the worse of their best values, and that value; None without a value."""
    if not all(curves):
        return None
    target = min(max(value for _, value in curve) for curve in curves)
    return [next(place for place, value in curve if value >= target) for curve in curves], target


def seconds_saved(mine: Record, theirs: Record, store: Store, timings: Timings) -> float | None:
    """Share of the other run's seconds that a run saves to come to the same validation.

    The target is the worse of the two runs' best validations, so that both come to it; a step lasts as long as the
    separate pass measured. Negative: it takes longer. None where a run has logged no validation or its step no time.
    """
    found = first_at([curve_of(record, store) for record in (mine, theirs)])
    cells = [timings.cell(record.spec) for record in (mine, theirs)]
    if found is None or cells[0] is None or cells[1] is None:
        return None
    ours, others = found[0]
    return 1.0 - ours / others * cells[0].with_kernels.cpu_seconds / cells[1].with_kernels.cpu_seconds


def reference_rows(specs: Sequence[RunSpec], wanted: str | None = None) -> list[str]:
    """Rows that the others' cost can be taken over: the wanted one, or `transformer_rope`, then other vanilla ones."""
    labels = list(dict.fromkeys(spec.model for spec in specs))
    rotary = [spec.model for spec in specs if _vanilla(spec) and spec.sizes.get("positions") == "rotary"]
    fits = [wanted] if wanted else ["transformer_rope", *rotary, *(spec.model for spec in specs if _vanilla(spec))]
    return [label for label in dict.fromkeys(fits) if label in labels]


def _vanilla(spec: RunSpec) -> bool:
    return str(spec.sizes.get("_target_", "")).endswith(".TransformerConfig")


def equal_quality(
    table: str,
    runs: Runs,
    store: Store,
    references: Sequence[str],
    timings: Timings | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """A row per model x task: cost to a quality that both reach, over the reference row's, paired by seed.

    Ratios are geometric means over the seeds, with t-intervals of their logarithms from three seeds on; the times of
    the steps are taken as exact. A pair in which the weaker run has learned nothing (an accuracy below chance + 0.3
    (1 - chance)) is left out: whoever stays at chance gets there at once.

    Args:
        table: its name.
        runs: (spec, record or None) in the order of the plan.
        store: where the logs lie.
        references: labels of `reference_rows`; empty: no rows. The reference of a task is the first of them whose runs
            have learned it on most seeds, for a row at chance has no quality to come to; else the first of all.
        timings: step times of the separate pass; None: no seconds.
        confidence: of the intervals.
    """
    if not references:
        return pd.DataFrame(columns=EQUAL_COLUMNS)
    rows = []
    done = {(spec.task, spec.model, spec.seed): record for spec, record in runs if record and record.status == "done"}
    curves = {key: curve_of(record, store) for key, record in done.items()}
    firsts = {(spec.task, spec.model): spec for spec, _ in reversed(runs)}
    chosen = {task: _learner(task, references, firsts, curves) for task, _ in firsts}
    for (task, model), spec in dict(reversed(firsts.items())).items():
        reference = chosen[task]
        shared = [seed for t, m, seed in curves if (t, m) == (task, model) and (task, reference, seed) in curves]
        if not shared:
            continue
        pairs = [pair for seed in shared if (pair := _pair(curves[task, model, seed], curves[task, reference, seed]))]
        known = [pair for pair in pairs if _learned(spec, pair[2])]
        base = next(spec for spec, _ in runs if (spec.task, spec.model) == (task, reference))
        of_one = {key: record.spec for key, record in done.items()}
        costs = _step_costs(of_one[task, model, shared[0]], of_one[task, reference, shared[0]], timings)
        sign = 1.0 if spec.task_info.higher_is_better else -1.0
        row: dict[str, Any] = {
            **{"table": table, "model": model, "task": task, "reference": base.model},
            **{"metric": spec.task_info.metric, "seeds": len(shared), "learned": len(known)},
            "target": _mean([sign * pair[2] for pair in known]),
            "steps": _mean([pair[0] for pair in known]),
            "reference_steps": _mean([pair[1] for pair in known]),
        }
        for axis in AXES:
            row |= _ratio(axis, [pair[0] / pair[1] for pair in known], costs.get(axis), confidence)
        rows.append(row)
    return pd.DataFrame(rows, columns=EQUAL_COLUMNS)


def _learner(
    task: str,
    references: Sequence[str],
    specs: Mapping[tuple[str, str], RunSpec],
    curves: Mapping[tuple[str, str, int], Curve],
) -> str:
    """The first row that has learned a task on more than half of its seeds; the first of all where none has."""
    for label in references:
        runs = [curve for (t, m, _), curve in curves.items() if (t, m) == (task, label) and curve]
        good = [curve for curve in runs if _learned(specs[task, label], max(value for _, value in curve))]
        if 2 * len(good) > len(runs):
            return label
    return references[0]


def _pair(mine: Curve, theirs: Curve) -> Pair | None:
    found = first_at([mine, theirs])
    return None if found is None else (found[0][0], found[0][1], found[1])


def _learned(spec: RunSpec, value: float) -> bool:
    info = spec.task_info
    chance = info.chance.get("validation", info.chance.get("test/id"))
    return not info.higher_is_better or chance is None or value > learned_from(chance)


def _step_costs(mine: RunSpec, base: RunSpec, timings: Timings | None) -> dict[str, float]:
    """A step of a row over one of the reference, on each axis that is known."""
    found = {"useful": (mine.cost.flops_train / mine.steps) / (base.cost.flops_train / base.steps)}
    counted = [spec.cost.counted_train for spec in (mine, base)]
    if counted[0] is not None and counted[1] is not None:
        batch = mine.task_info.batch_size / base.task_info.batch_size
        found["executed"] = counted[0] / counted[1] * batch
    cells = [timings.cell(spec) for spec in (mine, base)] if timings is not None else [None, None]
    if cells[0] is not None and cells[1] is not None:
        found["seconds"] = cells[0].with_kernels.cpu_seconds / cells[1].with_kernels.cpu_seconds
        off = [cell.without_kernels.cpu_seconds for cell in cells if cell is not None]
        found["seconds_without_kernels"] = off[0] / off[1]
    return found


def _ratio(axis: str, steps: Sequence[float], cost: float | None, confidence: float) -> dict[str, float | None]:
    """Geometric mean and interval of steps x cost of a step, over the reference."""
    names = [f"{axis}_{part}" for part in ("ratio", "low", "high")]
    if cost is None or not steps:
        return dict.fromkeys(names)
    found = summary([math.log(each * cost) for each in steps], confidence)
    ends = [found.low, found.high] if len(steps) >= MIN_SEEDS else [None, None]
    logs = zip(names, [found.mean, *ends], strict=True)
    return {name: None if value is None else math.exp(value) for name, value in logs}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None

"""Two models, task by task: who wins, by how much, how sure, at what cost. Differences are paired by seed and item."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.bootstrap import minimum_detectable_effect, probability_of_improvement
from experiments.analysis.frames import Runs, primary_by_seed
from experiments.analysis.significance import BOLD_SEEDS, MIN_SEEDS, holm, paired_p, seeds_needed, summary
from experiments.planning.levels import small_splits
from experiments.planning.plan import Plan
from experiments.store.records import Record

DUEL_COLUMNS = [
    *("task", "metric", "higher_is_better", "a", "b", "a_mean", "b_mean", "gain", "low", "high", "sd", "seeds"),
    *("p", "p_holm", "improvement", "detectable", "items_a", "items_b", "winner", "needed"),
    *("time_ratio", "flops_ratio", "params_ratio", "memory_ratio"),
]


def duels(
    runs: Runs,
    a: str,
    b: str,
    tasks: Sequence[str],
    alpha: float = 0.05,
    confidence: float = 0.95,
    least: int = BOLD_SEEDS,
) -> pd.DataFrame:
    """One row per task of the comparison of `a` with `b`; see `paired`."""
    return paired(runs, [(a, b)], tasks, alpha, confidence, least)


def paired(
    runs: Runs,
    pairs: Sequence[tuple[str, str]],
    tasks: Sequence[str],
    alpha: float = 0.05,
    confidence: float = 0.95,
    least: int = BOLD_SEEDS,
) -> pd.DataFrame:
    """One row per pair (a, b) and task. `gain` is by how much `a` is better (positive in the metric's good direction).

    `items_a` and `items_b` are the shares of test items on which the mean over seeds is better; `improvement` is the
    probability that a run of `a` beats one of `b`; `detectable` the gain that this many seeds find 4 times in 5. The
    ratios are a / b. `winner` is empty unless the p, adjusted over all rows, is at most `alpha` on `needed` seeds or
    more, and the test is large enough for a verdict.
    """
    rows = [_row(runs, a, b, task, alpha, confidence) for a, b in pairs for task in tasks]
    small = {spec.task for spec, _ in runs if small_splits(spec.task_info)}
    for row in rows:
        row["needed"] = seeds_needed(len(rows), alpha, least)
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
        sure = p <= alpha and row["seeds"] >= row["needed"] and row["task"] not in small
        row["winner"] = (row["a"] if row["gain"] > 0 else row["b"]) if sure else ""
    return pd.DataFrame(rows, columns=DUEL_COLUMNS)


def paired_rows(plan: Plan, records: Mapping[str, Record], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """`paired` for rows of a table, by its own rules.

    Args:
        plan: of the table.
        records: of its runs, by id; runs without one are missing.
        pairs: labels of two rows each.
    """
    runs: Runs = [(spec, records.get(spec.id)) for spec in plan.runs]
    settings = plan.table
    return paired(runs, pairs, settings.tasks, settings.alpha, settings.confidence, settings.bold_seeds)


def _row(runs: Runs, a: str, b: str, task: str, alpha: float, confidence: float) -> dict[str, Any]:
    info = next(spec.task_info for spec, _ in runs if spec.task == task)
    sign = 1 if info.higher_is_better else -1
    values = primary_by_seed(runs, task)
    mine, theirs = values.get(a, {}), values.get(b, {})
    both = sorted(set(mine) & set(theirs))
    gains = summary([sign * (mine[s] - theirs[s]) for s in both], confidence)
    share = None
    if mine and theirs:
        columns = [np.array([[sign * v] for v in side.values()]) for side in (mine, theirs)]
        share = probability_of_improvement(columns[0], columns[1])
    least = None if gains.sd is None or gains.n < MIN_SEEDS else minimum_detectable_effect(gains.sd, gains.n, alpha)
    won, lost = items_won(runs, a, b, task, sign)
    return {
        **{"task": task, "metric": info.metric, "higher_is_better": info.higher_is_better, "a": a, "b": b},
        **{"a_mean": summary(list(mine.values())).mean, "b_mean": summary(list(theirs.values())).mean},
        **{"gain": gains.mean, "low": gains.low, "high": gains.high, "sd": gains.sd, "seeds": gains.n},
        **{"p": paired_p(mine, theirs), "p_holm": None, "improvement": share, "detectable": least},
        **{"items_a": won, "items_b": lost, "winner": "", "needed": None},
        **_ratios(runs, a, b, task),
    }


def items_won(runs: Runs, a: str, b: str, task: str, sign: int) -> tuple[float | None, float | None]:
    """Shares of the items of test/id on which a, and b, is better in the mean over seeds."""
    means = [_item_means([r for s, r in runs if s.task == task and s.model == model]) for model in (a, b)]
    both = sorted(set(means[0]) & set(means[1]))
    if not both:
        return None, None
    gaps = [sign * (means[0][i] - means[1][i]) for i in both]
    return sum(gap > 1e-9 for gap in gaps) / len(gaps), sum(gap < -1e-9 for gap in gaps) / len(gaps)


def _item_means(records: Sequence[Record | None]) -> dict[int, float]:
    lists = [r.items.get("test/id", []) for r in records if r is not None and r.status == "done"]
    found: dict[int, float] = {}
    for number, values in enumerate(zip(*lists, strict=False)):
        known = [v for v in values if v is not None]
        if known and len(known) == len(values):
            found[number] = math.fsum(known) / len(known)
    return found


def _ratios(runs: Runs, a: str, b: str, task: str) -> dict[str, float | None]:
    def mean(model: str, what: str) -> float | None:
        found: list[float] = []
        for spec, record in runs:
            if (spec.task, spec.model) == (task, model):
                source: Any = record.measured if record is not None and what in _MEASURED else spec.cost
                value = getattr(source, what, None)
                found += [float(value)] if value is not None else []
        return sum(found) / len(found) if found else None

    named = {"time_ratio": "train_seconds", "flops_ratio": "flops_train", "params_ratio": "params_non_embedding"}
    named["memory_ratio"] = "peak_memory_mib"
    out: dict[str, float | None] = {}
    for key, what in named.items():
        mine, theirs = mean(a, what), mean(b, what)
        out[key] = mine / theirs if mine is not None and theirs else None
    return out


_MEASURED = ("train_seconds", "peak_memory_mib")

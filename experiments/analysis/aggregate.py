"""One figure over all tasks of a table: the IQM of normalised scores, and how often a model beats the first one.

A score is normalised so that 0 is chance and 1 is perfection (experiments.analysis.bootstrap), on test/id, primary metric.
Shapes: S seeds, T tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.bootstrap import Floats, iqm, normalised, probability_of_improvement, stratified_bootstrap
from experiments.analysis.frames import Runs, primary_by_seed
from experiments.analysis.significance import MIN_SEEDS
from experiments.planning.settings import TableSettings

AGGREGATE_COLUMNS = ["table", "model", "tasks", "seeds", "iqm", "low", "high", "beats", "beats_share"]


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

"""Validation against the value that was tuned: where the optimum of each model lies, and how sure that is.

One panel for each task of a sweep with one axis of numbers: a line for each model, bars of one standard error over
different validation items, a ring around what was chosen, and `edge` over a best that stands at an end of the range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from experiments.analysis.trials import TRIALS
from experiments.reporting.plot_style import INK, Panel, Pen, clamp

WORDS = (
    "Each point is a trial; bars are one standard error over different validation items. The ring is what was chosen: "
    "the best, or the default where that is as good within a standard error. Edge: the best stands at an end of the "
    "range, so the optimum may lie beyond it."
)


def axis_of(trials: pd.DataFrame) -> str | None:
    """The column of the one number that was tuned; None if there are others, or if it is no number."""
    keys = [column for column in trials.columns if column not in TRIALS]
    if len(keys) != 1 or not pd.api.types.is_numeric_dtype(trials[keys[0]]):
        return None
    return keys[0] if trials[keys[0]].nunique() > 1 else None


def rate_curves(
    pen: Pen, trials: pd.DataFrame, best: pd.DataFrame, name: str, labels: Mapping[str, str], *, legend: bool = False
) -> list[Panel]:
    """A panel for each task; none if more than one thing was tuned.

    Args:
        pen: draws, with the colours of the models.
        trials: rows of `experiments.analysis.trials.TRIALS` and the value tuned.
        best: rows of `experiments.analysis.trials.BEST`.
        name: of the sweep, and of the files.
        labels: how the metric of each task is written.
        legend: a picture of its own names its models.
    """
    key = axis_of(trials)
    if key is None:
        return []
    found = trials.dropna(subset=["validation"])
    panels = []
    for task, part in found.groupby("task", sort=False):
        rows = best[best["task"] == task]
        edges = [str(model) for model in rows.loc[rows["edge"].astype(bool), "model"]]
        caption = f"Edge: {', '.join(edges)}." if edges else ""
        paint = _painter(pen, part.sort_values(key), rows, key, labels[str(task)], legend)
        panels.append(pen.panel(f"{name}-{task}", f"{task}, {_spoken(key)}", WORDS, paint, caption))
    return panels


def _painter(
    pen: Pen, part: pd.DataFrame, rows: pd.DataFrame, key: str, label: str, legend: bool
) -> Callable[[Any], None]:
    def on(axes: Any) -> None:
        if (part[key] > 0).all():
            axes.set_xscale("log")
        for model, mine in part.groupby("model", sort=False):
            look, gid = pen.look(str(model)), pen.mark(str(model))
            axes.plot(mine[key], mine["validation"], gid=gid, label=_label(str(model), rows), **look)
            errors = mine["validation_se"].fillna(0.0)
            low, high = mine["validation"] - errors, mine["validation"] + errors
            axes.vlines(mine[key], low, high, color=look["color"], alpha=0.5, gid=gid)
            _mark_choice(axes, mine, rows[rows["model"] == model], key, look["color"], gid)
        values = sorted(part[key].unique())
        axes.set_xticks(values, [f"{value:.2g}" for value in values], rotation=30 if len(values) > 5 else 0)
        axes.minorticks_off()
        clamp(axes, part.rename(columns={"validation": "mean"}))
        axes.set_xlabel(_spoken(key))
        axes.set_ylabel(f"validation {label}")
        if legend:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)

    return on


def _spoken(key: str) -> str:
    return "learning rate" if key == "trainer.optim.lr" else key.rpartition(".")[2]


def _label(model: str, rows: pd.DataFrame) -> str:
    mine = rows[rows["model"] == model]
    return f"{model} (edge)" if len(mine) and bool(mine["edge"].iloc[0]) else model


def _mark_choice(axes: Any, mine: pd.DataFrame, choice: pd.DataFrame, key: str, color: str, gid: str) -> None:
    """A ring around the chosen trial, and a word above a best that stands at an end."""
    if not len(choice) or pd.isna(choice["trial"].iloc[0]):
        return
    at = mine[mine["trial"] == choice["trial"].iloc[0]]
    ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgecolor": color, "linestyle": "none"}
    axes.plot(at[key], at["validation"], gid=gid, **ring)
    if bool(choice["edge"].iloc[0]):
        best = mine[mine[key].astype(float) == float(choice["best"].iloc[0])]
        for x, y in zip(best[key], best["validation"], strict=True):
            where = {"textcoords": "offset points", "xytext": (0, 9), "ha": "center", "fontsize": 7, "color": INK}
            axes.annotate("edge", (x, y), **where)

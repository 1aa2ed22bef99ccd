"""Figures of a tuning: validation against what was tuned, and what k trials are expected to find, a line per model.

A sweep draws its own beside its CSV; the report of a table draws those of the sweeps that tuned it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.planning.sweep_names import sweeps_of
from experiments.planning.table_name import preset_of
from experiments.reporting.plot_style import Panel, Pen, Section, clamp
from experiments.reporting.rate_figure import WORDS as RATE_WORDS
from experiments.reporting.rate_figure import rate_curves
from experiments.store.store import Store

SUFFIX = "-best-of-k"
WORDS = (
    "What the best of k trials is expected to score on validation, over all draws of k from the trials that were made. "
    "A line that still climbs at its end is a model that more tuning would help."
)


def tuning(pen: Pen, tasks: Mapping[str, str], table: str, store: Store) -> Section:
    """The section of a report: the curves of every sweep of its table, as far as they are on its tasks.

    Args:
        pen: draws, with the colours of the table's models.
        tasks: the table's tasks, and how the metric of each is written.
        table: the table's name; a part of a preset has the preset's sweeps.
        store: where the sweeps' exports are.
    """
    panels, exports = [], store.root / "exports"
    preset = preset_of(table)
    for name in sweeps_of(store.root, preset):
        files = [exports / f"{name}{suffix}.csv" for suffix in ("", "-best", SUFFIX)]
        if all(path.exists() for path in files):
            trials, best, curve = (_known(pd.read_csv(path), pen.models, tasks) for path in files)
            panels += [*rate_curves(pen, trials, best, name, tasks), *curves(pen, curve, name, tasks)]
    missing = [] if panels else [("No sweep of this table yet", f"make sweep SWEEP=lr ARGS=table={preset}")]
    words = f"{RATE_WORDS} Best of k: {WORDS[0].lower()}{WORDS[1:]}"
    return Section("tuning", "What tuning finds", words, panels, missing)


def _known(frame: pd.DataFrame, models: Sequence[str], tasks: Mapping[str, str]) -> pd.DataFrame:
    return frame[frame["model"].isin(list(models)) & frame["task"].isin(list(tasks))]


def write(
    trials: pd.DataFrame, best: pd.DataFrame, curve: pd.DataFrame, name: str, folder: Path, better: Mapping[str, bool]
) -> list[Path]:
    """Draw a sweep's curves as PNG and PDF into `folder`; returns the files.

    Args:
        trials: rows of `experiments.analysis.trials.TRIALS` and the point of each.
        best: rows of `experiments.analysis.trials.BEST`.
        curve: rows of `experiments.analysis.trials.CURVE`.
        name: the sweep's.
        folder: made if need be.
        better: whether more is better, by task.
    """
    metrics = dict(zip(curve["task"], curve["metric"], strict=True))
    labels = {task: f"{metric} {'↑' if better[task] else '↓'}" for task, metric in metrics.items()}
    pen = Pen(list(dict.fromkeys(curve["model"])), folder)
    panels = [
        *rate_curves(pen, trials, best, name, labels, legend=True),
        *curves(pen, curve, name, labels, legend=True),
    ]
    return [folder / f"{panel.name}.{kind}" for panel in panels for kind in ("png", "pdf")]


def curves(pen: Pen, curve: pd.DataFrame, name: str, labels: Mapping[str, str], *, legend: bool = False) -> list[Panel]:
    """A panel for each task; none where there are fewer than two trials, or no result.

    A page names its models once, a picture of its own has a `legend`.
    """
    found = curve.dropna(subset=["expected_best"]).rename(columns={"expected_best": "mean"})
    found = found.assign(low=float("nan"), high=float("nan"))

    def paint(part: pd.DataFrame, task: str) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            pen.lines(axes, part, "k", band=False)
            clamp(axes, part)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_xlabel("trials k")
            axes.set_ylabel(f"validation {labels[task]}")
            if legend:
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)

        return on

    return [
        pen.panel(f"{name}{SUFFIX}-{task}", f"{task}, best of k", WORDS, paint(part, str(task)))
        for task, part in found.groupby("task", sort=False)
        if part["k"].max() > 1
    ]

"""The figures of the report, section by section; each from a frame of experiments.curves or from the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments import curves
from experiments.aggregate import scores
from experiments.detail import exponent, growth
from experiments.draw import Panel, Pen, clamp
from experiments.frame import Runs
from experiments.records import RunSpec
from experiments.robust import performance_profile
from experiments.runs import Store
from experiments.settings import TableSettings
from experiments.table import primary_rows
from experiments.tuning_figure import tuning

INNER = {
    "support": "keys attended to",
    "support_full": "share of queries whose support fills k",
    "load_max": "share of the busiest expert",
    "edge_turnover": "share of edges that change",
    "cosine": "mean cosine between tokens",
}
TICKS = (128, 512, 2048, 8192)


@dataclass(frozen=True)
class Section:
    """A heading, a sentence on how to read what follows, and the panels."""

    name: str
    title: str
    words: str
    panels: list[Panel]


def sections(
    pen: Pen, runs: Runs, settings: TableSettings, cells: pd.DataFrame, timing: pd.DataFrame, store: Store
) -> list[Section]:
    """All sections that have anything to show."""
    infos = {spec.task: spec.task_info for spec, _ in runs}
    arrows = {t: f"{i.metric} {'↑' if i.higher_is_better else '↓'}" for t, i in infos.items()}
    found = [
        Section("learning", "Learning", _LEARNING, _learning(pen, curves.learning(runs, store), arrows)),
        Section("cost", "Quality against cost", _PARETO, _pareto(pen, cells, timing, arrows)),
        Section("range", "Beyond the training range", _RANGE, _range(pen, curves.distance(runs), arrows)),
        Section("curves", "Curves", _CURVES, _curves(pen, curves.point_curves(runs), arrows)),
        Section("profile", "Over all tasks", _PROFILE, _profile(pen, runs, settings)),
        tuning(pen, arrows, settings.name, store),
        Section("growth", "Cost against length", _GROWTH, _growth(pen, runs)),
        Section("inner", "What the model does inside", _INNER, _inner(pen, curves.inner(runs, store))),
    ]
    return [section for section in found if section.panels]


_LEARNING = (
    "Validation against training FLOPs spent: mean over seeds, the band is its 95 % interval (from three seeds)."
)
_PARETO = "Each point is a model, the bar its interval. The stepped line joins what no other model beats on both axes."
_RANGE = "The same metric on test/id and on each out-of-distribution split."
_CURVES = "Quality against one dial of the input or of the model; the band is the 95 % interval over seeds."
_PROFILE = "Share of all runs that score above a level; 0 is chance, 1 is perfect. Higher everywhere is better."
_GROWTH = "Useful forward FLOPs per token, in closed form; the legend has the exponent of FLOPs per sequence in length."
_INNER = "Diagnostics by inner step, averaged over the last fifth of training and over seeds."


def _learning(pen: Pen, frame: pd.DataFrame, arrows: dict[str, str]) -> list[Panel]:
    def paint(part: pd.DataFrame, task: str) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            pen.lines(axes, part, "flops")
            clamp(axes, part)
            axes.set_xlabel("training FLOPs")
            axes.xaxis.set_major_formatter(si())
            axes.set_ylabel(arrows[task])

        return on

    words = "Validation metric by training FLOPs, a line per model."
    return [
        pen.panel(f"learning-{task}", str(task), words, paint(part, str(task)))
        for task in arrows
        if (part := frame[frame["task"] == task])["flops"].nunique() > 2
    ]


def _pareto(pen: Pen, cells: pd.DataFrame, timing: pd.DataFrame, arrows: dict[str, str]) -> list[Panel]:
    rows = primary_rows(cells)
    seconds = {(r["model"], r["task"]): r["train_seconds"] for r in timing.to_dict("records")}
    axes_of = {"flops_per_token": "FLOPs per token", "params": "parameters (non-emb.)", "seconds": "training seconds"}
    panels = []
    for task in dict.fromkeys(task for _, task in rows):
        for key, name in axes_of.items():
            points = [
                (model, seconds.get((model, t)) if key == "seconds" else row[key], row)
                for (model, t), row in rows.items()
                if t == task and not pd.isna(row["mean"])
            ]
            known = [(model, float(x), row) for model, x, row in points if x is not None and not pd.isna(x)]
            if known:
                words = f"{arrows[task]} against {name}, a point per model, with the Pareto front."
                panels.append(pen.panel(f"cost-{task}-{key}", task, words, _points(pen, known, name, arrows[task])))
    return panels


def _points(
    pen: Pen, points: list[tuple[str, float, dict[str, Any]]], xlabel: str, ylabel: str
) -> Callable[[Any], None]:
    def on(axes: Any) -> None:
        for model, x, row in points:
            look = {**pen.look(model), "linestyle": "none", "gid": pen.mark(model)}
            half = 0.0 if pd.isna(row["high"]) else row["high"] - row["mean"]
            axes.plot([x], [row["mean"]], markersize=8, **look)
            axes.vlines(x, row["mean"] - half, row["mean"] + half, color=look["color"], alpha=0.45, gid=look["gid"])
        higher = bool(points[0][2]["higher_is_better"])
        best = front([(x, row["mean"]) for _, x, row in points], higher)
        axes.step(*zip(*best, strict=True), where="post", color="#66707b", linewidth=1, linestyle=(0, (2, 2)), zorder=0)
        clamp(axes, pd.DataFrame({"mean": [row["mean"] for _, _, row in points]}))
        xs = [x for _, x, _ in points]
        room = 0.12 * (max(xs) - min(xs)) or 0.1 * max(xs)
        axes.set_xlim(min(xs) - room, max(xs) + room)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_formatter(si())

    return on


def front(points: list[tuple[float, float]], higher_is_better: bool) -> list[tuple[float, float]]:
    """The points that no other beats on both cost (low) and quality, by rising cost."""
    kept: list[tuple[float, float]] = []
    sign = 1 if higher_is_better else -1
    for x, y in sorted(points, key=lambda p: (p[0], -sign * p[1])):
        if not kept or sign * y > sign * kept[-1][1]:
            kept.append((x, y))
    return kept


def si() -> Any:
    """Ticks such as 12k, 3.5M, 1.2T."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def _range(pen: Pen, frame: pd.DataFrame, arrows: dict[str, str]) -> list[Panel]:
    def paint(part: pd.DataFrame, task: str) -> Callable[[Any], None]:
        places = {split: n for n, split in enumerate(dict.fromkeys(part["split"]))}

        def on(axes: Any) -> None:
            pen.lines(axes, part.assign(place=part["split"].map(places)).sort_values("place"), "place")
            clamp(axes, part)
            axes.set_xticks(list(places.values()), [str(s).removeprefix("test/") for s in places])
            axes.margins(x=0.08)
            axes.set_ylabel(arrows[task])

        return on

    words = "The metric on each test split, a line per model."
    return [
        pen.panel(f"range-{task}", str(task), words, paint(part, str(task)))
        for task in arrows
        if len(part := frame[frame["task"] == task])
    ]


def _curves(pen: Pen, frame: pd.DataFrame, arrows: dict[str, str]) -> list[Panel]:
    def paint(part: pd.DataFrame, task: str, axis: str) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            pen.lines(axes, part, "x")
            clamp(axes, part)
            axes.set_xlabel(axis)
            axes.set_xticks(sorted(set(part["x"]))) if part["x"].nunique() < 9 else None
            if part["x"].min() > 0 and part["x"].max() / part["x"].min() > 30:
                axes.set_xscale("log", base=2)
            axes.set_ylabel(arrows[task])

        return on

    panels = []
    for (task, axis, _metric), part in frame.groupby(["task", "axis", "metric"], sort=False):
        words = f"The metric by {axis}, a line per model."
        title = f"{task}, by {axis}"
        panels.append(pen.panel(f"curve-{task}-{axis}", title, words, paint(part, str(task), str(axis))))
    return panels


def _profile(pen: Pen, runs: Runs, settings: TableSettings) -> list[Panel]:
    found = scores(runs, settings)
    if not found:
        return []
    levels = np.linspace(0.0, 1.0, 101)

    def on(axes: Any) -> None:
        for model, matrix_ST in found.items():
            look = {**pen.look(model), "marker": "", "gid": pen.mark(model)}
            axes.step(levels, performance_profile(matrix_ST, levels), where="post", **look)
        axes.set_xlabel("score (0 = chance, 1 = perfect)")
        axes.set_ylabel("share of runs above")
        axes.set_ylim(-0.02, 1.02)

    return [pen.panel("profile", "Performance profile", _PROFILE, on)]


def _growth(pen: Pen, runs: Runs) -> list[Panel]:
    first: dict[str, RunSpec] = {}
    for spec, _ in runs:
        first.setdefault(spec.model, spec)
    per_token = {model: points for model, spec in first.items() if (points := growth(spec))}
    if not per_token:
        return []

    def on(axes: Any) -> None:
        for model, points in per_token.items():
            e = exponent(points)
            label = model if e is None else f"{model}: n^{e:.2f}"
            axes.plot(list(points), list(points.values()), label=label, gid=pen.mark(model), **pen.look(model))
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("tokens n")
        axes.set_ylabel("FLOPs per token")
        axes.set_xticks(TICKS, [str(n) if n < 1024 else f"{n // 1024}k" for n in TICKS])
        axes.yaxis.set_major_formatter(si())
        axes.legend(frameon=False, fontsize=8, labelcolor="#66707b")

    task = next(iter(first.values())).task
    words = f"Useful forward FLOPs per token by length, sizes as solved for {task}."
    return [pen.panel("growth", "FLOPs per token", words, on)]


def _inner(pen: Pen, frame: pd.DataFrame) -> list[Panel]:
    def paint(part: pd.DataFrame, what: str) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            for n, (task, line) in enumerate(part.groupby("task", sort=False)):
                look = {**pen.look(str(line["model"].iloc[0])), "linestyle": ("-", (0, (6, 2)), (0, (2, 1.5)))[n % 3]}
                axes.plot(line["step"], line["mean"], label=task, **{**look, "marker": "os^Dv"[n % 5]})
            axes.set_xticks(sorted(set(part["step"])))
            axes.set_ylim(bottom=0)
            axes.set_xlabel("inner step")
            axes.legend(frameon=False, fontsize=8, labelcolor="#66707b")

        return on

    panels = []
    several = frame["model"].nunique() > 1 if len(frame) else False
    for (what, model), part in frame.groupby(["what", "model"], sort=False):
        title = f"{INNER[str(what)]}{f', {model}' if several else ''}"
        name = f"inner-{what}-{model}"
        panels.append(pen.panel(name, title, "By inner step, a line per task.", paint(part, str(what))))
    return panels

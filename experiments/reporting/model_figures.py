"""The figures of the report that are about the models themselves: score profile, cost growth, diagnostics, graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import EngFormatter

from experiments.analysis.bootstrap import performance_profile
from experiments.analysis.frames import Runs, scores
from experiments.analysis.run_details import exponent, growth
from experiments.planning.settings import TableSettings
from experiments.reporting.plot_style import INK, MUTED, Panel, Pen
from experiments.store.graph_file import Edge, Sample
from experiments.store.records import RunSpec

INNER = {
    "support": "keys attended to",
    "support_full": "share of queries whose support fills k",
    "load_max": "load of the busiest expert, share of tokens",
    "edge_turnover": "share of edges that change",
    "cosine": "mean cosine between tokens",
}
TICKS = (128, 512, 2048, 8192)


def profile(pen: Pen, runs: Runs, settings: TableSettings) -> list[Panel]:
    """The performance profile over all tasks, if each has a chance level."""
    found = scores(runs, settings)
    if not found:
        return []
    levels = np.linspace(0.0, 1.0, 101)

    def on(axes: Any) -> None:
        for model, matrix_ST in found.items():
            look = {**pen.look(model), "marker": "", "gid": pen.mark(model)}
            axes.step(levels, performance_profile(matrix_ST, levels), where="post", label=model, **look)
        axes.set_xlabel("score (0 = chance, 1 = perfect)")
        axes.set_ylabel("share of runs above")
        axes.set_ylim(-0.02, 1.02)

    words = "Share of runs above each score, a step line per model."
    half = {model: float((matrix_ST > 0.5).mean()) for model, matrix_ST in found.items()}
    best = max(half, key=lambda model: half[model])
    caption = f"Half way from chance to perfection: {half[best]:.0%} of {best}'s runs are beyond it."
    caption = caption if half[best] > 0 else "No run is half way from chance to perfection."
    return [pen.panel("profile", "Performance profile", words, on, caption)]


def growth_panels(pen: Pen, runs: Runs) -> list[Panel]:
    """FLOPs per token by length, from the closed forms."""
    first: dict[str, RunSpec] = {}
    for spec, _ in runs:
        first.setdefault(spec.model, spec)
    per_token = {model: points for model, spec in first.items() if (points := growth(spec))}
    if not per_token:
        return []
    found = {model: e for model, points in per_token.items() if (e := exponent(points)) is not None}

    def on(axes: Any) -> None:
        for model, points in per_token.items():
            axes.plot(list(points), list(points.values()), label=model, gid=pen.mark(model), **pen.look(model))
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("tokens n")
        axes.set_ylabel("FLOPs per token")
        axes.set_xticks(TICKS, [str(n) if n < 1024 else f"{n // 1024}k" for n in TICKS])
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))

    task = next(iter(first.values())).task
    words = f"Useful forward FLOPs per token by length, sizes as solved for {task}."
    ordered = sorted(found, key=lambda model: found[model])
    caption = "From 2k tokens on a sequence costs " + ", ".join(f"n^{found[m]:.2f} ({m})" for m in ordered) + "."
    return [pen.panel("growth", "FLOPs per token", words, on, caption)]


def inner_panels(pen: Pen, frame: pd.DataFrame) -> list[Panel]:
    """A panel per diagnostic and model, a line per task."""

    def paint(part: pd.DataFrame) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            for n, (task, line) in enumerate(part.groupby("task", sort=False)):
                look = {**pen.look(str(line["model"].iloc[0])), "linestyle": ("-", (0, (6, 2)), (0, (2, 1.5)))[n % 3]}
                axes.plot(line["step"], line["mean"], label=task, **{**look, "marker": "os^Dv"[n % 5]})
            axes.set_xticks(sorted(set(part["step"])))
            axes.set_ylim(bottom=0)
            axes.set_xlabel("inner step")
            axes.legend(frameon=False, fontsize=8, labelcolor=MUTED)

        return on

    panels = []
    order = [what for what in INNER if what in set(frame["what"])] if len(frame) else []
    for what in order:
        for model, part in frame[frame["what"] == what].groupby("model", sort=False):
            title, name = f"{model}: {INNER[what]}", f"inner-{what}-{model}"
            words = "By inner step, a line per task."
            panels.append(pen.panel(name, title, words, paint(part), _from_to(part)))
    return panels


def _from_to(part: pd.DataFrame) -> str:
    """Per task, the value at the first and the last inner step."""
    ends = []
    for task, line in part.groupby("task", sort=False):
        ordered = line.sort_values("step")["mean"]
        ends.append(f"{task} {ordered.iloc[0]:.3g} to {ordered.iloc[-1]:.3g}" if len(ordered) > 1 else f"{task}")
    return "First to last step: " + ", ".join(ends) + "."


def graphs(pen: Pen, samples: Mapping[tuple[str, str], Sample]) -> list[Panel]:
    """An arc diagram per task, of the first model of the table that has kept one."""
    chosen: dict[str, tuple[str, Sample]] = {}
    for (model, task), sample in samples.items():
        chosen.setdefault(task, (model, sample))
    panels = []
    for task, (model, sample) in chosen.items():
        words = f"Arcs between the words of {sample.split}, item {sample.item}."
        width = max(4.4, 0.2 * len(sample.words))
        paint = _arcs(sample, str(pen.look(model)["color"]))
        title = f"{model} on {task}"
        panels.append(pen.panel(f"graph-{task}", title, words, paint, _changed(sample), (width, 0.36 * width + 0.4)))
    return panels


def _arcs(sample: Sample, color: str) -> Callable[[Any], None]:
    def on(axes: Any) -> None:
        n = len(sample.words)
        gap = 0.035 * n
        for edges, side, shade in ((sample.steps[-1], 1, color), (sample.steps[0], -1, MUTED)):
            for i, j, weight in edges:
                if i != j:
                    high = side * (gap + 0.62 * abs(i - j) ** 0.75)
                    corners = [(i, side * gap), (i, high), (j, high), (j, side * gap)]
                    path = Path(corners, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
                    look = {
                        "edgecolor": shade,
                        "alpha": min(1.0, 0.12 + 0.88 * weight),
                        "linewidth": 0.6 + 1.6 * weight,
                    }
                    axes.add_patch(PathPatch(path, facecolor="none", **look))
        for place, word in enumerate(sample.words):
            shown = "␣" if word == " " else "⏎" if word == "\n" else word
            axes.text(place, 0, shown, ha="center", va="center", color=INK, fontsize=10, rotation=90 * (len(word) > 1))
        axes.set_axis_off()
        reach = gap + 0.5 * n**0.75
        axes.set_xlim(-1, n)
        axes.set_ylim(-reach, reach)

    return on


def _changed(sample: Sample) -> str:
    """How much of the last step's graph the first step has, and how far its edges reach."""
    first, last = (_pairs(sample.steps[at]) for at in (0, -1))
    if not last:
        return "No edge is heavy enough to be drawn."
    kept = len(first & last) / len(last)
    reach = float(np.median([abs(i - j) for i, j in last]))
    return f"{kept:.0%} of the last step's edges are there at the first; the median edge reaches {reach:g} tokens."


def _pairs(edges: list[Edge]) -> set[tuple[int, int]]:
    return {(i, j) for i, j, _ in edges if i != j}

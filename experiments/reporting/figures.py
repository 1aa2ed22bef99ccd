"""The figures of the report, section by section. A section without data says which command would make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter, MaxNLocator

from experiments.analysis import curves
from experiments.analysis.frames import Runs, primary_rows
from experiments.analysis.scaling import points_of
from experiments.planning.levels import best_rule
from experiments.planning.settings import TableSettings
from experiments.planning.table_name import preset_of
from experiments.reporting.curve_figures import curve_panels, range_panels
from experiments.reporting.model_figures import graphs, growth_panels, inner_panels, profile
from experiments.reporting.plot_style import MUTED, Panel, Pen, Section, bounds, clamp, level
from experiments.reporting.scaling_figure import scaling
from experiments.reporting.tuning_figure import tuning
from experiments.store.records import TaskInfo
from experiments.store.store import Store


def sections(
    pen: Pen, runs: Runs, settings: TableSettings, cells: pd.DataFrame, timing: pd.DataFrame, store: Store
) -> list[Section]:
    """All sections, those without data too."""
    infos = {spec.task: spec.task_info for spec, _ in runs}
    arrows = {t: f"{i.metric.replace('_', ' ')} {'↑' if i.higher_is_better else '↓'}" for t, i in infos.items()}
    learned, points = curves.learning(runs, store), curves.point_curves(runs)
    split = curves.apart(runs)
    torn = [run for run in runs if (run[0].task, run[0].model) in split]
    drawn = _learning(pen, learned, curves.learning(torn, store, each=True), arrows, infos)
    dials = curve_panels(pen, points, curves.point_curves(torn, each=True), arrows, infos)
    beyond = range_panels(pen, curves.distance(runs), arrows, infos)
    part = settings.name != preset_of(settings.name)  # no preset of that name: its plan knows what was asked
    again = (
        f"python -m experiments resume table={settings.name}" if part else f"make reproduce-table TABLE={settings.name}"
    )
    elsewhere = f"{again} {'' if part else 'ARGS='}results_dir=FOLDER"
    inner, induced = inner_panels(pen, curves.inner(runs, store)), graphs(pen, curves.samples(runs, store))
    paretos, equal = _pareto(pen, cells, timing, arrows)
    return [
        Section(
            "pareto", "Quality against cost", _PARETO, paretos, [(f"Equal cost by {where}", "") for where in equal]
        ),
        Section("learning", "Learning", _LEARNING, drawn, _unlearned(learned, arrows, again)),
        Section("range", "Beyond the training range", _RANGE, *_or(beyond, again)),
        Section("curves", "Length, noise, hops, iterations", _CURVES, dials, _absent(points)),
        Section("profile", "Over all tasks", _PROFILE, *_or(profile(pen, runs, settings), again)),
        scaling(pen, points_of([(settings.name, runs)]), infos, settings.name, store, _SCALE),
        tuning(pen, arrows, settings.name, store),
        Section("growth", "Cost against length", _GROWTH, *_or(growth_panels(pen, runs), again)),
        Section("inner", "What the model does inside", _INNER, *_or(inner, again)),
        Section("graph", "The graph it induces", _GRAPH, *_or(induced, elsewhere)),
    ]


_PARETO = (
    "Test metric of each model, the bar its interval. The dotted step joins those that no other beats on both axes. "
    "Where a budget makes all models cost alike (within 5 %), there is nothing to trade and no figure: see the table."
)
_LEARNING = (
    "On validation, which chose the weights; all answers above are on test. Means over seeds with 95 % intervals, "
    "chance dotted, the best rule dashed. Seeds of a model that fall into groups are thin lines, without a band."
)
_RANGE = (
    "On test, from the sizes seen in training to others: points, since the splits are no scale. Dotted is chance, "
    "dashed the best simple rule of the split."
)
_CURVES = (
    "On test, against one dial of the input or of the model. Bands are 95 % intervals over seeds; dotted is chance, "
    "dashed the best simple rule, dash-dotted a perfect reader of what the noise left. Seeds that fall into groups are "
    "thin lines."
)
_SCALE = "python -m experiments scale table=TABLE,TABLE"
_PROFILE = "Share of all runs that score above a level; 0 is chance, 1 is perfect. Higher everywhere is better."
_GROWTH = "Useful forward FLOPs per token, in closed form, not measured. A flat line is a cost linear in length."
_INNER = "Diagnostics by inner step, over the last fifth of training, mean over seeds."
_GRAPH = (
    "One test sample of one trained run. Arcs above the words are edges of the last inner step, below of the first; "
    "the darker, the heavier. Edges lead back to the words that a word reads from."
)


def _or(panels: list[Panel], command: str) -> tuple[list[Panel], list[tuple[str, str]]]:
    return panels, [] if panels else [("Nothing to draw yet", command)]


def _unlearned(frame: pd.DataFrame, arrows: dict[str, str], again: str) -> list[tuple[str, str]]:
    """What to say of tasks whose runs were validated too seldom for a curve."""
    seldom = [task for task in arrows if not _is_curve(frame[frame["task"] == task])]
    what = f"Validated too seldom for a curve: {', '.join(seldom)}"
    return [(what, f"{again}{'' if ' resume ' in again else ' ARGS=trainer.val_every=10'}")] if seldom else []


def _is_curve(part: pd.DataFrame) -> bool:
    return len(part) > 0 and int(part.groupby("model")["flops"].nunique().max()) > 1


_MAKES = {
    "length": "make reproduce-table TABLE=paper",
    "noise": "make reproduce-table TABLE=cpu",
    "hops": "make reproduce-table TABLE=cpu ARGS='table.tasks=[chain]'",
    curves.DEPTH: "python -m experiments depth-curves table=iterations",
}


def _absent(frame: pd.DataFrame) -> list[tuple[str, str]]:
    have = set(frame["axis"]) if len(frame) else set()
    return [(f"No curve over {axis} in this table", command) for axis, command in _MAKES.items() if axis not in have]


def _learning(
    pen: Pen, frame: pd.DataFrame, seeds: pd.DataFrame, arrows: dict[str, str], infos: dict[str, TaskInfo]
) -> list[Panel]:
    def paint(part: pd.DataFrame, task: str) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            thin = seeds[seeds["task"] == task]
            pen.seeds(axes, thin, "flops")
            pen.lines(axes, part, "flops", without_band=set(thin["model"]))
            known = infos[task].chance
            clamp(axes, part, known.get("validation", known.get("test/id")))
            if (rule := best_rule(infos[task], "validation", infos[task].metric)) is not None:
                level(axes, rule.name, rule.value)
            axes.set_xlabel("training FLOPs")
            axes.xaxis.set_major_locator(MaxNLocator(5))  # more would touch in a figure of a third of the page
            axes.xaxis.set_major_formatter(si())
            axes.set_ylabel(f"validation {arrows[task]}")

        return on

    words = "Validation metric by training FLOPs, a line per model."
    panels = []
    for task in arrows:
        part = frame[frame["task"] == task]
        if _is_curve(part):
            last = part.groupby("model", sort=False).tail(1)
            caption = f"On validation, at the end, {_ranking(last, infos[task].higher_is_better)}."
            panels.append(pen.panel(f"learning-{task}", task, words, paint(part, task), caption))
    return panels


def _ranking(rows: pd.DataFrame, higher_is_better: bool) -> str:
    """The best by mean and the next, and if their intervals meet."""
    ordered = rows.sort_values("mean", ascending=not higher_is_better, kind="stable")
    best = ordered.iloc[0]
    if len(ordered) < 2:
        return f"{best['model']} has {best['mean']:.3g}"
    second = ordered.iloc[1]
    text = f"{best['model']} is ahead with {best['mean']:.3g}, {second['model']} has {second['mean']:.3g}"
    if pd.isna(best["low"]) or pd.isna(second["low"]):
        return f"{text}; too few seeds for intervals"
    apart = best["low"] > second["high"] or best["high"] < second["low"]
    return f"{text}; their intervals {'are apart' if apart else 'overlap'}"


def _pareto(
    pen: Pen, cells: pd.DataFrame, timing: pd.DataFrame, arrows: dict[str, str]
) -> tuple[list[Panel], list[str]]:
    """The panels, and where there is none to draw since the models cost alike."""
    rows = primary_rows(cells)
    seconds = {(r["model"], r["task"]): r["train_seconds"] for r in timing.to_dict("records")}
    axes_of = {"flops_per_token": "FLOPs per token", "params": "parameters", "seconds": "training seconds"}
    panels = []
    equal: dict[str, list[str]] = {}
    for task in dict.fromkeys(task for _, task in rows):
        for key, name in axes_of.items():
            points = [
                (model, seconds.get((model, t)) if key == "seconds" else row[key], row)
                for (model, t), row in rows.items()
                if t == task and not pd.isna(row["mean"])
            ]
            known = [(model, float(x), row) for model, x, row in points if x is not None and not pd.isna(x)]
            if len(known) > 1 and _alike([x for _, x, _ in known]):
                equal.setdefault(name, []).append(str(task))
            elif known:
                words = f"{arrows[task]} on test/id against {name}, a point per model, with the Pareto front."
                paint, title = _points(pen, known, name, f"test {arrows[task]}"), f"{task}, by {name}"
                panels.append(pen.panel(f"cost-{task}-{key}", title, words, paint, _on_front(known)))
    return panels, [f"{name}: {', '.join(tasks)}" for name, tasks in equal.items()]


SAME_COST = 0.05  # costs that differ by less are called equal: budgets are met within 1 %


def _alike(costs: Sequence[float]) -> bool:
    return max(costs) <= (1 + SAME_COST) * min(costs)


def _on_front(points: list[tuple[str, float, dict[str, Any]]]) -> str:
    """Who is on the front."""
    best = set(front([(x, row["mean"]) for _, x, row in points], bool(points[0][2]["higher_is_better"])))
    names = [model for model, x, row in points if (x, row["mean"]) in best]
    return f"On the front by mean on test/id: {', '.join(names)}."


def _points(
    pen: Pen, points: list[tuple[str, float, dict[str, Any]]], xlabel: str, ylabel: str
) -> Callable[[Any], None]:
    def on(axes: Any) -> None:
        for model, x, row in points:
            look = {**pen.look(model), "linestyle": "none", "gid": pen.mark(model)}
            half = 0.0 if pd.isna(row["high"]) else row["high"] - row["mean"]
            axes.plot([x], [row["mean"]], markersize=8, label=model, **look)
            least, most = bounds(pd.Series([row["mean"]]))
            low, high = max(least, row["mean"] - half), min(np.inf if most is None else most, row["mean"] + half)
            axes.vlines(x, low, high, color=look["color"], alpha=0.45, gid=look["gid"])
        higher = bool(points[0][2]["higher_is_better"])
        best = front([(x, row["mean"]) for _, x, row in points], higher)
        axes.step(*zip(*best, strict=True), where="post", color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
        chance = points[0][2]["chance"]
        clamp(axes, pd.DataFrame({"mean": [row["mean"] for _, _, row in points]}), None if pd.isna(chance) else chance)
        if not pd.isna(points[0][2]["best_rule_value"]):
            level(axes, points[0][2]["best_rule"], points[0][2]["best_rule_value"])
        xs = [x for _, x, _ in points]
        # Never so narrow that costs equal within the budget's tolerance look unlike.
        room = max(0.12 * (max(xs) - min(xs)), 0.15 * max(xs))
        axes.set_xlim(max(0.0, min(xs) - room), max(xs) + room)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_formatter(si())
        axes.locator_params(axis="x", nbins=5)

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
    return EngFormatter(sep="")

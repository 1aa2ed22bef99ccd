"""Figures of the report that show test quality against one dial: splits beyond training, length, noise, hops, depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from experiments.analysis import curves
from experiments.planning.levels import best_rule
from experiments.reporting.plot_style import MUTED, Panel, Pen, clamp, level, levels_along
from experiments.store.records import TaskInfo

AT_CHANCE = 0.02  # of the way from chance to perfection: what is no more than this above chance is called at chance


def range_panels(pen: Pen, frame: pd.DataFrame, arrows: dict[str, str], infos: dict[str, TaskInfo]) -> list[Panel]:
    def paint(part: pd.DataFrame, task: str) -> Callable[[Any], None]:
        names = [str(split).removeprefix("test/").replace("_", " ") for split in dict.fromkeys(part["split"])]

        def on(axes: Any) -> None:
            pen.points(axes, part, "place")
            known = infos[task].chance
            ends = [known[split] for split in dict.fromkeys(part["split"]) if split in known]
            clamp(axes, pd.concat([part, pd.DataFrame({"mean": ends})]) if part["mean"].max() <= 1 else part)
            for place, split in enumerate(dict.fromkeys(part["split"])):
                if split in known:
                    axes.hlines(known[split], place - 0.35, place + 0.35, color=MUTED, linestyle=(0, (1, 2)), zorder=0)
                if (rule := best_rule(infos[task], str(split), infos[task].metric)) is not None:
                    look = {"color": MUTED, "linestyle": (0, (5, 3)), "linewidth": 1, "zorder": 0}
                    axes.hlines(rule.value, place - 0.35, place + 0.35, **look)
                    low, high = axes.get_ylim()
                    axes.set_ylim(min(low, rule.value), max(high, rule.value))
            axes.set_xticks(range(len(names)), names)
            axes.margins(x=0.08)
            axes.set_ylabel(f"test {arrows[task]}")

        return on

    words = "The metric on each test split, a point per model; dotted is chance, dashed the best rule."
    panels = []
    for task in arrows:
        part = frame[frame["task"] == task]
        if len(part):
            places = {split: n for n, split in enumerate(dict.fromkeys(part["split"]))}
            part = part.assign(place=part["split"].map(places)).sort_values("place", kind="stable")
            end = infos[task].chance.get(str(part["split"].iloc[-1]))
            caption = loses(part, "place", infos[task].higher_is_better, end)
            panels.append(pen.panel(f"range-{task}", task, words, paint(part, task), caption))
    return panels


def loses(part: pd.DataFrame, x: str, higher_is_better: bool, chance: float | None = None) -> str:
    """Who loses least and most from the first to the last point of a curve, on test, unless all end at `chance`."""
    sign, changes, ends = (1 if higher_is_better else -1), {}, []
    for model, line in part.groupby("model", sort=False):
        ordered = line.sort_values(x, kind="stable")
        if ordered[x].iloc[0] == part[x].min() and ordered[x].iloc[-1] == part[x].max():
            ends.append(float(ordered["mean"].iloc[-1]))
            changes[str(model)] = sign * float(ordered["mean"].iloc[-1] - ordered["mean"].iloc[0])
    if len(changes) < 2:
        return ""
    if chance is not None and all(
        sign * (end - chance) <= AT_CHANCE * abs(float(higher_is_better) - chance) for end in ends
    ):
        return "On test, all end at chance: who fell furthest began highest."
    least, most = (pick(changes, key=lambda model: changes[model]) for pick in (max, min))
    text = f"{least} changes by {changes[least]:+.3f}, {most} by {changes[most]:+.3f}"
    return f"On test, from end to end, {text} (+ = better)."


def curve_panels(
    pen: Pen, frame: pd.DataFrame, seeds: pd.DataFrame, arrows: dict[str, str], infos: dict[str, TaskInfo]
) -> list[Panel]:
    def paint(part: pd.DataFrame, task: str, axis: str) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            thin = seeds[(seeds["task"] == task) & (seeds["axis"] == axis)]
            pen.seeds(axes, thin, "x")
            pen.lines(axes, part, "x", without_band=set(thin["model"]))
            deep = axis == curves.DEPTH
            clamp(axes, part, infos[task].chance.get("test/id") if deep else None)
            if deep and (rule := best_rule(infos[task], "test/id", infos[task].metric)) is not None:
                level(axes, rule.name, rule.value)
            known = curves.level_points(infos[task])
            xs = sorted(set(part["x"]))
            levels_along(axes, known[(known["axis"] == axis) & known["x"].isin(xs)])
            relative = axis == "length" and part["x"].max() <= max(curves.LENGTHS.values())
            axes.set_xlabel({"noise": "noise, % of tokens"}.get(axis, "multiples of length" if relative else axis))
            if min(xs) > 0 and max(xs) / min(xs) > 30:
                axes.set_xscale("log", base=2)
            if len(xs) < 9:
                axes.set_xticks(xs, [f"{x:g}" for x in xs])
            axes.set_ylabel(f"test {arrows[task]}")

        return on

    panels = []
    for (task, axis, _metric), part in frame.groupby(["task", "axis", "metric"], sort=False):
        words = f"The metric on test by {axis}, a line per model."
        title, caption = f"{task}, by {axis}", loses(part, "x", infos[str(task)].higher_is_better)
        paint_on = paint(part, str(task), str(axis))
        panels.append(pen.panel(f"curve-{task}-{axis}", title, words, paint_on, caption))
    return panels

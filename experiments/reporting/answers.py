"""The first screen of the report: the question, the answer per task in words, what each task asks."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.analysis.frames import Runs, primary_by_seed, primary_rows
from experiments.analysis.pairwise import duels
from experiments.analysis.significance import MIN_SEEDS, seeds_needed, summary
from experiments.errors import UserError
from experiments.planning.budget import WORDS
from experiments.planning.instantiate import build_task
from experiments.planning.levels import best_rule
from experiments.planning.plan import Plan
from experiments.reporting.captions import by_regime
from experiments.reporting.grid import number, span
from experiments.reporting.level_notes import column_infos, size_note, small_note
from experiments.reporting.table import Report, layout
from experiments.store.records import RunSpec, TaskInfo
from tasks.hub.files import DataError
from tasks.item import EVAL_SEED

EXAMPLE = 420  # characters of an example that are shown
TIE = 5e-5  # what four decimals do not show is no lead


def question(plan: Plan) -> str:
    """What the table asks, in a sentence."""
    regimes = by_regime(plan.runs)
    if len(regimes) > 1:
        same = "each group of rows at a budget of its own"
    else:
        (specs,) = regimes.values()
        parts = []
        for key in specs[0].budget.target:
            found = sorted({spec.budget.target[key] for spec in specs if key in spec.budget.target})
            parts.append(f"{span(pd.Series(found))} {WORDS.get(key, key)}")
        same = "at the same " + " and ".join(parts) if parts else "with nothing matched"
    rows, tasks = len(plan.table.models), plan.table.tasks
    named = tasks[0] if len(tasks) == 1 else f"{', '.join(tasks[:-1])} and {tasks[-1]}"
    return f"Which of {rows} models is best on {named}, {same}?" if rows > 1 else f"How good is it on {named}, {same}?"


def answers(plan: Plan, runs: Runs, built: Report) -> list[dict[str, Any]]:
    """Per task: who leads, by how much, how sure; `won` by the rule of bold and no other."""
    infos = column_infos(plan.runs)
    bold = {row["task"]: row["model"] for row in primary_rows(built.cells).values() if row["best"]}
    first = {spec.task: spec for spec in reversed(plan.runs)}
    found = []
    for task in plan.table.tasks:
        text, more = _answer(plan, runs, infos[task], task, bold.get(task))
        card = {"task": task, "text": text, "more": " ".join(more), "won": task in bold}
        found.append(card | asked(first[task]))
    return found


def _answer(plan: Plan, runs: Runs, info: TaskInfo, task: str, bold: str | None) -> tuple[str, list[str]]:
    """The answer, and what stands behind it."""
    settings = plan.table
    if settings.means_nothing:
        return "no answer: the figures of this table mean nothing", ["It shows that everything runs."]
    means = {model: summary(list(v.values())).mean for model, v in primary_by_seed(runs, task).items()}
    known = {model: mean for model, mean in means.items() if mean is not None}
    ranked = sorted(known, key=lambda m: known[m], reverse=info.higher_is_better)
    if len(ranked) < 2:
        return (f"only {ranked[0]} has results" if ranked else "no result yet"), []
    first, second = ranked[:2]
    metric = info.metric.replace("_", " ")
    more = [f"{first} {number(known[first])}, {second} {number(known[second])} test {metric}"]
    mine = [run for run in runs if run[0].task == task]
    row = duels(mine, first, second, [task], settings.alpha, settings.confidence, settings.bold_seeds).iloc[0]
    if not pd.isna(row["low"]):
        more[0] += (
            f": apart by {row['gain']:.3g} [{row['low']:+.3g}, {row['high']:+.3g}], {row['seeds']} pairs of seeds"
        )
    more[0] += "."
    needed = seeds_needed(len(layout(settings, plan.runs)), settings.alpha, settings.bold_seeds)
    text = _lead(first, second, abs(known[first] - known[second]), bold, int(row["seeds"]), needed)
    if bold is None and row["seeds"] >= MIN_SEEDS and not pd.isna(row["detectable"]):
        more.append(f"{row['seeds']} seeds find a gap of {row['detectable']:.2g} four times in five.")
    apart = not pd.isna(row["low"]) and row["low"] > 0
    if bold is None and row["seeds"] >= needed and apart:
        more.append("The interval leaves out 0; the rule of bold asks more: best of all rows, Holm over columns.")
    if bold is None and row["seeds"] < needed:
        more.append(f"A verdict needs {needed} seeds.")
    if (rule := best_rule(info, "test/id", info.metric)) is not None:
        kind = "the best n-gram" if "gram" in rule.name else "the best simple rule"
        if not (known[first] > rule.value if info.higher_is_better else known[first] < rule.value):
            text = f"no row is better than {kind} ({text})"
        more.append(f"{kind[:1].upper()}{kind[1:]}, {rule.name}, scores {number(rule.value)}.")
    if small := small_note(info):
        more.append(f"The test is {small} {size_note(info)}")
    return text, more


def _lead(first: str, second: str, gap: float, bold: str | None, seeds: int, needed: int) -> str:
    first, second = (f"'{name}'" if " " in name else name for name in (first, second))
    if bold is not None:
        return f"{first} is best, and that is decided"
    lead = f"{first} leads {second} by {gap:.3g}" if gap > TIE else f"{first} and {second} are level"
    if seeds < needed:
        return f"{lead}; only {seeds} seed{'s'[: seeds != 1]}: no verdict"
    return f"{lead}; not decided"


def asked(spec: RunSpec) -> dict[str, str]:
    """What the task asks, from its card, and one test item; empty where its data are absent."""
    try:
        task = build_task(spec.config["task"], spec.allow_targets)
        summary_text = task.describe().summary
        example = task.text(task.item("test/id", EVAL_SEED, 0))
    except (UserError, DataError, OSError, ValueError, TypeError, KeyError, ImportError):
        return {"asks": "", "example": ""}
    return {"asks": summary_text, "example": example if len(example) <= EXAMPLE else example[:EXAMPLE] + " ..."}

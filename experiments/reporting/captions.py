"""The sentences above and under a table: what was matched, what the intervals are, which cells to doubt."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.analysis.frames import Runs, item_interval, primary_by_seed, primary_rows
from experiments.analysis.significance import MIN_SEEDS, groups
from experiments.planning.budget import WORDS
from experiments.planning.plan import Plan
from experiments.reporting.grid import span
from experiments.reporting.level_notes import level_notes
from experiments.store.records import Record, RunSpec

OFF_BUDGET = "!"
UNCHECKED = "unchecked"  # how the finding of a row that fails preflight begins


def by_regime(specs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    """The runs by what is matched; rows of a table may carry a regime of their own."""
    found: dict[str, list[RunSpec]] = {}
    for spec in specs:
        found.setdefault(spec.budget.regime, []).append(spec)
    return found


def header(plan: Plan, needed: int) -> list[str]:
    """A line for each regime, with its rows where there are several, and one on the seeds, of which bold needs some."""
    regimes = by_regime(plan.runs)
    n = len(plan.table.seeds)
    interval = f"mean ± {plan.table.confidence:.0%} t-interval over seeds" if n >= MIN_SEEDS else "mean"
    bold = f"bold = best, decided by {needed} seeds or more" if n >= needed else f"no bold: it needs {needed} seeds"
    if plan.table.means_nothing:
        bold = "no bold: figures mean nothing"
    return [
        *(_matched(specs, named=len(regimes) > 1) for specs in regimes.values()),
        *_counted(plan.runs),
        f"{n} seed{'s' if n > 1 else ''}; {interval}; {bold}; split test/id.",
    ]


def counted_rows(specs: Sequence[RunSpec]) -> list[str]:
    """The rows whose FLOPs torch counted, for want of a closed form."""
    return list(dict.fromkeys(spec.model for spec in specs if spec.cost.basis == "counted"))


def _counted(specs: Sequence[RunSpec]) -> list[str]:
    rows = ", ".join(counted_rows(specs))
    return (
        [f"Counted: FLOPs of {rows} are torch's count of the module; all that runs counts as useful."] if rows else []
    )


def _matched(specs: Sequence[RunSpec], *, named: bool) -> str:
    """What the runs of one regime have in common; `named`: say whose they are."""
    budget, parts = specs[0].budget, []
    for key, target in budget.target.items():
        found = {spec.budget.target.get(key, target) for spec in specs}  # a task may have FLOPs of its own
        tolerance = budget.tolerance.get(key, 0)
        parts.append(f"{span(pd.Series(sorted(found)))} {WORDS.get(key, key)} (within {100 * tolerance:g} %)")
    rows = f" ({', '.join(dict.fromkeys(spec.model for spec in specs))})" if named else ""
    return f"Budget {budget.name}, regime {budget.regime}{rows}: {', '.join(parts)}."


def failing(plan: Plan) -> dict[str, str]:
    """What preflight found of the rows that run although they fail it."""
    return {model: found for model, found in plan.checked.items() if found.startswith(UNCHECKED)}


def preflight_note(plan: Plan) -> list[str]:
    """A line on the rows that fail, or that none does; nothing where the plan is of before preflight."""
    if not plan.checked:
        return []
    if not (found := failing(plan)):
        return ["Preflight: every model passed (future, padding, batch, state, weights, cost, gradients)."]
    rows = "; ".join(f"{model} ({words.removeprefix(UNCHECKED + ': ')})" for model, words in found.items())
    return [f"Unchecked rows fail preflight and may be worth nothing: {rows}; never bold, nor is a column they lead."]


def footnotes(plan: Plan, runs: Runs, cells: pd.DataFrame, needed: int) -> list[str]:
    """All remarks on a table; `needed` is the number of seeds that bold needs."""
    rows = list(primary_rows(cells).values())
    notes = [*preflight_note(plan), *level_notes(plan.runs, plan.table, cells)]
    if len(plan.table.seeds) >= MIN_SEEDS:
        for task in plan.table.tasks:
            above = [row["model"] for row in rows if row["task"] == task and row["above_chance"] is True]
            found = ", ".join(above) or "no model"
            notes.append(f"{task}: better than chance by more than the interval: {found}.")
        notes.append(_bold(plan, needed, any(row["best"] for row in rows)))
    else:
        notes.append(f"Fewer than {MIN_SEEDS} seeds: no interval and no verdict.")
        notes += [_bold(plan, needed, False)] if plan.table.means_nothing else []
    notes += [*_scattered(runs), *_items(runs, plan.table.confidence)]
    if not all(row["on_budget"] for row in rows):
        notes.append(f"{OFF_BUDGET} off budget by more than the tolerance; never bold.")
    records = [record for _, record in runs if record is not None]
    other = sum(record.provenance.code_fingerprint != plan.code_fingerprint for record in records)
    if other:
        what = "made by other sources of ressformer/ or tasks/ than those of the plan"
        notes.append(f"{other} of {len(records)} records were {what}.")
    return notes + [_mishap(record, spec) for spec, record in runs if record is not None and record.error]


def _bold(plan: Plan, needed: int, any_bold: bool) -> str:
    """What bold means here, or why there is none."""
    if plan.table.means_nothing:
        return "No bold: the figures of this table mean nothing; it shows that everything runs."
    if len(by_regime(plan.runs)) > 1:
        return "No bold: rows of different regimes are not ranked against each other."
    n = len(plan.table.seeds)
    verdict = f"at p <= {plan.table.alpha:g}, paired over {needed} or more seeds, Holm over the columns"
    if n < needed:
        return f"No bold: {n} seeds are too few for it, it needs {needed}."
    return f"Bold: best {verdict}, and on budget." if any_bold else f"No bold: no model on budget is best {verdict}."


def _scattered(runs: Runs) -> list[str]:
    """A remark for each cell whose seeds fall into two groups: its mean is that of no run."""
    infos = {spec.task: spec.task_info for spec, _ in runs}
    notes = []
    for task, info in infos.items():
        if "test/id" not in info.chance:
            continue
        scale = abs((1.0 if info.higher_is_better else 0.0) - info.chance["test/id"])
        for model, values in primary_by_seed(runs, task).items():
            if (found := groups(list(values.values()), scale)) is not None:
                low, high = (", ".join(f"{value:.2f}" for value in group) for group in found)
                what = "mean and interval describe neither group"
                notes.append(f"{task}: the seeds of {model} fall apart, {low} | {high}; {what}.")
    return notes


def _items(runs: Runs, confidence: float) -> list[str]:
    """What the number of test items leaves open in one run's share: the widest of the models' first runs."""
    widest: dict[str, tuple[float, int]] = {}
    seen: set[tuple[str, str]] = set()
    for spec, record in runs:
        if record is None or record.status != "done" or (spec.model, spec.task) in seen:
            continue
        seen.add((spec.model, spec.task))
        found = item_interval(record, "test/id", confidence)
        if found is not None:
            half = (found.high - found.low) / 2
            widest[spec.task] = max(widest.get(spec.task, (0.0, 0)), (half, found.items))
    if not widest:
        return []
    each = ", ".join(f"{task} ± {half:.3f} ({items} items)" for task, (half, items) in widest.items())
    return [f"What the test items alone leave open in one run (Wilson, {confidence:.0%}): {each}."]


def _mishap(record: Record, spec: RunSpec) -> str:
    assert record.error is not None
    where = f"{spec.model} on {spec.task}, seed {spec.seed} (run {spec.id})"
    return f"{record.status}: {where}: {record.error.type}: {record.error.message}"

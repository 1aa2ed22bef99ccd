"""What stands above a table: what its rows were matched on, and what its intervals are."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.analysis.significance import MIN_SEEDS
from experiments.planning.plan import Plan
from experiments.reporting.grid import span
from experiments.store.records import RunSpec

WORDS = {
    "params": "non-embedding parameters",
    "flops_per_token": "training FLOPs per token",
    "train_flops": "training FLOPs",
    "depth": "block applications",
}


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
    return [
        *(_matched(specs, named=len(regimes) > 1) for specs in regimes.values()),
        f"{n} seed{'s' if n > 1 else ''}; {interval}; {bold}; split test/id.",
    ]


def _matched(specs: Sequence[RunSpec], *, named: bool) -> str:
    """What the runs of one regime have in common; `named`: say whose they are."""
    budget, parts = specs[0].budget, []
    for key, target in budget.target.items():
        found = {spec.budget.target.get(key, target) for spec in specs}  # a task may have FLOPs of its own
        tolerance = budget.tolerance.get(key, 0)
        parts.append(f"{span(pd.Series(sorted(found)))} {WORDS.get(key, key)} (within {100 * tolerance:g} %)")
    rows = f" ({', '.join(dict.fromkeys(spec.model for spec in specs))})" if named else ""
    return f"Budget {budget.name}, regime {budget.regime}{rows}: {', '.join(parts)}."

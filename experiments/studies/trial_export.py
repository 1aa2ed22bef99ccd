"""What a sweep of trials leaves: its tables, what it chose, and the figures.

Written: exports/<name>.csv (trials), <name>-best.csv (the chosen trial of each model and task, with the FLOPs that
tuning took), <name>-per_cell.yaml (the same as the block that a table takes), <name>-best-of-k.csv (what fewer trials
would have found), and the curves in exports/figures/<name>/*.png and .pdf; `python -m experiments report table=NAME`
shows those of `table=NAME` sweeps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.analysis.trials import SHOWN, higher_is_better
from experiments.planning.plan import Plan
from experiments.planning.sweep_request import SweepRequest
from experiments.reporting import tuning_figure
from experiments.reporting.csv_export import to_csv
from experiments.reporting.per_cell import per_cell_block
from experiments.reporting.screen import show_rows
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.reproduce import tell_reasons

Files = Mapping[str, tuple[list[str], list[dict[str, Any]]]]


def take_name(request: SweepRequest, store: Store) -> None:
    """Note what the sweep of this name was asked for."""
    if request.claim is not None:
        request.claim.write(store.root)


def write_trials(files: Files, plan: Plan, store: Store) -> int:
    """Write what `trial_files` made, and the curves; print what was chosen; 1 if a trial has no result."""
    name, folder = plan.table.name, store.root / "exports"
    paths = [folder / f"{name}{suffix}.csv" for suffix in files]
    for path, (columns, rows) in zip(paths, files.values(), strict=True):
        atomic.write_text(path, to_csv(columns, rows))
    better = higher_is_better(plan)
    trials, chosen, curve = (pd.read_csv(path, keep_default_na=True) for path in paths)
    drawn = tuning_figure.write(trials, chosen, curve, name, folder / "figures" / name, better)
    best = files["-best"][1]
    show_rows(best, SHOWN, f"{name}: chosen on validation, ties within its standard error fall to the default")
    block = per_cell_block(plan, best)
    atomic.write_text(folder / f"{name}-per_cell.yaml", block)
    print(block, end="")
    if edges := [f"{row['model']} on {row['task']}" for row in best if row["edge"]]:
        print(f"edge: the best of {', '.join(edges)} stands at an end of the range: its optimum may lie beyond")
    print("written: " + ", ".join(map(str, [*paths, folder / f"{name}-per_cell.yaml", *drawn])))
    rows = files[""][1]
    bad = sum(row["status"] != "done" for row in rows)
    if bad:
        print(f"{bad} of {len(rows)} trials have no result; they count as trials all the same", file=sys.stderr)
        tell_reasons(plan, store)
    return 1 if bad else 0

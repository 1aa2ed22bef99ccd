"""A sweep: each trial solved to the budget anew, ranked by validation; test is never looked at.

    python -m experiments sweep model=ressformer,transformer task=listops seed=0,1 trainer.optim.lr=1e-3,3e-3
    python -m experiments sweep sweep=lr table=quick trials=16      # equal tuning, see experiments.studies.tuning
    python -m experiments sweep sweep=readings table=quick          # one change at a time, see .variants

experiments.planning.sweep_request has the grammar.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.analysis.trials import RANKING, ranking
from experiments.planning.sweep_request import SweepRequest, read_sweep
from experiments.planning.sweep_settings import Tuning, Variants
from experiments.reporting.csv_export import to_csv
from experiments.reporting.screen import show_rows
from experiments.store import atomic_files as atomic
from experiments.studies.reproduce import carry, failures, prepare
from experiments.studies.tuning import tune
from experiments.studies.variants import try_variants


def sweep(arguments: Sequence[str]) -> int:
    """Run the sweep that the arguments ask for; 1 if a run failed.

    Raises:
        UserError: what `read_sweep` or planning raises.
    """
    return run_sweep(read_sweep(arguments))


def run_sweep(request: SweepRequest) -> int:
    """Run what is missing of a sweep, print and write what came of it; 1 if a run failed.

    Raises:
        UserError: what planning raises.
    """
    if isinstance(request.settings, Variants):
        return try_variants(request, request.settings)
    if isinstance(request.settings, Tuning):
        return tune(request, request.settings)
    plan, path, store, launcher = prepare(request.overrides, request.table)
    carry(plan, path, store, launcher)
    name = plan.table.name
    rows = ranking(plan, store.records(spec.id for spec in plan.unique()))
    target = store.root / "exports" / f"{name}.csv"
    atomic.write_text(target, to_csv(RANKING, rows))
    show_rows(rows, RANKING, f"{name}: selected on validation")
    print(f"written: {target}")
    return failures(plan, store)

"""Equal tuning: the same trials for every model of a table, selected on validation alone.

    python -m experiments sweep sweep=lr                               # conf/sweep/lr.yaml
    python -m experiments sweep sweep=lr table=quick                   # the models, tasks and budget of a table
    python -m experiments sweep sweep=full model=ressformer,looped task=listops
    python -m experiments sweep sweep=full table=quick sweep.sampler=tpe sweep.name=tpe-quick

A preset with a `space` is tuned. Trials are the stated points of its axis, or the config as it is, and then Optuna's
quasi-random ones (scrambled Sobol points) up to `trials`; every model gets the same ones. Stated points whose best
stands at an end are widened (experiments.studies.widening); `sweep.sampler=tpe` lets each cell have a search of its
own (experiments.studies.searching). Trials are ordinary runs of a plan: solved to the budget, idempotent, carried by
any launcher. The study lies in <results_dir>/sweeps; a sweep that was killed goes on where it stopped, and `trials` is
a total, so a larger one adds what is missing.

Written: exports/<name>.csv (trials), <name>-best.csv (the chosen trial of each model and task, with the FLOPs that
tuning took), <name>-per_cell.yaml (the same as the block that a table takes), <name>-best-of-k.csv (what fewer trials
would have found), and the curves in exports/figures/<name>/*.png and .pdf; `python -m experiments report table=NAME`
shows those of `table=NAME` sweeps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.analysis.trials import SHOWN, higher_is_better, trial_files, trials_of
from experiments.errors import UserError
from experiments.planning.plan import Plan
from experiments.planning.sweep_names import FOLDER, results_root
from experiments.planning.sweep_request import SweepRequest
from experiments.planning.sweep_settings import Tuning
from experiments.planning.trial_points import distributions, first_points, with_points
from experiments.reporting import tuning_figure
from experiments.reporting.csv_export import to_csv
from experiments.reporting.per_cell import per_cell_block
from experiments.reporting.screen import show_rows
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.kept_studies import KeptStudies
from experiments.studies.reproduce import carry, prepare, tell_reasons
from experiments.studies.widening import Added, complete, told, widened

Files = Mapping[str, tuple[list[str], list[dict[str, Any]]]]


def tune(request: SweepRequest, settings: Tuning) -> int:
    """Tune every model of the table on every task; 1 if a trial failed.

    Raises:
        UserError: what planning raises, or a study that was made for another space.
    """
    table, rest = request.table, request.overrides
    cells = [(str(entry["label"]), str(task)) for entry in table["models"] for task in table["tasks"]]
    path = results_root(rest) / FOLDER / f"{table['name']}.db"
    studies = KeptStudies(path, cells, settings.sampler_seed)
    points = studies.points(distributions(settings.space), settings.trials, first_points(request, settings))
    first = next(iter(points.values()))
    if any(other != first for other in points.values()):
        raise UserError(f"{path.name} holds other trials for some of the models; move it away to begin anew")
    keys, added = list(first[0]), Added()
    for step in range(settings.widen + 1):
        more = {task: [{key: value for key in keys} for value in values] for task, values in added.items()}
        plan, plan_file, store, launcher = prepare(rest, with_points(table, first, more))
        take_name(request, store)
        over = carry(plan, plan_file, store, launcher)
        found = trials_of(plan, store.records(spec.id for spec in plan.unique()), keys)
        studies.tell([one.row for one in found])
        if over is False or step == settings.widen or not complete(found):
            break
        before, added = added, widened(found, settings, higher_is_better(plan), added)
        if added == before:
            break
        print("\n".join(told(before, added, found, keys[0])), file=sys.stderr)
    files = trial_files(plan, store.records(spec.id for spec in plan.unique()), keys)
    return write_trials(files, plan, store, keys)


def take_name(request: SweepRequest, store: Store) -> None:
    """Note what the sweep of this name was asked for."""
    if request.claim is not None:
        request.claim.write(store.root)


def write_trials(files: Files, plan: Plan, store: Store, keys: Sequence[str]) -> int:
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

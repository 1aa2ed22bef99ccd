"""Equal tuning: the same quasi-random trials for every model of a table, selected on validation alone.

    python -m experiments sweep sweep=lr                               # conf/sweep/lr.yaml
    python -m experiments sweep sweep=lr table=quick trials=16         # the models, tasks and budget of a table
    python -m experiments sweep sweep=full model=ressformer,looped task=listops

A preset with a `space` is tuned: Optuna's quasi-random sampler (scrambled Sobol points) is asked for all `trials`, the
first of which is the untuned config. Points depend on the space and the sampler's seed alone, so every model gets the
same ones. Trials are ordinary runs of a plan: solved to the budget, idempotent, carried by any launcher. The study
lies in <results_dir>/sweeps; a sweep that was killed goes on where it stopped, and `trials` is a total, so a larger
one adds what is missing.

Written: exports/<name>.csv (trials), <name>-best.csv (the chosen trial of each model and task, with the FLOPs that
tuning took), <name>-best-of-k.csv (what fewer trials would have found) and its curves, exports/figures/<name>/*.png and
.pdf; `python -m experiments report table=NAME` shows those of `table=NAME` sweeps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.analysis.trials import BEST, CURVE, higher_is_better, trial_files
from experiments.errors import UserError
from experiments.planning.hydra_config import composed, composer
from experiments.planning.plan import Plan
from experiments.planning.sweep_request import SweepRequest, Tuning
from experiments.planning.trial_points import distributions, untuned, with_points
from experiments.reporting import tuning_figure
from experiments.reporting.csv_export import to_csv
from experiments.reporting.screen import show_rows
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.kept_studies import KeptStudies
from experiments.studies.reproduce import carry, prepare, tell_reasons


def tune(request: SweepRequest, settings: Tuning) -> int:
    """Tune every model of the table on every task; 1 if a trial failed.

    Raises:
        UserError: what planning raises, or a study that was made for another space.
    """
    table, rest = request.table, request.overrides
    with composer():
        store = Store(str(composed([o for o in rest if o.startswith("results_dir=")]).results_dir))
    cells = [(str(entry["label"]), str(task)) for entry in table["models"] for task in table["tasks"]]
    path = store.root / "sweeps" / f"{table['name']}.db"
    space = distributions(settings.space)
    start = untuned(space, request)
    studies = KeptStudies(path, cells, settings.sampler_seed)
    points = studies.points(space, settings.trials, start)
    first = next(iter(points.values()))
    if any(other != first for other in points.values()):
        raise UserError(f"{path.name} holds other trials for some of the models; move it away to begin anew")
    plan, plan_file, store, launcher = prepare(rest, with_points(table, first))
    carry(plan, plan_file, store, launcher)
    files = trial_files(plan, store.records(spec.id for spec in plan.unique()), list(first[0]))
    studies.tell(files[""][1])
    return write_trials(files, plan, store)


def write_trials(files: Mapping[str, tuple[list[str], list[dict[str, Any]]]], plan: Plan, store: Store) -> int:
    """Write what `trial_files` made, and the curves; print what was chosen; 1 if a trial has no result."""
    name, folder = plan.table.name, store.root / "exports"
    paths = [folder / f"{name}{suffix}.csv" for suffix in files]
    for path, (columns, rows) in zip(paths, files.values(), strict=True):
        atomic.write_text(path, to_csv(columns, rows))
    better = higher_is_better(plan)
    curve = pd.DataFrame(files["-best-of-k"][1], columns=CURVE)
    drawn = tuning_figure.write(curve, name, folder / "figures" / name, better)
    best = files["-best"][1]
    trials = max((row["trials"] for row in best), default=0)
    show_rows(best, BEST, f"{name}: the best of {trials} trials each, selected on validation")
    print("written: " + ", ".join(map(str, [*paths, *drawn])))
    rows = files[""][1]
    bad = sum(row["status"] != "done" for row in rows)
    if bad:
        print(f"{bad} of {len(rows)} trials have no result; they count as trials all the same", file=sys.stderr)
        tell_reasons(plan, store)
    return 1 if bad else 0

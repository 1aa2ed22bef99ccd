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

What is written: experiments.studies.trial_export.
"""

from __future__ import annotations

import sys

from experiments.analysis.trials import higher_is_better, trial_files, trials_of
from experiments.errors import UserError
from experiments.planning.sweep_names import FOLDER, results_root
from experiments.planning.sweep_request import SweepRequest
from experiments.planning.sweep_settings import Tuning
from experiments.planning.trial_points import distributions, first_points, with_points
from experiments.studies.kept_studies import KeptStudies
from experiments.studies.reproduce import carry, prepare
from experiments.studies.searching import search
from experiments.studies.trial_export import take_name, write_trials
from experiments.studies.widening import Added, complete, told, widened


def tune(request: SweepRequest, settings: Tuning) -> int:
    """Tune every model of the table on every task; 1 if a trial failed.

    Raises:
        UserError: what planning raises, or a study that was made for another space.
    """
    if settings.sampler == "tpe":
        return search(request, settings)
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
    return write_trials(files, plan, store)

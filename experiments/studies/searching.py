"""Tuning by a search: for each model and task Optuna's TPE (tree-structured Parzen estimator, Bergstra et al. 2011).

    python -m experiments sweep sweep=full table=quick sweep.sampler=tpe

Every cell has the same number of trials and begins with the config as it is; where the next one stands hangs on what
that cell has scored so far. All cells make their n-th trial, then all their n+1-th, so that a launcher has as many runs
at a time as there are cells.

A point is a function of the outcomes before it, of the sampler's seed and of its number. So a sweep that was killed
goes on with the points that it would have had, and two that are started at once want the same runs, of which the store
lets one process do each. The studies in <results_dir>/sweeps keep the points that were given: one that is there is used
as it is, whatever Optuna of today would say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.analysis.trials import higher_is_better, trial_files, trials_of
from experiments.planning.sweep_names import FOLDER, results_root
from experiments.planning.sweep_request import SweepRequest
from experiments.planning.sweep_settings import Tuning
from experiments.planning.trial_points import Trial, distributions, next_point, search_start, trial_entries, words
from experiments.studies.kept_studies import Cell, KeptStudies
from experiments.studies.reproduce import carry, prepare
from experiments.studies.trial_export import take_name, write_trials
from experiments.studies.widening import complete

Points = dict[Cell, list[dict[str, Any]]]


def search(request: SweepRequest, settings: Tuning) -> int:
    """Make the trials of every cell, one after the other; 1 if a trial failed.

    Raises:
        UserError: what planning raises, or a study that was made for another space.
    """
    table, rest = request.table, request.overrides
    cells = [(str(entry["label"]), str(task)) for entry in table["models"] for task in table["tasks"]]
    space = distributions(settings.space)
    points: Points = {cell: [search_start(request, settings)] for cell in cells}
    studies = KeptStudies(results_root(rest) / FOLDER / f"{table['name']}.db", cells, settings.sampler_seed)
    while True:
        plan, plan_file, store, launcher = prepare(rest, searched(table, points))
        take_name(request, store)
        over = carry(plan, plan_file, store, launcher)
        records = store.records(spec.id for spec in plan.unique())
        found = trials_of(plan, records, list(space))
        if over is False or not complete(found):
            break
        better = higher_is_better(plan)
        kept = studies.keep(space, points, settings.trials, better)
        studies.tell([one.row for one in found])
        if kept != points:  # trials of an earlier start
            points = kept
            continue
        count = min(map(len, points.values())) + 1
        if count > settings.trials:
            break
        rows: dict[Cell, list[Mapping[str, Any]]] = {cell: [] for cell in cells}
        for one in found:
            rows[one.row["model"], one.row["task"]].append({**one.row, "validation": one.scored.mean})
        for cell, mine in points.items():
            if len(mine) < count:
                told = [(point, row["validation"]) for point, row in zip(mine, rows[cell], strict=True)]
                mine.append(next_point(space, told, settings.sampler_seed, higher=better[cell[1]]))
    return write_trials(trial_files(plan, records, list(space)), plan, store)


def searched(table: dict[str, Any], points: Points) -> dict[str, Any]:
    """The table with a row for each trial of each cell."""
    trials: dict[str, list[Trial]] = {}
    for (label, task), mine in points.items():
        trials.setdefault(label, []).extend(Trial(n, words(point), [task]) for n, point in enumerate(mine))
    return {**table, "models": trial_entries(table["models"], trials)}

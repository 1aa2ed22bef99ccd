"""One change at a time: the open readings of every model, as many for each, compared on validation.

    python -m experiments sweep sweep=readings table=quick
    python -m experiments sweep sweep=readings table=quick model=ressformer task=chain seed=0,1

A preset with `variants` lists for each model the overrides that are tried beside the config as it is (trial 0). Every
model has the same number of them, or the preset is refused: a family that is given more trials wins by that alone.
Trials are ordinary runs of a plan, solved to the budget, so a variant that costs more gets fewer steps.

Written: as for a tuning (experiments.studies.tuning); `variant` holds the overrides of a trial, and is empty for the
config as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.analysis.trials import higher_is_better, trial_files
from experiments.planning.plan import Plan
from experiments.planning.sweep_request import SweepRequest
from experiments.planning.sweep_settings import Variants
from experiments.planning.trial_points import VARIANT, with_variants
from experiments.reporting.screen import show_rows
from experiments.studies.reproduce import carry, prepare
from experiments.studies.trial_export import take_name, write_trials

COLUMNS = ["task", "model", "trial", VARIANT, "metric", "validation", "better_by", "status"]


def try_variants(request: SweepRequest, settings: Variants) -> int:
    """Run every variant of every model on every task, print and write them; 1 if a trial failed.

    Raises:
        UserError: what planning raises.
    """
    plan, path, store, launcher = prepare(request.overrides, with_variants(request.table, settings))
    take_name(request, store)
    carry(plan, path, store, launcher)
    files = trial_files(plan, store.records(spec.id for spec in plan.unique()), [VARIANT])
    code = write_trials(files, plan, store)
    title = f"{plan.table.name}: by task and model, the best first"
    show_rows(compared(files[""][1], plan), COLUMNS, title)
    return code


def compared(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[dict[str, Any]]:
    """The trials with `better_by`, the gain over the config as it is (positive = better), sorted by it."""
    better = higher_is_better(plan)
    base = {(row["model"], row["task"]): row["validation"] for row in rows if row["trial"] == 0}
    found = []
    for row in rows:
        mine, theirs = row["validation"], base[row["model"], row["task"]]
        gain = None if mine is None or theirs is None else (mine - theirs) * (1 if better[row["task"]] else -1)
        found.append({**row, "better_by": gain})
    models = list(dict.fromkeys(row["model"] for row in rows))
    tasks = plan.table.tasks
    found.sort(key=lambda r: (tasks.index(r["task"]), models.index(r["model"]), -(r["better_by"] or 0), r["trial"]))
    return found

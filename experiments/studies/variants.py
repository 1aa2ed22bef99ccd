"""One change at a time: the open readings of every model, as many for each, compared on validation.

    python -m experiments.studies.sweep sweep=readings table=quick
    python -m experiments.studies.sweep sweep=readings table=quick model=ressformer task=chain seed=0,1

A preset with `arms` lists for each model the overrides that are tried beside the config as it is (trial 0). Every model
has the same number of them, or the preset is refused: a family that is given more trials wins by that alone. Trials are
ordinary runs of a plan, solved to the budget, so an arm that costs more gets fewer steps.

Written: as for a tuning (experiments.studies.tuning); `arm` holds the overrides of a trial, and is empty for the config as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from experiments.analysis.trials import ARM, higher_is_better, trial_entries, trial_files
from experiments.command_line import values_of
from experiments.errors import UserError
from experiments.planning.plan import Plan
from experiments.planning.settings import Section, section
from experiments.studies.reproduce import carry, prepare

COLUMNS = ["task", "model", "trial", ARM, "metric", "validation", "better_by", "status"]


class Arms(Section):
    """A sweep preset that tries arms."""

    overrides: list[str] = Field(default_factory=list, description="Arguments that are read first.")
    arms: dict[str, list[str]] = Field(min_length=1, description="Model, then one string of overrides per arm.")


def requested_arms(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str], Arms] | None:
    """What `try_arms` takes, if the arguments name a preset with `arms`.

    Raises:
        UserError: an unknown preset or table, models of unequal effort, or a model without arms.
    """
    from experiments.studies.sweep import preset_file, read_axes
    from experiments.studies.tuning import asks, sweep_name, tuned_table

    names = values_of("sweep", arguments)
    raw = preset_file(names[-1]) if names else {}
    if "arms" not in raw:
        return None
    settings = section(Arms, raw, f"sweep {names[-1]}")
    counts = {model: len(arms) for model, arms in settings.arms.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{model} {count}" for model, count in counts.items())
        raise UserError(f"sweep {names[-1]}: every model gets as many arms as the others, not {told}")
    given = [argument for argument in arguments if not argument.startswith(("sweep=", "table="))]
    axes, fixed = read_axes([*settings.overrides, *given])
    if grid := [key for key in axes if key not in ("model", "task", "seed", "budget")]:
        raise UserError(f"sweep {names[-1]} tries its arms and takes no grid beside them; fix {', '.join(grid)}")
    tables = values_of("table", arguments)
    name = sweep_name(names[-1], tables, [asks(given), tables, settings.arms])
    table = tuned_table(name, axes, read_axes(given)[0], tables)
    if lost := [entry["model"] for entry in table["models"] if entry["model"] not in settings.arms]:
        raise UserError(f"sweep {names[-1]} has no arms for {lost[0]}; it has them for {', '.join(settings.arms)}")
    return table, fixed, settings


def try_arms(table: dict[str, Any], rest: list[str], settings: Arms) -> int:
    """Run every arm of every model on every task, print and write them; 1 if a trial failed.

    Args:
        table: settings of the table whose cells are tried; its `models` are entries.
        rest: overrides that apply to every run.
        settings: the preset.

    Raises:
        UserError: what planning raises.
    """
    from experiments.studies.sweep import show_rows
    from experiments.studies.tuning import write_trials

    plan, path, store, launcher = prepare(rest, with_arms(table, rest, settings))
    carry(plan, path, store, launcher)
    files = trial_files(plan, store.records(spec.id for spec in plan.unique()), [ARM])
    title = f"{plan.table.name}: by task and model, the best first"
    show_rows(compared(files[""][1], plan), COLUMNS, title)
    return write_trials(files, plan, store)


def with_arms(table: dict[str, Any], rest: list[str], settings: Arms) -> dict[str, Any]:
    """The table with a row for each model and arm, the config as it is first."""
    trials = {e["label"]: [arm.split() for arm in ("", *settings.arms[e["model"]])] for e in table["models"]}
    return {**table, "models": trial_entries(table["models"], trials)}


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

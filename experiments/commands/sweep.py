"""Run a grid, a tuning with equal effort, or variants; rank them on validation.

    python -m experiments sweep model=ressformer,transformer task=listops seed=0,1 trainer.optim.lr=1e-3,3e-3
    python -m experiments sweep sweep=lr table=quick
    python -m experiments sweep sweep=full table=quick sweep.sampler=tpe --trials 16
    python -m experiments sweep sweep=readings table=quick model=ressformer task=chain 'seed=range(0,3)'
    python -m experiments sweep --dry-run sweep=shell table=quick

Every trial is solved to the budget anew. Test splits are never looked at.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.studies.plan_estimate import show_sweep
from experiments.studies.sweep import sweep


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.dry_run()
    parser.trials()
    parser.results_dir()
    parser.key("sweep", "NAME", "A preset of conf/sweep: a grid, a space to tune over, or variants.")
    parser.key("table", "NAME", "The models, tasks and budget of a table.")
    parser.key("sweep.name", "NAME", "What its plan and exports are called; default: PRESET-TABLE.")
    parser.key("sweep.sampler", "NAME", "sobol: the same points for every model; tpe: a search for each cell.")
    parser.takes_overrides("A value between commas, a range() or a choice() is swept; one value is fixed.")


def run(given: Given) -> int:
    """Print and write the ranking; 1 if a run has no result."""

    return show_sweep(given.overrides) if given.dry_run else sweep(given.overrides)

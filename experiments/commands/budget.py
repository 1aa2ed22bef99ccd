"""Print or lock what the solver makes of every budget, model and task.

    python -m experiments budget table tiny mini
    python -m experiments budget check --to tests/data/solved_sizes.csv
    python -m experiments budget lock --to tests/data/solved_sizes.csv

lock writes the file anew. add writes what it lacks, a new model or task, and keeps the rest. check names what is not so
any more and exits with 1 if anything is. table prints all models, budgets and lengths: target, solved, residual. time
prints what a solve takes.
"""

from __future__ import annotations

from pathlib import Path

from experiments.commands.parser import Given, Parser, folder
from experiments.errors import UserError, unknown
from experiments.studies import budget_verbs


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.takes("lock|add|check|table|time", "What to do.")
    parser.takes("[BUDGET ...]", "Budgets of conf/budget for table and time (default: all).", most=99)
    parser.option("--to", "The file that lock, add and check are about.", metavar="FILE", type=folder)


def run(given: Given) -> int:
    """Do what the first word says; 1 if a file says what is not so any more."""

    action, *names = given.names or [""]
    if action not in budget_verbs.VERBS:
        raise UserError(unknown("word after budget", action, list(budget_verbs.VERBS)))
    return budget_verbs.do(action, names, Path(given.to) if given.to else None)

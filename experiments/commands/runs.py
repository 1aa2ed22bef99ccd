"""List or compare runs: task, model, seed, state, validation, test, FLOPs, seconds.

    python -m experiments runs task=chain status=done --sort test
    python -m experiments runs 0123456789abcdef fedcba9876543210
    python -m experiments runs model=ressformer --csv

With ids (their first digits will do) it prints these runs only, and where their configs differ.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.store.store import Store
from experiments.studies.named_plan import results_there
from experiments.studies.runs import show_runs


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.takes("[ID ...]", "Runs to compare.", most=99)
    parser.option(
        "--sort", "Column to sort by, the largest first where it is a number (default: task).", metavar="COLUMN"
    )
    parser.option("--csv", "Print CSV with all digits.", action="store_true")
    parser.results_dir()
    for key, what in (("task", "this task"), ("model", "this label"), ("status", "this state, e.g. done or failed")):
        parser.key(key, "NAME,NAME", f"Only runs of {what}, or of several between commas.")


def run(given: Given) -> int:
    """Print the runs."""

    filters = dict(word.split("=", 1) for word in given.overrides if not word.startswith("results_dir="))
    store = Store(results_there(given.overrides), write=False)
    return show_runs(store, given.names, filters, sort=given.sort, as_csv=given.csv)

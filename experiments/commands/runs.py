"""List or compare runs: task, model, seed, state, validation, test, FLOPs, seconds.

    python -m experiments runs table=quick task=chain status=done --sort accuracy
    python -m experiments runs diff r0123456789abcd rfedcba98765432
    python -m experiments runs model=ressformer --csv

With ids (their first digits will do) it prints these runs only, and where their configs differ. `diff` prints what
differs in a table, and their metrics side by side.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.planning.hydra_config import values_of
from experiments.store.store import Store
from experiments.studies.named_plan import frozen, results_there
from experiments.studies.runs import show_difference, show_runs


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.takes("[diff] [ID ...]", "Runs to compare.", most=99)
    parser.option(
        "--sort",
        "Column to sort by, the largest first where it is a number, or a metric, the best first (default: task).",
        metavar="COLUMN",
    )
    parser.option("--csv", "Print CSV with all digits.", action="store_true")
    parser.results_dir()
    parser.key("table", "NAME", "Only runs of the newest plan of that table.")
    for key, what in (("task", "this task"), ("model", "this label"), ("status", "this state, e.g. done or failed")):
        parser.key(key, "NAME,NAME", f"Only runs of {what}, or of several between commas.")


def run(given: Given) -> int:
    """Print the runs."""

    filters = dict(word.split("=", 1) for word in given.overrides if not word.startswith(("results_dir=", "table=")))
    where = [word for word in given.overrides if word.startswith(("results_dir=", "table="))]
    store = Store(results_there(where), write=False)
    if given.names[:1] == ["diff"]:
        return show_difference(store, given.names[1:])
    only = {spec.id for spec in frozen(where)[0].runs} if values_of("table", where) else None
    return show_runs(store, given.names, filters, only=only, sort=given.sort, as_csv=given.csv)

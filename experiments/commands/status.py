"""Print the state of every run of a plan: planned, running, done, failed, stale.

    python -m experiments status table=quick
    python -m experiments status table=quick --watch
    python -m experiments status

A running run has its step, heartbeat and host. Without a table, a sweep or a plan: a line for each plan of the results
folder. Exits with 1 if a run failed or is stale.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.store.store import Store
from experiments.studies.named_plan import named_plan, results_there
from experiments.studies.run_states import overview, show_status, watch


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--watch", "Follow the runs until none is running, whoever carries them.", action="store_true")
    parser.results_dir()
    parser.plan_words()


def run(given: Given) -> int:
    """Print the states; 1 if a run failed or is stale."""

    if not [word for word in given.overrides if not word.startswith("results_dir=")]:
        return overview(Store(results_there(given.overrides), write=False))
    plan, _, store = named_plan(given.overrides, running=True)
    return watch(plan, store) if given.watch else show_status(plan, store)

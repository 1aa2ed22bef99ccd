"""The states of a plan's runs: planned, running (heartbeat, host), done, failed, stale.

    python -m experiments status table=quick [--watch]
    python -m experiments status                         # all plans of the results folder

`--watch` follows the launch, whoever carries it.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.commands.words import split_options
from experiments.store.store import Store
from experiments.studies.named_plan import named_plan, results_dir
from experiments.studies.run_states import overview, show_status, watch


def run(arguments: Sequence[str]) -> int:
    """Print the states; 1 if a run failed or is stale.

    Raises:
        UserError: an unknown option, or no such plan.
    """
    words, options = split_options("status", arguments, ("--watch",))
    if not [word for word in words if not word.startswith("results_dir=")]:
        return overview(Store(results_dir(words), write=False))
    plan, _, store = named_plan(words)
    return watch(plan, store) if "--watch" in options else show_status(plan, store)

"""Show what no run needs any more, and remove it with --yes.

    python -m experiments prune
    python -m experiments prune --yes --orphans

Half-written files, leases and checkpoints of runs that are over, old logs. Records always stay.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.store.store import Store
from experiments.studies.named_plan import results_there
from experiments.studies.prune import prune


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--yes", "Remove it; without this it is only listed.", action="store_true")
    parser.option("--orphans", "Take runs that no plan has, too.", action="store_true")
    parser.results_dir()


def run(given: Given) -> int:
    """Print what may go, and remove it if asked to."""

    return prune(Store(results_there(given.overrides)), do=given.yes, orphans=given.orphans)

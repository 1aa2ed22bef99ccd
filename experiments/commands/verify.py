"""Hash every record again, derive every identity and every figure again.

    python -m experiments verify table=quick
    python -m experiments verify plan=results/plans/quick-0123456789ab.json
    python -m experiments verify --results-dir results/reference/mine

Changes nothing. Without a table or a plan, every record and every plan of the results folder is verified, those of its
archive, too. Exits with 1 if anything is not sound.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.store.store import Store
from experiments.studies.named_plan import named_plan, results_there
from experiments.studies.verify import verify, verify_all


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.results_dir()
    parser.plan_words()


def run(given: Given) -> int:
    """Print what is wrong and what was checked; 1 if anything is wrong."""

    if [word for word in given.overrides if not word.startswith("results_dir=")]:
        plan, path, store = named_plan(given.overrides)
        return verify(plan, path, store)
    return verify_all(Store(results_there(given.overrides), write=False))

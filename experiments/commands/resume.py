"""Go on with a plan as it was frozen, whatever the configs say by now.

    python -m experiments resume table=quick
    python -m experiments resume plan=results/plans/quick-0123456789ab.json launcher=basic

Then prints and writes the table. The newest plan of the name is meant.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.studies.resume import resume


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.results_dir()
    parser.plan_words()


def run(given: Given) -> int:
    """Run what is missing and print the table; 1 if a run has no result."""

    return resume(given.overrides)

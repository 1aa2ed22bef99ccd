"""Run failed and diverged runs of a plan again; their records are set aside.

    python -m experiments retry --failed table=quick

Then prints and writes the table, as resume does.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.errors import UserError
from experiments.studies.resume import resume


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--failed", "Those that failed or diverged; has to be said.", action="store_true")
    parser.results_dir()
    parser.plan_words()


def run(given: Given) -> int:
    """Set the records of failed runs aside and resume; 1 if a run has no result."""

    if not given.failed:
        raise UserError("retry runs again what has a record already: say which, e.g. retry --failed table=quick")
    return resume([*given.overrides, "launcher.retry_failed=true"])

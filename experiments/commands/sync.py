"""Print the commands that upload the offline W&B runs.

    python -m experiments sync
    python -m experiments sync --project mine --results-dir results

Nothing is uploaded here. The exports of each table become a run of their own.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.planning.settings import LoggerSettings, section
from experiments.studies.named_plan import results_there
from experiments.studies.sync import sync


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option(
        "--project", "W&B project (default: ressformer).", word="logger.project", metavar="NAME", default="ressformer"
    )
    parser.results_dir()


def run(given: Given) -> int:
    """Make the runs of the reports and print a command per offline run."""

    return sync(results_there(given.overrides), section(LoggerSettings, {"project": given.project}, "logger"))

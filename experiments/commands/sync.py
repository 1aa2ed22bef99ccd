"""Print the commands that upload the offline W&B runs.

    python -m experiments sync
    python -m experiments sync table=quick
    python -m experiments sync --project mine --results-dir results

Nothing is uploaded here. The exports of each table become a run of their own. Of a table or a sweep that is named, its
runs and its exports; else all of the results folder. What is uploaded already is left out.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.planning.settings import LoggerSettings, section
from experiments.studies.named_plan import named_plan, results_there
from experiments.studies.sync import sync


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option(
        "--project", "W&B project (default: ressformer).", word="logger.project", metavar="NAME", default="ressformer"
    )
    parser.results_dir()
    parser.plan_words()


def run(given: Given) -> int:
    """Make the runs of the reports and print a command per offline run."""

    settings = section(LoggerSettings, {"project": given.project}, "logger")
    folder = results_there(given.overrides)
    if any(word.startswith(("table=", "sweep=", "plan=")) for word in given.overrides):
        plan, _, store = named_plan(given.overrides)
        return sync(store.root, settings, plan)
    return sync(folder, settings)

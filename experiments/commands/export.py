"""Write the raw records as CSV, and the files of a table anew.

    python -m experiments export
    python -m experiments export table=quick --results-dir results

docs/exports.md has the columns. Runs nothing.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.studies.export import export_all


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.results_dir()
    parser.takes_overrides("table=NAME and table.*: write that table's files, too, if any of its runs has a record.")


def run(given: Given) -> int:
    """Write the files and name them."""

    return export_all(given.overrides)

"""Write the readable report of a table, one HTML file; runs nothing.

    python -m experiments report
    python -m experiments report table=quick
    python -m experiments report table=quick --figures false

Writes exports/TABLE.html, and each figure as PNG and PDF into exports/figures/TABLE. Without a table: the report of
every table that has results, and exports/index.html over tables, sweeps and scale fits.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, one_of
from experiments.studies.report import report


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option(
        "--figures",
        "Write each figure as a file of its own, too (default: true).",
        word="figures",
        metavar="true|false",
        type=one_of("true", "false"),
        default="true",
    )
    parser.results_dir()
    parser.key("plan", "FILE", "A plan as it was frozen, instead of table=.")
    parser.takes_overrides("table=NAME and what else chose its runs.")


def run(given: Given) -> int:
    """Write the page and name it."""

    return report(given.overrides, figures=given.figures == "true")

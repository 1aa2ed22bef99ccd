"""Say how many times the FLOPs a reference needs for the same quality; runs nothing.

    python -m experiments scale table=scale
    python -m experiments scale table=scale_x1,scale_x4 --reference transformer_rope

Reads rows that have run at several budgets: the same label in several tables, or labels of one table that differ in an
ending such as ` x4`. Writes exports/TABLE-scaling.csv, -scaling-order.csv, -scaling-points.csv and a figure per task.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.studies.scale import scale


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option(
        "--reference",
        "Row that the others are measured against (default: transformer_rope).",
        word="reference",
        metavar="ROW",
    )
    parser.results_dir()
    parser.key("table", "NAME,NAME", "Tables whose rows are put together.")


def run(given: Given) -> int:
    """Print and write the multipliers."""

    return scale(given.overrides, given.reference)

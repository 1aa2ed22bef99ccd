"""Time a training step of every cell of a table, with C kernels and without.

    python -m experiments time table=quick
    python -m experiments time table=quick --repeats 10 --results-dir results/reference/quick

Give it a machine that does nothing else: it warns where the load is above half a process per core. Cells take turns
on one thread, at the sizes that their budgets gave them. The times go to timings/TABLE.json beside the records, and
tables and reports then show seconds to equal quality, and the share of the machine's peak (MFU). Trains nothing.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, whole_number
from experiments.studies.step_times import time_table


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option(
        "--repeats",
        "Turns of each cell (default: 30).",
        word="repeats",
        metavar="N",
        type=whole_number(1),
        default=30,
    )
    parser.results_dir()
    parser.plan_words()


def run(given: Given) -> int:
    """Print and keep the times."""
    return time_table(given.overrides, given.repeats)

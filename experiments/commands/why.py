"""Print what stands behind one cell of a table: runs, records, sources, machines, configs.

    python -m experiments why quick ressformer chain
    python -m experiments why quick ressformer chain --results-dir results/reference/quick

Reads the newest plan of the table that has the cell; runs nothing.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.errors import UserError
from experiments.store.store import Store
from experiments.studies.named_plan import results_there
from experiments.studies.why import why


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.takes("TABLE", "Name of the table.")
    parser.takes("ROW", "Label of the model.")
    parser.takes("COLUMN", "Name of the task.")
    parser.results_dir()


def run(given: Given) -> int:
    """Print the runs behind a cell."""

    if len(given.names) != 3:
        raise UserError("why takes a table, a row (model) and a column (task): why quick ressformer chain")
    table, row, column = given.names
    return why(table, row, column, Store(results_there(given.overrides)))

"""Write the raw records as CSV, and a table's files anew (docs/exports.md).

    python -m experiments export [results_dir=FOLDER] [table=quick]

With `table=` the files of that table are written anew, too, if any of its runs has a record.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import composed, composer, override_key
from experiments.reporting.csv_export import export
from experiments.reporting.table import build, write
from experiments.store.store import Store
from experiments.studies.reproduce import prepare


def run(arguments: Sequence[str]) -> int:
    """Read the arguments and export.

    Raises:
        UserError: an argument that is neither `results_dir=` nor of a table.
    """
    tables = [argument for argument in arguments if override_key(argument).split(".")[0] == "table"]
    for argument in arguments:
        if argument not in tables and not argument.startswith("results_dir="):
            raise UserError(unknown("argument", argument.split("=")[0], ["results_dir", "table"]))
    with composer():
        store = Store(str(composed(arguments).results_dir))
    paths = export(store)
    if tables:
        plan, _, _, _ = prepare(arguments)
        if any(store.state(spec.id) in ("done", "failed") for spec in plan.unique()):
            paths += write(build(plan, store), plan.table.name, store)
    print("written: " + ", ".join(str(path) for path in paths))
    return 0

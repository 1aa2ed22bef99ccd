"""What a notebook asks for: tables from records, as pandas frames."""

from __future__ import annotations

import pandas as pd

from experiments.errors import UserError
from experiments.planning.table_name import preset_of
from experiments.reporting.table import build
from experiments.store.store import Store
from experiments.studies.named_plan import say_which, with_results


def load(table: str, results_dir: str = "results", *, seeds: bool = False) -> pd.DataFrame:
    """The cells of a table, or its runs; see `experiments.load`.

    Raises:
        UserError: the results folder has no results of this table, or a record is corrupt.
    """
    store = Store(results_dir)
    found = with_results(store, table) or with_results(store, preset_of(table), parts=True)
    if found is None:
        make = f"make reproduce-table TABLE={preset_of(table)}"
        raise UserError(f"no plan of table {table} in {results_dir}/plans has results: {make}")
    say_which(store, table, found[1])
    report = build(found[0], store, pace=False)
    return report.runs if seeds else report.cells

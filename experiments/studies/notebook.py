"""What a notebook asks for: tables from records, as pandas frames."""

from __future__ import annotations

import pandas as pd

from experiments.errors import UserError
from experiments.planning.plan import newest_plan
from experiments.reporting.table import build
from experiments.store.store import Store


def load(table: str, results_dir: str = "results") -> pd.DataFrame:
    """The cells of the newest plan of a table; see `experiments.load`.

    Raises:
        UserError: the results folder has no plan of this table, or a record is corrupt.
    """
    store = Store(results_dir)
    plan = newest_plan(store.root / "plans", table)
    if plan is None:
        raise UserError(f"no plan of table {table} in {results_dir}/plans: make reproduce-table TABLE={table}")
    return build(plan, store).cells

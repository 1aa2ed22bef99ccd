"""How the comparison is run: plan, run, record, table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]


def load(table: str, results_dir: str = "results") -> pd.DataFrame:
    """The tidy frame of a table from the records there are, for a notebook; runs nothing.

    One row per model x task x split x metric; docs/exports.md has the columns. `experiments.reporting.table.results_grid` makes
    the printed table of it.

    Raises:
        UserError: the results folder has no plan of this table, or a record is corrupt.
    """
    from experiments.errors import UserError
    from experiments.planning.plan import newest_plan
    from experiments.reporting.table import build
    from experiments.store.store import Store

    store = Store(results_dir)
    plan = newest_plan(store.root / "plans", table)
    if plan is None:
        raise UserError(f"no plan of table {table} in {results_dir}/plans: make reproduce-table TABLE={table}")
    return build(plan, store).cells

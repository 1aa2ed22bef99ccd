"""How the comparison is run: plan, run, record, table. `experiments.load` is for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]


def load(table: str, results_dir: str = "results") -> pd.DataFrame:
    """The tidy frame of a table from the records there are, for a notebook; runs nothing.

    One row per model x task x split x metric; docs/exports.md has the columns.
    `experiments.reporting.table.results_grid` makes the printed table of it.

    Raises:
        UserError: the results folder has no plan of this table, or a record is corrupt.
    """
    from experiments.studies.notebook import load as found  # pandas and hydra, which most processes do without: 1 s

    return found(table, results_dir)

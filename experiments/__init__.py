"""How the comparison is run: plan, run, record, table. `experiments.load` is for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]


def load(table: str, results_dir: str = "results", *, seeds: bool = False) -> pd.DataFrame:
    """The tidy frame of a table from the records there are, for a notebook; runs nothing.

    One row per model x task x split x metric, of which `experiments.reporting.table.results_grid` makes the printed
    table; with `seeds` one row per model x task x seed. docs/exports.md has the columns.

    Raises:
        UserError: the results folder has no results of this table, or a record is corrupt.
    """
    from experiments.studies.notebook import load as found  # pandas and hydra, which most processes do without: 1 s

    return found(table, results_dir, seeds=seeds)

"""How the comparison is run: plan, run, record, table. `experiments.load` is for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

__all__ = ["compare", "load"]


def compare(
    models: Mapping[str, Any],
    against: Sequence[str],
    tasks: Sequence[str],
    budget: str = "tiny",
    seeds: int | Sequence[int] = 5,
    *,
    results_dir: str = "results",
    overrides: Sequence[str] = (),
) -> pd.DataFrame:
    """Train each of `models` against each of `against`, paired by seed; print the answer and return it as a frame.

        experiments.compare({"mine": "my.py:MyMixer"}, against=["transformer_rope"], tasks=["mqar"])

    Runs that have a record are not trained again. One row per pair and task; docs/add-a-model.md has the columns.

    Args:
        models: label -> `file.py:Class` or `package.module:Class`, a mixer in the shared stack; or a mapping of fields
            of a model, `model` its name in conf/model: {"model": "decoder", "decoder": "my.py:MyDecoder"}.
        against: names in conf/model.
        tasks: names in conf/task.
        budget: name in conf/budget.
        seeds: how many, from 0 on, or which.
        results_dir: where runs and records go.
        overrides: of every run, as on the command line.

    Raises:
        UserError: what is asked for is not to be had; the message says what would do.
    """
    from experiments.studies.notebook import compare as found  # pandas and torch, which most processes do without: 3 s

    return found(models, against, tasks, budget, seeds, results_dir=results_dir, overrides=overrides)


def load(table: str, results_dir: str = "results", *, seeds: bool = False) -> pd.DataFrame:
    """The tidy frame of a table from the records there are, for a notebook; runs nothing.

    One row per model x task x split x metric, of which `experiments.reporting.table.results_grid` makes the printed
    table; with `seeds` one row per model x task x seed. docs/exports.md has the columns.

    Raises:
        UserError: the results folder has no results of this table, or a record is corrupt.
    """
    from experiments.studies.notebook import load as found  # pandas and hydra, which most processes do without: 1 s

    return found(table, results_dir, seeds=seeds)

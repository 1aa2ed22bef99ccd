"""What a notebook asks for: tables from records, as pandas frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd

from experiments.errors import UserError
from experiments.planning.table_name import preset_of
from experiments.reporting.table import build
from experiments.start import FOLDER
from experiments.store.store import Store
from experiments.studies.compare import Row, compared, compared_words
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
    """Every model against every other, paired by seed; see `experiments.compare`.

    Raises:
        UserError: what is asked for is not to be had.
    """
    if not models or not against or not tasks:
        raise UserError("compare needs a model, a model to compare it with, and a task")
    rows: list[Row] = [*(row_of(label, value) for label, value in models.items()), *against]
    chosen = [str(seed) for seed in (range(seeds) if isinstance(seeds, int) else seeds)]
    small = f"allow_small_test=[{','.join(tasks)}]"  # a verdict is not passed on them, but figures are
    words = compared_words(rows, [small, f"results_dir={results_dir}", *overrides], tasks, chosen, budget)
    with called_from(os.getcwd()):
        return compared(words, [(mine, other) for mine in models for other in against])[0]


def row_of(label: str, value: Any) -> Row:
    """A row of a table: a class as a mixer of the shared stack, a name of conf/model, or fields of a model."""
    if isinstance(value, str):
        return (label, "mixer", {"mixer": value}) if ":" in value else (label, value, {})
    if isinstance(value, Mapping) and isinstance(value.get("model"), str):
        return label, value["model"], {key: v for key, v in value.items() if key != "model"}
    raise UserError(
        f"model {label}: name a class, 'my.py:MyMixer', or give fields with 'model': NAME among them; got {value!r}"
    )


@contextmanager
def called_from(folder: str) -> Iterator[None]:
    """The processes of the runs look for files and modules in this folder, too."""
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ[FOLDER]
        else:
            os.environ[FOLDER] = before

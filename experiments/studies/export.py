"""The raw records as CSV, and a table's files anew."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from experiments.analysis.pairwise import paired_rows
from experiments.planning.hydra_values import override_key
from experiments.planning.plan import Plan
from experiments.reporting.csv_export import export
from experiments.reporting.table import from_records, write
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.named_plan import has_results, named_plan, results_there


def export_all(words: Sequence[str]) -> int:
    """Write the records of the results folder and, where the words name a table of which any run is over, its files.

    Raises:
        UserError: an unknown name or value, or a corrupt record.
    """
    if any(override_key(word).split(".")[0] != "results_dir" for word in words):
        plan, _, looking = named_plan(words, make=True)
        store = Store(looking.root)
        paths = export(store)
        if has_results(plan, store):
            paths += write_table(plan, store)
    else:
        paths = export(Store(results_there(words)))
    print("written: " + ", ".join(str(path) for path in paths))
    return 0


def write_table(plan: Plan, store: Store) -> list[Path]:
    """Write the files of a table to exports/, TABLE-pairs.csv (every two rows, paired by seed) among them.

    Raises:
        UserError: a corrupt record.
    """
    records = store.records(spec.id for spec in plan.unique())
    store.require_sound()
    rows = [entry.label for entry in plan.table.entries()]
    path = store.root / "exports" / f"{plan.table.name}-pairs.csv"
    frame = paired_rows(plan, records, list(combinations(rows, 2)))
    atomic.write_text(path, frame.to_csv(index=False, lineterminator="\n"))
    return [*write(from_records(plan, records, store), plan.table.name, store), path]

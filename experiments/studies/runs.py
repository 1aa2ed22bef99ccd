"""The runs of a results folder side by side, from their records and specs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from experiments.errors import UserError, unknown
from experiments.reporting.csv_export import to_csv
from experiments.reporting.grid import Cell, Grid
from experiments.reporting.screen import rich_table, wide_console
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store

COLUMNS = ["id", "task", "model", "seed", "status", "metric", "validation", "test", "train_flops", "seconds"]
FILTERS = ("task", "model", "status")
Row = dict[str, Any]


def show_runs(
    store: Store, ids: Sequence[str], filters: Mapping[str, str], *, sort: str | None = None, as_csv: bool = False
) -> int:
    """Print the runs; with `ids` (or the first digits of some) those, and where their configs differ.

    Args:
        store: the results folder.
        ids: runs to compare; none = all.
        filters: values between commas by key of FILTERS.
        sort: a column; numbers the largest first.
        as_csv: CSV with all digits instead of a table.

    Raises:
        UserError: an unknown id or column, a filter that no run meets, or a corrupt record.
    """
    if sort is not None and sort not in COLUMNS:
        raise UserError(unknown("column", sort, COLUMNS))
    names = [named_run(store, given) for given in dict.fromkeys(ids)] or store.ids()
    specs = {name: spec for name in names if (spec := spec_of(store, name)) is not None}
    records = store.records(specs)
    store.require_sound()
    rows = kept([row(spec, records.get(name), store) for name, spec in specs.items()], filters)
    rows.sort(key=lambda r: [str(r["task"]), str(r["model"]), r["seed"]])
    if sort is not None:
        rows.sort(key=lambda r: _place(r[sort]))
    if as_csv:
        print(to_csv(COLUMNS, rows), end="")
        return 0
    cells = [[Cell(_text(r[column])) for column in COLUMNS] for r in rows]
    wide_console().print(rich_table(Grid(f"{len(rows)} of {len(specs)} runs in {store.root.name}", COLUMNS, cells)))
    if ids:
        print("\n".join(differences([specs[r["id"]] for r in rows])) or "their configs are the same")
    return 0


def spec_of(store: Store, run: str) -> RunSpec | None:
    """What the run is, from spec.json or from its record; None where neither is there."""
    try:
        return RunSpec.model_validate_json((store.folder(run) / "spec.json").read_bytes())
    except (OSError, ValidationError):
        record = store.record(run)
        return None if record is None else record.spec


def row(spec: RunSpec, record: Record | None, store: Store) -> Row:
    """A run as a row of COLUMNS; what it does not have (yet) is None."""
    metric = spec.task_info.metric
    over = record is not None and record.status == "done"
    return {
        "id": spec.id,
        "task": spec.task,
        "model": spec.model,
        "seed": spec.seed,
        "status": record.status if record is not None else store.state(spec.id),
        "metric": metric,
        "validation": record.selection.get(metric) if record is not None and over else None,
        "test": record.metrics.get("test/id", {}).get(metric) if record is not None and over else None,
        "train_flops": spec.cost.flops_train * (record.steps_done / spec.steps if record is not None else 1.0),
        "seconds": record.measured.wall_seconds if record is not None else None,
    }


def kept(rows: list[Row], filters: Mapping[str, str]) -> list[Row]:
    """The rows that meet every filter.

    Raises:
        UserError: no run has a value that is asked for.
    """
    for key, text in filters.items():
        wanted = [value.strip() for value in text.strip("[]").split(",")]
        have = sorted({str(r[key]) for r in rows})
        for value in wanted:
            if value not in have:
                raise UserError(unknown(f"{key} among these runs", value, have))
        rows = [r for r in rows if str(r[key]) in wanted]
    return rows


def differences(specs: Sequence[RunSpec]) -> list[str]:
    """A line for each key of the configs or sizes that is not the same in all."""
    flat = [dict(_flat({"config": spec.config, "sizes": spec.sizes, "steps": spec.steps})) for spec in specs]
    lines = []
    for key in sorted({key for values in flat for key in values}):
        values = [json.dumps(each[key]) if key in each else "absent" for each in flat]
        if len(set(values)) > 1:
            lines.append(f"{key}: {' | '.join(values)}")
    return lines


def _flat(values: Mapping[str, Any], head: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += _flat(value, f"{head}{key}.") if isinstance(value, Mapping) and value else [(f"{head}{key}", value)]
    return found


def named_run(store: Store, given: str) -> str:
    """The run whose id begins so.

    Raises:
        UserError: none does, or several do.
    """
    fits = [run for run in store.ids() if run.startswith(given)]
    if len(fits) != 1:
        problem = f"{len(fits)} runs begin with '{given}'" if fits else f"no run begins with '{given}'"
        raise UserError(f"{problem}; python -m experiments runs lists them")
    return fits[0]


def _place(value: Any) -> tuple[int, float, str]:
    """Numbers from the largest, then words, then nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return 2, 0.0, ""
    return (0, -float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) >= 1e5 else f"{value:.4f}"
    return "" if value is None else str(value)

"""The runs of a results folder, listed or side by side, from their records and specs."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from experiments.errors import UserError, unknown
from experiments.reporting.csv_export import to_csv
from experiments.reporting.grid import Cell, Grid
from experiments.reporting.screen import WIDE_ENOUGH, rich_table, shortest, wide_console
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store

COLUMNS = ["id", "task", "model", "seed", "status", "metric", "validation", "test", "train_flops", "seconds"]
NARROW = ["id", "task", "model", "seed", "status", "validation", "test", "seconds"]  # what 80 columns have room for
LONGEST = 60  # characters of a value that is shown in a column
FILTERS = ("task", "model", "status")
Row = dict[str, Any]


def show_runs(
    store: Store,
    ids: Sequence[str],
    filters: Mapping[str, str],
    *,
    only: Collection[str] | None = None,
    sort: str | None = None,
    as_csv: bool = False,
) -> int:
    """Print the runs; with `ids` (or the first digits of some) those, and where their configs differ.

    Args:
        store: the results folder.
        ids: runs to compare; none = all.
        filters: values between commas by key of FILTERS.
        only: ids of the runs that are meant, e.g. those of a table; None = any.
        sort: a column, numbers the largest first; or a metric, the runs that have it by its test value, the best first.
        as_csv: CSV with all digits instead of a table.

    Raises:
        UserError: an unknown id, column or metric, a filter that no run meets, or a corrupt record.
    """
    names = [named_run(store, given) for given in dict.fromkeys(ids)] or store.ids()
    names = [name for name in names if only is None or name in only]
    specs = {name: spec for name in names if (spec := spec_of(store, name)) is not None}
    records = store.records(specs)
    store.require_sound()
    rows = kept([row(spec, records.get(name), store) for name, spec in specs.items()], filters)
    rows = in_order(rows, specs, sort)
    if as_csv:
        print(to_csv(COLUMNS, rows), end="")
        return 0
    console = wide_console()
    shown = COLUMNS if console.width >= WIDE_ENOUGH else NARROW
    listed = rows if shown is COLUMNS else [narrow(r, shortest(specs, store.ids())) for r in rows]
    cells = [[Cell(_text(r[column])) for column in shown] for r in listed]
    title = f"{len(rows)} of {len(specs)} runs in {store.root.name}"
    console.print(rich_table(Grid(title, shown, cells), left=("task", "model", "status")))
    if ids:
        print("\n".join(differences([specs[r["id"]] for r in rows])) or "their configs are the same")
    return 0


def narrow(values: Row, short: Mapping[str, str]) -> Row:
    """The row with a short id and whole seconds."""
    seconds = values["seconds"]
    return {**values, "id": short[values["id"]], "seconds": None if seconds is None else round(seconds)}


def in_order(rows: Sequence[Row], specs: Mapping[str, RunSpec], sort: str | None) -> list[Row]:
    """The rows by task, model and seed; or by `sort`, see show_runs.

    Raises:
        UserError: neither a column nor a metric of these runs.
    """
    plain = sorted(rows, key=lambda r: [str(r["task"]), str(r["model"]), r["seed"]])
    if sort is None:
        return plain
    metrics = sorted({str(r["metric"]) for r in rows})
    if sort not in (*COLUMNS, *metrics):
        raise UserError(unknown("column or metric", sort, [*COLUMNS, *metrics]))
    if sort in COLUMNS:
        return sorted(plain, key=lambda r: _place(r[sort]))

    def best_first(r: Row) -> tuple[int, float, str]:
        mine = r["metric"] == sort and r["test"] is not None
        up = specs[r["id"]].task_info.higher_is_better
        return _place((r["test"] if up else -r["test"]) if mine else None)

    return sorted(plain, key=best_first)


def show_difference(store: Store, ids: Sequence[str]) -> int:
    """Print the configs of two runs or more where they differ, and their metrics side by side.

    Raises:
        UserError: fewer than two runs, an unknown id, or a corrupt record.
    """
    names = [named_run(store, given) for given in dict.fromkeys(ids)]
    if len(names) < 2:
        raise UserError("runs diff takes two runs or more, by id; python -m experiments runs lists them")
    specs = {name: spec for name in names if (spec := spec_of(store, name)) is not None}
    records = store.records(specs)
    store.require_sound()
    heads = [f"{spec.model} {name[:8]}" for name, spec in specs.items()]
    console = wide_console()
    keys = [[key, *map(_short, values)] for key, values in differing(list(specs.values()))]
    for title, rows in (("what differs", keys), ("metrics", _metrics(specs, records))):
        cells = [[Cell(text) for text in line] for line in rows]
        console.print(rich_table(Grid(title, ["", *heads], cells)) if rows else f"{title}: nothing")
    return 0


def _metrics(specs: Mapping[str, RunSpec], records: Mapping[str, Record | None]) -> list[list[str]]:
    """A line for each metric of each split, and for what the runs took; empty where a run has no value."""
    found: list[dict[str, Any]] = []
    for name, spec in specs.items():
        record = records.get(name)
        values: dict[str, Any] = {"status": record.status if record is not None else "no record"}
        if record is not None:
            values |= {f"validation {key}": value for key, value in record.selection.items()}
            values |= {f"{split} {key}": v for split, means in record.metrics.items() for key, v in means.items()}
            values |= {"seconds": record.measured.wall_seconds, "peak MiB": record.measured.peak_memory_mib}
        found.append({**values, "parameters": spec.cost.params_non_embedding, "train FLOPs": spec.cost.flops_train})
    keys = dict.fromkeys(key for values in found for key in values)
    return [[key, *(_text(values.get(key)) for values in found)] for key in keys]


def _short(text: str) -> str:
    """A value of a config for a column: long ones, such as texts, lose their middle."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


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
    return [f"{key}: {' | '.join(values)}" for key, values in differing(specs)]


def differing(specs: Sequence[RunSpec]) -> list[tuple[str, list[str]]]:
    """The keys of the configs or sizes that are not the same in all, and the value of each as JSON."""
    flat = [dict(_flat({"config": spec.config, "sizes": spec.sizes, "steps": spec.steps})) for spec in specs]
    found = []
    for key in sorted({key for values in flat for key in values}):
        values = [json.dumps(each[key]) if key in each else "absent" for each in flat]
        if len(set(values)) > 1:
            found.append((key, values))
    return found


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

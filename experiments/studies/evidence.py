"""What a plan's records give, as texts that can be compared: every cell, every item interval, every curve."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pandas as pd

from experiments.analysis import curves
from experiments.analysis.frames import Runs
from experiments.planning.plan import Plan
from experiments.reporting.csv_export import METRIC_COLUMNS, metric_rows, to_csv
from experiments.reporting.table import from_records
from experiments.store.store import Store

CLOSE = 1e-9  # relative: other versions of numpy and scipy, other processors


def evidence(plan: Plan, store: Store) -> dict[str, str]:
    """`cells`, `intervals` and `curves` of a plan as CSV, made from its records and logs; without records, nothing.

    Raises:
        UserError: a record is corrupt.
    """
    records = store.records(dict.fromkeys(spec.id for spec in plan.runs))
    store.require_sound()
    if not records:
        return {}
    runs: Runs = [(spec, records.get(spec.id)) for spec in plan.runs]
    frames = [
        curves.point_curves(runs).assign(curve="points"),
        curves.distance(runs).assign(curve="distance"),
        curves.learning(runs, store).assign(curve="learning"),
        curves.inner(runs, store).assign(curve="inner"),
    ]
    drawn = [frame for frame in frames if len(frame)]
    by_id = sorted(records.values(), key=lambda record: record.id)
    return {
        "cells": from_records(plan, records).cells.to_csv(index=False, lineterminator="\n"),
        "intervals": to_csv(METRIC_COLUMNS, metric_rows(by_id)),
        **({"curves": pd.concat(drawn).to_csv(index=False, lineterminator="\n")} if drawn else {}),
    }


def differences(before: str, now: str) -> Iterator[str]:
    """What two CSV texts differ in: columns that are gone, rows, values beyond `CLOSE`. Columns may have come."""
    if before == now:
        return
    old, new = (pd.read_csv(io.StringIO(text), keep_default_na=False) for text in (before, now))
    if gone := [name for name in old.columns if name not in new.columns]:
        yield f"columns are gone: {', '.join(gone)}"
    if len(old) != len(new):
        yield f"{len(old)} rows are {len(new)} now"
        return
    for name in (name for name in old.columns if name in new.columns):
        differ = [row for row, (a, b) in enumerate(zip(old[name], new[name], strict=True)) if not _same(a, b)]
        if differ:
            row = differ[0]
            yield f"{name} differs in {len(differ)} rows, first in {row + 1}: {old[name][row]} is {new[name][row]} now"


def _same(one: object, other: object) -> bool:
    try:
        a, b = float(str(one)), float(str(other))
    except ValueError:
        return str(one) == str(other)
    return a == b or abs(a - b) <= CLOSE * max(abs(a), abs(b))

"""The main table as pictures: under each figure its seeds, its interval, and the levels of its column, on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.analysis.frames import Column, Runs, primary_by_seed, rows_of
from experiments.planning.levels import ngram, perfect_reader, simple_rule
from experiments.reporting.grid import number, spoken
from experiments.reporting.level_notes import column_infos
from experiments.reporting.table import Report
from experiments.store.records import TaskInfo

KINDS = {
    "chance": "chance",
    "rule": "best simple rule",
    "ngram": "n-gram of the bytes read",
    "reader": "perfect reader",
}
REACH = 1.0  # a level is drawn if it lies no further off than so many times the spread of the values
Level = tuple[str, float]  # its name and its value


def levels_of(info: TaskInfo, column: Column, chance: float | None) -> dict[str, Level]:
    """The levels of a column by kind, those that are known."""
    _, split, metric = column
    found = {} if chance is None or pd.isna(chance) else {"chance": ("", float(chance))}
    for kind, rule in (("rule", simple_rule(info, split, metric)), ("ngram", ngram(info, split, metric))):
        if rule is not None:
            found[kind] = (rule.name, rule.value)
    reader = perfect_reader(info, split, metric)
    return found if reader is None else found | {"reader": ("", reader)}


def columns_of(built: Report, runs: Runs) -> list[dict[str, Any]]:
    """Per column of the results: its heading, its cells by model, its levels, and where all of it lies in percent."""
    infos = column_infos([spec for spec, _ in runs])
    cells = {(r["model"], r["task"], r["split"], r["metric"]): r for r in rows_of(built.cells)}
    found = []
    for at, heading in enumerate(built.results.columns):
        keyed = [(row[0].text, row[at]) for row in built.results.rows if row[at].key]
        if not keyed:
            continue
        column: Column = (keyed[0][1].key[1], keyed[0][1].key[2], keyed[0][1].key[3])
        rows = {cell.key[0]: cells[cell.key] for _, cell in keyed if cell.key in cells}
        seeds = primary_by_seed(runs, *column)
        chance = next((row["chance"] for row in rows.values()), None)
        levels = levels_of(infos[column[0]], column, chance)
        low, high = _scale(rows, seeds, levels)
        lines = {kind: _place(value, low, high) for kind, (_, value) in levels.items() if low <= value <= high}
        found.append(
            {
                "heading": spoken(heading),
                "at": at,
                "cells": [
                    {
                        **{"name": name, "model": cell.key[0], "cell": cell},
                        "strip": _strip(rows.get(cell.key[0]), seeds, low, high) | {"lines": lines},
                    }
                    for name, cell in keyed
                ],
                "levels": {k: {"name": n, "text": number(v), "value": v} for k, (n, v) in levels.items()},
                "lines": lines,
            }
        )
    return found


def _scale(
    rows: Mapping[str, dict[str, Any]], seeds: Mapping[str, Mapping[int, float]], levels: Mapping[str, Level]
) -> tuple[float, float]:
    """The ends of the column's scale: all seeds and means, and the levels that are not far off."""
    values = [value for each in seeds.values() for value in each.values()]
    values += [row["mean"] for row in rows.values() if not pd.isna(row["mean"])]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = REACH * (high - low) or 0.1 * abs(high) or 0.1
    share = low >= 0 and high <= 1
    near = [v for _, v in levels.values() if share or low - room <= v <= high + room]
    low, high = min([low, *near]), max([high, *near])
    edge = 0.04 * (high - low) or 0.05
    return low - edge, high + edge


def _strip(
    row: Mapping[str, Any] | None, seeds: Mapping[str, Mapping[int, float]], low: float, high: float
) -> dict[str, Any]:
    """Where the seeds, the mean and the interval of a cell lie; empty where there is no result."""
    if row is None or pd.isna(row["mean"]):
        return {}
    found: dict[str, Any] = {"seeds": [_place(v, low, high) for v in seeds.get(row["model"], {}).values()]}
    found["mean"] = _place(row["mean"], low, high)
    if not pd.isna(row["low"]):
        found["low"], found["high"] = _place(row["low"], low, high), _place(row["high"], low, high)
    return found


def _place(value: float, low: float, high: float) -> float:
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 1)


def level_rows(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per kind of level that any column has: heading, and texts by column; chance is in the table already."""
    rows = []
    for kind, heading in KINDS.items():
        if kind != "chance" and any(kind in column["levels"] for column in columns):
            texts = {column["at"]: column["levels"][kind] for column in columns if kind in column["levels"]}
            rows.append({"kind": kind, "heading": heading, "texts": texts})
    return rows


def legend(columns: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The kinds of lines that the strips have, with their names."""
    return [(kind, name) for kind, name in KINDS.items() if any(kind in column["lines"] for column in columns)]

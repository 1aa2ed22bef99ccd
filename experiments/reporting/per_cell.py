"""What a sweep chose, as the `per_cell` block of a table's YAML: nobody copies numbers by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from experiments.planning.hydra_values import override_key
from experiments.planning.plan import Plan
from experiments.planning.settings import Entry, TableSettings, row_of

PLAIN = re.compile(r"[\w.+/-]+=[\w.+/-]*")  # an override that YAML needs no quotes for


def per_cell_block(plan: Plan, best: Sequence[Mapping[str, Any]]) -> str:
    """The block, for conf/table/NAME.yaml: what the table has there, less what was tuned, and what was chosen.

    A choice that the table's other overrides give anyway is left out. A row stands under its label. One that would find
    the choice of another row under the name of its model gets an entry of its own, an empty one if need be.

    Args:
        plan: of the sweep; its table has the overrides of the table that was swept.
        best: rows of experiments.analysis.trials.BEST.
    """
    table = plan.table
    entries = {row_of(entry.label): entry for entry in table.entries()}
    found = {(row["task"], row["model"]): row for row in best}
    lines = [f"# Chosen by {table.name}, on validation; docs/sweeps.md", "per_cell:"]
    for task in table.tasks:
        rows = []
        told = {label: _overrides(table, entry, task, found.get((task, label))) for label, entry in entries.items()}
        for label, entry in entries.items():
            row = found.get((task, label))
            note = "  # edge: the best stands at an end of the range" if row is not None and row["edge"] else ""
            if not told[label] and not told.get(entry.model) and not note:
                continue
            values = ", ".join(word if PLAIN.fullmatch(word) else json.dumps(word) for word in told[label])
            key = yaml.safe_dump({label: 0}, allow_unicode=True, width=1000).rpartition(": 0")[0]
            rows.append(f"    {key}: [{values}]{note}")
        lines += [f"  {task}:" if rows else f"  {task}: {{}}", *rows]
    return "\n".join(lines) + "\n"


def _overrides(table: TableSettings, entry: Entry, task: str, row: Mapping[str, Any] | None) -> list[str]:
    """Of a cell: what the table has, with what was chosen in place of the same keys."""
    have = table.chosen(entry, task)
    if row is None or row["trial"] is None:
        return list(have)
    new = str(row["overrides"]).split()
    keys = {override_key(override) for override in new}
    general = [*table.overrides, *table.per_task.get(task, []), *table.per_model.get(entry.model, [])]
    given = {override_key(override): _value(override) for override in general}
    needed = [override for override in new if given.get(override_key(override), "") != _value(override)]
    return [*(override for override in have if override_key(override) not in keys), *needed]


def _value(override: str) -> str | float:
    text = override.partition("=")[2]
    try:
        return float(text)
    except ValueError:
        return text

"""What a sweep chose, as the `per_cell` block of a table's YAML: nobody copies numbers by hand."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.planning.hydra_values import override_key
from experiments.planning.plan import Plan
from experiments.planning.settings import Entry, TableSettings

PLAIN = re.compile(r"[\w.+/-]+=[\w.+/-]*")  # an override that YAML needs no quotes for


def per_cell_block(plan: Plan, best: Sequence[Mapping[str, Any]]) -> str:
    """The block, for conf/table/NAME.yaml: what the table has there, less what was tuned, and what was chosen.

    A choice that the table's other overrides give anyway is left out. Rows of one model under several labels share a
    cell of the block, so theirs are comments.

    Args:
        plan: of the sweep; its table has the overrides of the table that was swept.
        best: rows of experiments.analysis.trials.BEST.
    """
    table = plan.table
    entries = {entry.label.rsplit(" #", 1)[0]: entry for entry in table.entries()}
    shared = Counter(entry.model for entry in entries.values())
    found = {(row["task"], row["model"]): row for row in best}
    lines = [f"# Chosen by {table.name}, on validation; docs/sweeps.md", "per_cell:"]
    for task in table.tasks:
        rows = []
        for label, entry in entries.items():
            row = found.get((task, label))
            told = _overrides(table, entry, task, row)
            note = "  # edge: the best stands at an end of the range" if row is not None and row["edge"] else ""
            if not told and not note:
                continue
            values = f"[{', '.join(word if PLAIN.fullmatch(word) else json.dumps(word) for word in told)}]"
            name = entry.model if shared[entry.model] == 1 else f"# {label} ({entry.model})"
            rows.append(f"    {name}: {values}{note}")
        lines += [f"  {task}:" if any("#" not in row.partition(":")[0] for row in rows) else f"  {task}: {{}}", *rows]
    return "\n".join(lines) + "\n"


def _overrides(table: TableSettings, entry: Entry, task: str, row: Mapping[str, Any] | None) -> list[str]:
    """Of a cell: what the table has, with what was chosen in place of the same keys."""
    have = table.per_cell.get(task, {}).get(entry.model, [])
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

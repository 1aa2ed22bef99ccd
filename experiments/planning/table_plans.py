"""The plans of a table that lie in a results folder, and the one that is its committed reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from experiments.planning.plan import Plan, load_plan, plan_files
from experiments.planning.table_name import is_part


def newest_plan(folder: Path, table: str) -> Plan | None:
    """The plan of a table that was made (or asked for) last, or None."""
    return next(plans_of(folder, table), None)


def plans_of(folder: Path, table: str) -> Iterator[Plan]:
    """The plans of a table, the newest first, and then those of its parts."""
    files = list(reversed(plan_files(folder).items()))
    fits = [path for path, name in files if name == table]
    return map(load_plan, [*fits, *(path for path, name in files if is_part(name, table))])


def reference_of(name: str, folder: Path) -> tuple[Plan, Path] | None:
    """The plan of a table's reference and its results folder, the table's own or another one; None: there is none."""
    for root in dict.fromkeys([folder / name, *sorted(folder.glob("*/"))]):
        if (plan := newest_plan(root / "plans", name)) is not None:
            return plan, root
    return None

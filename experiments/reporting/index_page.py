"""The page over a results folder: its tables, its sweeps, its scale fits, and what there is of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from experiments.planning.plan import Plan
from experiments.reporting.html_page import page
from experiments.store import atomic_files as atomic
from experiments.store.store import Store

TEMPLATE = "index.html.j2"
NAME = "index.html"
FITS = "-scaling.csv"
TABLE_FILES = (".html", ".csv", ".md")
SWEEP_FILES = (".csv", "-best.csv", "-best-of-k.csv", "-per_cell.yaml")
FIGURES = 12  # that are named of a sweep or a fit


def write_index(tables: Sequence[Plan], sweeps: Sequence[Plan], store: Store) -> Path:
    """exports/index.html, with links to what lies beside it.

    Args:
        tables, sweeps: the plan to show of each name.
        store: where records and exports are.
    """
    folder = store.root / "exports"
    fits = sorted(path.name.removesuffix(FITS) for path in folder.glob(f"*{FITS}"))
    values = {
        "title": "Tables, sweeps and scale fits",
        "tables": [_table(plan, store) for plan in tables],
        "sweeps": [_sweep(plan, store) for plan in sweeps],
        "fits": [
            {"name": name, "links": _files(folder, name, ("-scaling*.csv",)) + _pictures(folder, name, "scaling-*.png")}
            for name in fits
        ],
    }
    target = folder / NAME
    atomic.write_text(target, page(values, TEMPLATE))
    return target


def _table(plan: Plan, store: Store) -> dict[str, Any]:
    name, table = plan.table.name, plan.table
    what = f"{_many(len(table.models), 'row')}, {', '.join(table.tasks)}; {_many(len(table.seeds), 'seed')}"
    return {
        "name": name,
        "what": f"{what}; budget {table.budget}",
        "links": _files(store.root / "exports", name, TABLE_FILES),
        "command": f"python -m experiments report table={name}",
        **_states(plan, store),
    }


def _sweep(plan: Plan, store: Store) -> dict[str, Any]:
    name, table, folder = plan.table.name, plan.table, store.root / "exports"
    models = dict.fromkeys(entry.model for entry in table.entries())
    return {
        "name": name,
        "what": f"{', '.join(models)} on {', '.join(table.tasks)}; budget {table.budget}",
        "links": _files(folder, name, SWEEP_FILES) + _pictures(folder, name, f"{name}-*.png"),
        "command": f"python -m experiments status table={name}",
        **_states(plan, store),
    }


def _states(plan: Plan, store: Store) -> dict[str, int]:
    """How many runs are done, failed, planned."""
    states = [store.status(spec.id) for spec in plan.unique()]
    failed = sum(state not in (None, "done") for state in states)
    return {"done": states.count("done"), "failed": failed, "planned": len(states)}


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'s'[: count != 1]}"


def _files(folder: Path, name: str, ends: Sequence[str]) -> list[tuple[str, str]]:
    """(text, address) of the files that are there; addresses are relative to the page."""
    return [_link(folder, path) for end in ends for path in sorted(folder.glob(f"{name}{end}"))]


def _pictures(folder: Path, name: str, pattern: str) -> list[tuple[str, str]]:
    return [_link(folder, path) for path in sorted((folder / "figures" / name).glob(pattern))[:FIGURES]]


def _link(folder: Path, path: Path) -> tuple[str, str]:
    return path.name, quote(str(path.relative_to(folder)))

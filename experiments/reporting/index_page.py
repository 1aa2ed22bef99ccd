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
SWEEP = "sweep-"
FITS = "-scaling.csv"


def write_index(plans: Sequence[Plan], store: Store) -> Path:
    """exports/index.html, with links to what lies beside it.

    Args:
        plans: the one to show of each name.
        store: where records and exports are.
    """
    folder = store.root / "exports"
    rows = [_row(plan, store) for plan in plans]
    fits = sorted(path.name.removesuffix(FITS) for path in folder.glob(f"*{FITS}"))
    values = {
        "title": "Tables, sweeps and scale fits",
        "tables": [row for row in rows if not row["name"].startswith(SWEEP)],
        "sweeps": [row for row in rows if row["name"].startswith(SWEEP)],
        "fits": [{"name": name, "links": _links(folder, name, ("-scaling*.csv",), "scaling-*.png")} for name in fits],
    }
    target = folder / NAME
    atomic.write_text(target, page(values, TEMPLATE))
    return target


def _row(plan: Plan, store: Store) -> dict[str, Any]:
    name, table = plan.table.name, plan.table
    specs = list(plan.unique())
    states = [store.status(spec.id) for spec in specs]
    return {
        "name": name,
        "what": f"{len(table.models)} rows, {', '.join(table.tasks)}; {len(table.seeds)} seeds; budget {table.budget}",
        "done": states.count("done"),
        "failed": sum(state not in (None, "done") for state in states),
        "planned": len(specs),
        "links": _links(store.root / "exports", name, (".html", ".csv", ".md", "-best.csv"), "*.png"),
        "command": f"python -m experiments report table={name}",
    }


def _links(folder: Path, name: str, ends: Sequence[str], figures: str) -> list[tuple[str, str]]:
    """(text, address) of the files that are there; addresses are relative to the page."""
    files = [path for end in ends for path in sorted(folder.glob(f"{name}{end}"))]
    files += sorted((folder / "figures" / name).glob(figures))[:12] if figures != "*.png" else []
    return [(path.name, quote(str(path.relative_to(folder)))) for path in files]

"""A table with its provenance as one self-contained HTML file. Runs nothing.

python -m experiments.report table=quick
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments import atomic
from experiments.cli import main
from experiments.plan import Plan
from experiments.records import Record
from experiments.render import Cell, Grid
from experiments.reproduce import prepare
from experiments.runs import Store
from experiments.table import Report, build

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .8em;border-bottom:1px solid
#ddd;text-align:right}
td:first-child,th:first-child{text-align:left}caption{text-align:left;font-weight:600}td{white-space:nowrap}"""


def report(arguments: Sequence[str]) -> int:
    """Write <results_dir>/exports/<table>.html.

    Raises:
        UserError: see experiments.reproduce.
    """
    plan, _, store, _ = prepare(arguments)
    print(f"written: {write_html(plan, store)}")
    return 0


def write_html(plan: Plan, store: Store) -> Path:
    """The page of a plan from the records there are."""
    built = build(plan, store)
    records = list(store.records(spec.id for spec in plan.unique()).values())
    grids = [built.results, built.costs, built.measured, provenance_grid(records), runs_grid(plan, store)]
    target = store.root / "exports" / f"{plan.table.name}.html"
    atomic.write_text(target, page(plan.table.name, built, grids))
    return target


def page(name: str, built: Report, grids: Sequence[Grid]) -> str:
    """The whole page."""
    title = f"Table {escape(name)}"
    header = "".join(f"<p>{escape(line)}</p>" for line in built.header)
    notes = "".join(f"<li>{escape(note)}</li>" for note in built.notes)
    body = f"<h1>{title}</h1>{header}{_table(grids[0])}<ul>{notes}</ul>{''.join(_table(g) for g in grids[1:])}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def provenance_grid(records: Sequence[Record]) -> Grid:
    """What the records say of sources, versions and hardware, each distinct answer once."""
    answers: dict[str, set[str]] = {}
    for record in records:
        origin = record.provenance
        dirty = " (with changes)" if origin.git_dirty else ""
        answers.setdefault("commit", set()).add(f"{origin.git_commit or 'none'}{dirty}")
        answers.setdefault("sources", set()).add(origin.code_fingerprint)
        answers.setdefault("hardware", set()).add(f"{origin.cpu}, {origin.cores} cores, {origin.accelerator}")
        answers.setdefault(f"data of {record.spec.task}", set()).add(record.spec.data_fingerprint[:16])
        for package, version in origin.versions.items():
            answers.setdefault(package, set()).add(version)
    rows = [[Cell(key), Cell("; ".join(sorted(values)))] for key, values in answers.items()]
    return Grid("Provenance", ["what", "answer"], rows)


def runs_grid(plan: Plan, store: Store) -> Grid:
    """Every run of the plan and its state."""
    rows = [
        [Cell(text) for text in (spec.id, spec.model, spec.task, str(spec.seed), store.state(spec.id))]
        for spec in plan.runs
    ]
    return Grid("Runs", ["id", "model", "task", "seed", "state"], rows)


def _table(grid: Grid) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in grid.columns)
    rows = "".join(f"<tr>{''.join(_td(cell) for cell in row)}</tr>" for row in grid.rows)
    return f"<table><caption>{escape(grid.title)}</caption><tr>{head}</tr>{rows}</table>"


def _td(cell: Cell) -> str:
    text = escape(cell.text)
    return f"<td><b>{text}</b></td>" if cell.bold else f"<td>{text}</td>"


if __name__ == "__main__":
    main(lambda: report(sys.argv[1:]))

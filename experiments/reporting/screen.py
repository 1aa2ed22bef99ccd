"""Tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.reporting.grid import Cell, Grid
from experiments.reporting.table import Report

WIDE = 200  # columns of a pipe or a file, which wrap nothing


def wide_console(console: Console | None = None, width: int = WIDE) -> Console:
    """The console as it is if it is a terminal, else one of the same file that is wide enough for our tables."""
    console = console or Console()
    return console if console.is_terminal else Console(file=console.file, width=width, highlight=False)


def show(report: Report, name: str, console: Console | None = None) -> None:
    """Print the report; a pipe gets the whole width."""
    console = wide_console(console)
    console.print(f"\n[bold]Table {escape(name)}[/bold]")
    for line in report.header:
        console.print(escape(line), highlight=False)
    for grid in (report.results, report.overall, report.costs, *report.pace, report.measured):
        if grid is None:
            continue
        console.print(rich_table(grid))
    notes = Table.grid(padding=(0, 1))
    for note in report.notes:
        notes.add_row("-", escape(note))
    console.print(notes, highlight=False)


def rich_table(grid: Grid) -> Table:
    """A grid as rich draws it."""
    table = Table(title=grid.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(grid.columns):
        table.add_column(escape(column), justify="left" if number == 0 else "right", overflow="fold")
    heads = dict(grid.groups)
    for number, row in enumerate(grid.rows):
        if number in heads:
            table.add_section()
            table.add_row(f"[italic]{escape(heads[number])}[/italic]")
        table.add_row(*(_markup(cell) for cell in row))
    return table


def _markup(cell: Cell) -> str:
    text = escape(cell.text)
    return f"[bold]{text}[/bold]" if cell.bold else text


def show_rows(rows: list[dict[str, Any]], columns: list[str], title: str) -> None:
    """Print rows as a table."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3g}" if abs(value) >= 1e5 else f"{value:.4f}"
        return "" if value is None else str(value)

    cells = [[Cell(text(row[column])) for column in columns] for row in rows]
    wide_console().print(rich_table(Grid(title, columns, cells)))

"""A report on the console."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.reporting.grid import Cell, Grid
from experiments.reporting.table import Report


def show(report: Report, name: str, console: Console | None = None) -> None:
    """Print the report; a pipe gets the whole width."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=200, highlight=False)
    console.print(f"\n[bold]Table {escape(name)}[/bold]")
    for line in report.header:
        console.print(escape(line), highlight=False)
    for grid in (report.results, report.overall, report.costs, report.measured):
        if grid is None:
            continue
        console.print(rich_table(grid))
    for note in report.notes:
        console.print(f"- {escape(note)}", highlight=False)


def rich_table(grid: Grid) -> Table:
    """A grid as rich draws it."""
    table = Table(title=grid.title, title_justify="left")
    for number, column in enumerate(grid.columns):
        table.add_column(escape(column), justify="left" if number == 0 else "right")
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

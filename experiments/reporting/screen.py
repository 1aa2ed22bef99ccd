"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from experiments.reporting.grid import Cell, Grid
from experiments.reporting.table import Report

WIDE = 200  # columns of a pipe or a file, which wrap nothing
WIDE_ENOUGH = 110  # columns of a terminal that has room for whole ids
FEWEST = 8  # characters of a run's id that are shown
WHOLE = 20  # characters of a text that is never broken
Padding = tuple[int, int, int, int]  # rich's: top, right, bottom, left
GAPS: tuple[Padding, ...] = ((0, 1, 0, 1), (0, 1, 0, 0), (0, 0, 0, 0))  # three blanks between columns, two, one


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


def rich_table(grid: Grid, left: Collection[str] = ()) -> Fitted:
    """A grid as rich draws it, as wide as the console; columns of words are `left`, as the first one is."""
    return Fitted(grid, {grid.columns[0], *left})


class Fitted:
    """A grid whose words and figures stay whole: where it is too wide, columns come closer, then stand in parts.

    Each part repeats the first column, which names the rows.
    """

    def __init__(self, grid: Grid, left: Collection[str]) -> None:
        self.grid, self.left = grid, left

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich.console.Console."""
        room, every = options.max_width, list(range(len(self.grid.columns)))
        for padding in GAPS:
            if (widths := self._widths(every, padding, room)) is not None:
                yield self._table(every, widths, padding, self.grid.title)
                return
        title = self.grid.title
        for part in self._parts(GAPS[0], room):
            widths = self._widths(part, GAPS[0], room) or [None] * len(part)
            yield self._table(part, widths, GAPS[0], title)
            title = ""

    def _parts(self, padding: Padding, room: int) -> list[list[int]]:
        """Columns that fit beside one another, the first column in each part; at least one other in each."""
        parts: list[list[int]] = []
        for at in range(1, len(self.grid.columns)):
            if parts and self._widths([*parts[-1], at], padding, room) is not None:
                parts[-1].append(at)
            else:
                parts.append([0, at])
        return parts

    def _widths(self, columns: Sequence[int], padding: Padding, room: int) -> list[int | None] | None:
        """The width of each column, texts of up to `WHOLE` characters unbroken; None if they do not fit."""
        heads = [self.grid.columns[at] for at in columns]
        texts = [[row[at].text for row in self.grid.rows if at < len(row)] for at in columns]
        least = [
            max([_word(head), *(cell_len(t) if cell_len(t) <= WHOLE else _word(t) for t in column)])
            for head, column in zip(heads, texts, strict=True)
        ]
        most = [max(map(cell_len, [head, *column])) for head, column in zip(heads, texts, strict=True)]
        spare = room - 2 - sum(least) - (1 + padding[1] + padding[3]) * (len(columns) - 1)
        if spare < 0:
            return None
        widths: list[int | None] = []
        for low, high in zip(least, most, strict=True):
            more = min(spare, high - low)
            widths.append(low + more)
            spare -= more
        return widths

    def _table(self, columns: Sequence[int], widths: Sequence[int | None], padding: Padding, title: str) -> Table:
        table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=padding)
        for at, width in zip(columns, widths, strict=True):
            side: Literal["left", "right"] = "left" if self.grid.columns[at] in self.left else "right"
            table.add_column(escape(self.grid.columns[at]), justify=side, overflow="fold", width=width)
        heads = dict(self.grid.groups)
        for number, row in enumerate(self.grid.rows):
            if number in heads:
                table.add_section()
                table.add_row(f"[italic]{escape(heads[number])}[/italic]")
            table.add_row(*(_markup(row[at]) for at in columns if at < len(row)))
        return table


def shortest(ids: Iterable[str], among: Iterable[str]) -> dict[str, str]:
    """The first characters of each id that name no other run; of all equally many, and never fewer than `FEWEST`."""
    every = {*ids, *among}
    length = FEWEST
    while len({run[:length] for run in every}) < len(every):
        length += 1
    return {run: run[:length] for run in every}


def _word(text: str) -> int:
    """The length of the longest word."""
    return max(map(cell_len, text.split()), default=0)


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

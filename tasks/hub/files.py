"""Rows of local files, of whatever kind: a row has the columns that its task declares, all of them and no other.

So no kind of file can bring a column that another kind lacks: what a task does not declare it never sees, and what may
be absent is None in every kind. Texts are UTF-8, with or without a byte order mark; CRLF is read as LF.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Parser = Callable[[str], Iterable[tuple[int, dict[str, Any]]]]  # text -> (line number, row)

ROW_KINDS = (".parquet", ".arrow", ".jsonl", ".json", ".tsv", ".csv")
TEXT_KINDS = (".txt", ".tokens", ".raw")
READABLE = (*ROW_KINDS, *TEXT_KINDS)  # each of them may be compressed: .gz behind it
SAME_KIND = {".ndjson": ".jsonl", ".jsonlines": ".jsonl"}


class DataError(ValueError):
    """Data that cannot be used: one line that names the file and the row."""


class MissingData(DataError):
    """Data that are not there, rather than broken."""


class Skip(Exception):
    """This row is left out; the text is the reason under which it is counted."""


class Row(NamedTuple):
    """One row: the file (or data set) and its number there (rows from 0, lines of text files from 1)."""

    file: str
    number: int
    values: dict[str, Any]

    @property
    def place(self) -> str:
        """Where it stands, for an error."""
        return f"{self.file}, row {self.number}"

    def need(self, column: str, kind: type[T]) -> T:
        """The value of a column. Raises DataError unless it is of the kind."""
        value = self.values[column]
        if not isinstance(value, kind):
            raise DataError(
                f"{self.place}: column '{column}' must be {kind.__name__}, found {type(value).__name__} ({value!r:.60})"
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The columns that a task reads.

    Attributes:
        columns: every row must have them.
        optional: rows may have them; None where not.
        nested: those of both whose values are lists, objects or truth values: JSON in a cell of a .tsv or .csv.
        header: names of the cells of a .tsv or .csv without a header line.
        parse: reads plain text files; None: there are none.
    """

    columns: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    parse: Parser | None = None

    @property
    def known(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.columns, *self.optional)


def declared(row: Row, schema: Schema) -> Row:
    """The row with the declared columns. Raises DataError when a needed one is missing or null."""
    for column in schema.columns:
        if column not in row.values:
            raise DataError(f"{row.place}: column '{column}' is missing; columns: {', '.join(row.values) or 'none'}")
        if row.values[column] is None:
            raise DataError(f"{row.place}: column '{column}' is null")
    return row._replace(values={column: row.values.get(column) for column in schema.known})


def kind_of(path: Path) -> str:
    """The kind of a file by its ending, in lower case, without .gz; empty if it has none."""
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    return SAME_KIND.get(suffix, suffix)


def read_file(path: Path, schema: Schema) -> Iterator[Row]:
    """Rows of one file, each with the declared columns.

    Raises DataError on a file that is broken, of an unknown kind, or lacks a column.
    """
    # Each kind's library is loaded where it is needed only: pyarrow takes a while.
    from tasks.hub import kinds

    kind = kind_of(path)
    if kind in kinds.READERS:
        rows = kinds.READERS[kind](path, schema)
    elif schema.parse is not None and kind in (*READABLE, ""):
        rows = (Row(str(path), number, values) for number, values in schema.parse(kinds.read_text(path)))
    else:
        raise DataError(f"{path}: cannot be read here; kinds: {', '.join(READABLE if schema.parse else ROW_KINDS)}")
    for row in rows:
        yield declared(_with_json(row, schema) if kind in (".tsv", ".csv") else row, schema)


def _with_json(row: Row, schema: Schema) -> Row:
    """A row of cells with the nested columns read as JSON; an empty cell of a column that may be absent is None."""
    values: dict[str, Any] = dict(row.values)
    for column in schema.known:
        cell = values.get(column)
        if column in schema.optional and cell == "":
            values[column] = None
        elif column in schema.nested and cell is not None:
            values[column] = _json_cell(row, column, cell)
    return row._replace(values=values)


def _json_cell(row: Row, column: str, cell: str) -> Any:
    words: Mapping[str, bool] = {"true": True, "false": False}
    if cell.strip().lower() in words:
        return words[cell.strip().lower()]
    try:
        return json.loads(cell)
    except (json.JSONDecodeError, RecursionError):
        raise DataError(f"{row.place}: column '{column}' must be JSON in a cell, found {cell!r:.60}") from None


def whole(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """A parser: plain text as one row."""
    yield 1, {"text": text}

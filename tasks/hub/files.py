"""Rows of local files, each with the file and the number that an error can name."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

READABLE = (".parquet", ".jsonl", ".json", ".tsv", ".csv", ".txt", ".tokens")

T = TypeVar("T")
Parser = Callable[[str], Iterable[tuple[int, dict[str, Any]]]]  # text -> (line number, row)


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


def checked(row: Row, columns: Sequence[str]) -> Row:
    """The row. Raises DataError when a needed column is missing or null."""
    for column in columns:
        if column not in row.values:
            raise DataError(f"{row.place}: column '{column}' is missing; columns: {', '.join(row.values) or 'none'}")
        if row.values[column] is None:
            raise DataError(f"{row.place}: column '{column}' is null")
    return row


def read_file(
    path: Path, columns: Sequence[str], header: Sequence[str] = (), parse: Parser | None = None
) -> Iterator[Row]:
    """Rows of one file; only parquet reads no other columns than those needed.

    Raises DataError on a file that is broken, of an unknown kind, or lacks a column.
    """
    readers: dict[str, Callable[[], Iterator[Row]]] = {
        ".parquet": lambda: _parquet(path, columns),
        ".jsonl": lambda: _json_lines(path),
        ".json": lambda: _json(path),
        ".tsv": lambda: _table(path, "\t", header),
        ".csv": lambda: _table(path, ",", header),
    }
    if path.suffix in readers:
        rows = readers[path.suffix]()
    elif parse is not None and path.suffix in READABLE:
        rows = (Row(str(path), number, values) for number, values in parse(read_text(path)))
    else:
        raise DataError(f"{path}: cannot be read here; kinds: {', '.join(READABLE[: -1 if parse else -2])}")
    for row in rows:
        yield checked(row, columns)


def read_text(path: Path) -> str:
    """A text file, line ends as they are. Raises DataError when it is not UTF-8, or cannot be read."""
    try:
        data = path.read_bytes()
        return data.decode()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 (byte {error.start}); convert the file first") from None


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            have = file.schema_arrow.names
            for column in columns:
                if column not in have:
                    raise DataError(f"{path}: column '{column}' is missing; columns: {', '.join(have) or 'none'}")
            for batch in file.iter_batches(batch_size=4096, columns=list(columns)):
                for values in batch.to_pylist():
                    yield Row(str(path), number, values)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path}: broken parquet at row {number} or in its footer: {first:.120}") from None


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield Row(str(path), number, _object(path, number, line))


def _json(path: Path) -> Iterator[Row]:
    """A list of objects, or objects in lines."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        yield from _json_lines(path)
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: no JSON: {error.msg}") from None
    for number, values in enumerate(rows):
        if not isinstance(values, dict):
            raise DataError(f"{path}, row {number}: must be an object, found {values!r:.60}")
        yield Row(str(path), number, values)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, row {number}: no JSON: {error.msg}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}, row {number}: must be an object, found {values!r:.60}")
    return values


def _table(path: Path, delimiter: str, header: Sequence[str]) -> Iterator[Row]:
    """Delimited text; `header` names the columns where the file's first line does not."""
    csv.field_size_limit(sys.maxsize)
    names: list[str] = []
    lines = io.StringIO(read_text(path), newline="")
    plain = delimiter == "\t"  # tab-separated files do not quote
    table = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL)
    for number, cells in enumerate(table, start=1):
        if not names:
            names = list(header) if header and cells != list(header) else cells
            if names is cells:
                continue
        if len(cells) != len(names):
            raise DataError(f"{path}, row {number}: {len(cells)} columns, not {len(names)} ({', '.join(names)})")
        yield Row(str(path), number, dict(zip(names, cells, strict=True)))

"""One reader for each kind of file; all give the same rows for the same data. See `tasks.hub.files`."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.hub.files import DataError, Row, Schema

BATCH = 4096  # rows that are in memory at a time


def read_bytes(path: Path) -> bytes:
    """A file, unpacked if its name ends in .gz. Raises DataError when it cannot be read or is broken."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.name.lower().endswith(".gz") else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: broken gzip: {error!s:.120}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: Path, ends: bool = False) -> str:
    """A text file without its byte order mark, CRLF as LF unless `ends`. Raises DataError when it is not UTF-8."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 (byte {error.start}); convert the file first") from None
    return text if ends else text.replace("\r\n", "\n")


def _parquet(path: Path, schema: Schema) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        source = pa.BufferReader(read_bytes(path)) if path.name.lower().endswith(".gz") else path
        with pq.ParquetFile(source) as file:
            wanted = _wanted(path, file.schema_arrow.names, schema)
            for batch in file.iter_batches(batch_size=BATCH, columns=wanted):
                for values in batch.to_pylist():
                    yield Row(str(path), number, values)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, "parquet", number, error) from None


def _arrow(path: Path, schema: Schema) -> Iterator[Row]:
    """What `datasets` saves: an Arrow stream; or the file form, which ends in an index."""
    import pyarrow as pa

    number = 0
    try:
        data = pa.BufferReader(read_bytes(path)) if path.name.lower().endswith(".gz") else pa.memory_map(str(path))
        with data:
            for batch in _arrow_batches(pa, data):
                wanted = _wanted(path, batch.schema.names, schema)
                for start in range(0, batch.num_rows, BATCH):
                    for values in batch.select(wanted).slice(start, BATCH).to_pylist():
                        yield Row(str(path), number, values)
                        number += 1
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, "Arrow", number, error) from None


def _arrow_batches(pa: Any, data: Any) -> Iterable[Any]:
    if data.size() >= 6 and data.read_at(6, 0) == b"ARROW1":
        file = pa.ipc.open_file(data)
        return (file.get_batch(number) for number in range(file.num_record_batches))
    return iter(pa.ipc.open_stream(data))


def _wanted(path: Path, have: list[str], schema: Schema) -> list[str]:
    """The declared columns that a file has. Raises DataError when one that must be there is not."""
    for column in schema.columns:
        if column not in have:
            raise DataError(f"{path}: column '{column}' is missing; columns: {', '.join(have) or 'none'}")
    return [column for column in schema.known if column in have]


def _broken(path: Path, kind: str, number: int, error: Exception) -> DataError:
    first = (str(error).splitlines() or [""])[0]
    return DataError(f"{path}: broken {kind} at row {number} or in its footer: {first:.120}")


def _json(path: Path, schema: Schema) -> Iterator[Row]:
    """Objects in lines; or one list of objects; or one object whose `data` is such a list, however it is laid out."""
    text = read_text(path)
    first, _, rest = text.strip().partition("\n")
    if not first or (rest and isinstance(_value(first), dict)):
        yield from _json_lines(path, text)
        return
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        if first.startswith("{") and rest.lstrip().startswith("{"):  # lines, of which the first is torn
            yield from _json_lines(path, text)
        raise DataError(f"{path}, line {getattr(error, 'lineno', 1)}: no JSON: {_why(error)}") from None
    if isinstance(found, dict):
        inner = found.get("data") if "data" not in schema.known else None
        if not isinstance(inner, list):
            yield Row(str(path), 1, _object(path, 1, found, _halves(text)))
            return
        found = inner
    if not isinstance(found, list):
        raise DataError(f"{path}: must be a list of objects, found {found!r:.60}")
    halves = _halves(text)
    for number, values in enumerate(found):
        yield Row(str(path), number, _object(path, number, values, halves))


def _halves(text: str) -> bool:
    """Whether there are escapes of half characters, which come in pairs."""
    return "\\ud" in text or "\\uD" in text


def _value(text: str) -> Any:
    """The value, or None where the text is no JSON."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None


def _why(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "too many brackets"


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    halves = _halves(text)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise DataError(f"{path}, row {number}: no JSON: {_why(error)}") from None
            yield Row(str(path), number, _object(path, number, values, halves))


def _object(path: Path, number: int, values: Any, halves: bool) -> dict[str, Any]:
    """The object. Raises DataError when it is none, or, where `halves` may be, has half a character."""
    if not isinstance(values, dict):
        raise DataError(f"{path}, row {number}: must be an object, found {values!r:.60}")
    try:
        if halves:
            json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}, row {number}: half a character: an escape of \\ud800 to \\udfff by itself") from None
    return values


def _table(path: Path, schema: Schema, delimiter: str) -> Iterator[Row]:
    """Delimited text; `header` names the columns where the file's first line does not. Blank lines are no rows."""
    csv.field_size_limit(sys.maxsize)
    plain = delimiter == "\t"  # tab-separated files do not quote
    lines = io.StringIO(read_text(path, ends=True), newline="")  # a quoted cell may have line ends of its own
    if plain:
        table = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        table = csv.reader(lines, delimiter=delimiter, strict=True)
    names: list[str] = []
    number = 0
    try:
        for number, cells in enumerate(table, start=1):
            if not cells or (len(cells) == 1 and len(names) != 1 and not cells[0].strip()):
                continue
            if not names:
                named = not schema.header or set(cells) == set(schema.header)
                names = cells if named else list(schema.header)
                if len(set(names)) != len(names):
                    raise DataError(f"{path}, row {number}: two columns of one name ({', '.join(names)})")
                if named:
                    continue
            if len(cells) != len(names):
                raise DataError(f"{path}, row {number}: {len(cells)} columns, not {len(names)} ({', '.join(names)})")
            yield Row(str(path), number, dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}, row {number + 1}: broken table: {error}") from None


Reader = Callable[[Path, Schema], Iterator[Row]]
READERS: Mapping[str, Reader] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".jsonl": _json,
    ".json": _json,
    ".tsv": lambda path, schema: _table(path, schema, "\t"),
    ".csv": lambda path, schema: _table(path, schema, ","),
}

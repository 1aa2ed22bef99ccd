"""The parquet files of an archive (store/archive.py): item scores, logs and graphs, as small as parquet makes them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.store.archive import Line, log_line

TEXT, NUMBER = pa.dictionary(pa.int32(), pa.string()), pa.float64()
ITEM = {"id": TEXT, "field": TEXT, "split": TEXT, "values": pa.list_(NUMBER)}
STEP = {"id": TEXT, "line": pa.int32(), "step": pa.int64(), "key": TEXT, "value": NUMBER, "raw": pa.binary()}
GRAPH = {"id": TEXT, "data": pa.binary()}
PAGE = 1 << 26  # bytes: a column of numbers is one page, which compresses best; an archive is read whole anyway
PLACES = {"values": "values.list.element", "value": "value"}  # of the columns of numbers, as parquet calls them


def write_columns(folder: Path, items: list[Line], logs: Mapping[str, bytes], graphs: Mapping[str, bytes]) -> None:
    """Write items.parquet, steps.parquet and graphs.parquet, each where there is something for it.

    Args:
        folder: of the archive.
        items: rows of ITEM, sorted by run.
        logs: metrics.jsonl of each run.
        graphs: graph.json of each run.
    """
    steps = [row for run, log in sorted(logs.items()) for row in _step_rows(run, log)]
    drawn = [{"id": run, "data": data} for run, data in sorted(graphs.items())]
    for name, types, rows in (("items", ITEM, items), ("steps", STEP, steps), ("graphs", GRAPH, drawn)):
        if rows:
            _write_smallest(pa.Table.from_pylist(rows, pa.schema(list(types.items()))), folder / f"{name}.parquet")


def _step_rows(run: str, log: bytes) -> list[Line]:
    """The rows of a run's log, by key, since numbers of one key are alike and compress better, then by line.

    A line that would not come back from columns, byte by byte, is kept as it is.
    """
    lines = [(text, _numbers(text)) for text in log.splitlines(keepends=True)]
    places = _places([list(values) for _, values in lines if values is not None])
    rows: list[Line] = []
    for number, (text, values) in enumerate(lines):
        row = {"id": run, "line": number, "step": None, "key": None, "value": None, "raw": None}
        keys = [key for key in values or {} if key != "step"]
        if values is None or keys != sorted(keys, key=places.__getitem__):
            rows.append({**row, "raw": text})
        else:
            rows += [{**row, "step": values["step"], "key": key, "value": values[key]} for key in keys]
            rows += [] if keys else [{**row, "step": values["step"]}]
    return sorted(rows, key=lambda row: (places.get(row["key"], -1), row["line"]))


def _numbers(text: bytes) -> Line | None:
    """The step of a line and its numbers; None where the line would not come back from them."""
    try:
        values: Line = json.loads(text)
        step, rest = values["step"], {key: value for key, value in values.items() if key != "step"}
        fits = type(step) is int and all(type(value) is float for value in rest.values())
        fits = fits and log_line({"step": step, **rest}) == text and abs(step) < 1 << 62
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return values if fits else None


def _places(lines: list[list[str]]) -> dict[str, int]:
    """One order of the keys of all lines: a key that is new in a line stands behind the one before it there."""
    order: list[str] = []
    for keys in dict.fromkeys(map(tuple, lines)):
        last = -1
        for key in keys:
            if key not in order:
                order.insert(last + 1, key)
            last = order.index(key)
    return {key: place for place, key in enumerate(order)}


def _write_smallest(table: pa.Table, path: Path) -> None:
    """Write a table, its numbers in a dictionary, which suits few values, or split by bytes, whichever is smaller."""
    words = [field.name for field in table.schema if field.type == TEXT]
    apart = {place: "BYTE_STREAM_SPLIT" for name, place in PLACES.items() if name in table.column_names}
    found = []
    for options in ({}, {"use_dictionary": words, "column_encoding": apart}):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="brotli", compression_level=11, data_page_size=PAGE, **options)
        found.append(sink.getvalue())
    path.write_bytes(min(found, key=len))

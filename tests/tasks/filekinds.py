"""The same rows in every kind of file that people have them in."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = list[dict[str, Any]]
BOM = b"\xef\xbb\xbf"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(rows: Rows, delimiter: str, end: str = "\n") -> bytes:
    """Without quotes where cells are parted by tabs."""
    text = io.StringIO(newline="")
    plain = {"quoting": csv.QUOTE_NONE, "quotechar": None} if delimiter == "\t" else {}
    out = csv.writer(text, delimiter=delimiter, lineterminator=end, **plain)  # type: ignore[arg-type]
    out.writerow(rows[0])
    out.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue().encode()


def stream(rows: Rows, file: bool = False) -> bytes:
    """Arrow, as a stream or with an index behind it."""
    sink, found = io.BytesIO(), pa.Table.from_pylist(rows)
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(sink, found.schema) as writer:
        writer.write_table(found, max_chunksize=7)
    return sink.getvalue()


def saved(folder: Path, split: str, rows: Rows) -> None:
    """What `datasets` saves, in two shards."""
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / split), num_shards=min(2, len(rows)))


def shards(folder: Path, split: str, rows: Rows) -> None:
    half = max(1, len(rows) // 2)
    for number, part in enumerate((rows[:half], rows[half:])):
        if part:
            (folder / f"{split}-{number:05}-of-0000{1 + (len(rows) > 1)}.parquet").write_bytes(parquet(part))


def converted(folder: Path, split: str, rows: Rows) -> None:
    """The layout of the hub's own parquet copies."""
    (folder / split).mkdir()
    (folder / split / "0000.parquet").write_bytes(parquet(rows))


def _file(ending: str, make: Callable[[Rows], bytes]) -> Callable[[Path, str, Rows], None]:
    return lambda folder, split, rows: void((folder / f"{split}{ending}").write_bytes(make(rows)))


def void(_: object) -> None:
    return None


KINDS: Mapping[str, Callable[[Path, str, Rows], None]] = {
    "parquet": _file(".parquet", parquet),
    "jsonl": _file(".jsonl", jsonl),
    "JSONL": _file(".JSONL", jsonl),
    "ndjson": _file(".ndjson", jsonl),
    "jsonl, escaped": _file(".jsonl", lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    "jsonl, BOM, CRLF, blank lines": _file(".jsonl", lambda rows: BOM + jsonl(rows).replace(b"\n", b"\r\n\r\n")),
    "json, list": _file(".json", lambda rows: json.dumps(rows).encode()),
    "json, list laid out, BOM": _file(".json", lambda rows: BOM + json.dumps(rows, indent=2).encode()),
    "json, data laid out": _file(".json", lambda rows: json.dumps({"version": "1", "data": rows}, indent=1).encode()),
    "json, data, CRLF": _file(".json", lambda r: json.dumps({"data": r}, indent=1).replace("\n", "\r\n").encode()),
    "json, data in lines": _file(
        ".json", lambda rows: b'{"data": [\n' + jsonl(rows).strip().replace(b"\n", b",\n") + b"\n]}"
    ),
    "json, lines": _file(".json", jsonl),
    "csv": _file(".csv", lambda rows: table(rows, ",")),
    "csv, BOM, CRLF": _file(".csv", lambda rows: BOM + table(rows, ",", "\r\n")),
    "csv, blank lines": _file(".csv", lambda rows: b"\n" + table(rows, ",", "\n\n") + b"\n"),
    "tsv": _file(".tsv", lambda rows: table(rows, "\t")),
    "tsv, BOM, CRLF": _file(".tsv", lambda rows: BOM + table(rows, "\t", "\r\n")),
    "tsv, blank lines": _file(
        ".tsv", lambda rows: b"\n" + table(rows, "\t", "\n\n") + (b" \n" if len(rows[0]) > 1 else b"\n")
    ),
    "arrow stream": _file(".arrow", stream),
    "arrow file": _file(".arrow", lambda rows: stream(rows, file=True)),
    "saved folder": saved,
    "shards": shards,
    "SPLIT/0000.parquet": converted,
    "parquet.gz": _file(".parquet.gz", lambda rows: gzip.compress(parquet(rows))),
    "arrow.gz": _file(".arrow.gz", lambda rows: gzip.compress(stream(rows))),
    "jsonl.gz": _file(".jsonl.gz", lambda rows: gzip.compress(jsonl(rows))),
    "json.gz": _file(".json.gz", lambda rows: gzip.compress(json.dumps(rows).encode())),
    "csv.gz": _file(".csv.gz", lambda rows: gzip.compress(table(rows, ","))),
    "tsv.gz": _file(".TSV.GZ", lambda rows: gzip.compress(BOM + table(rows, "\t"))),
}

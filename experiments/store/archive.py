"""The compact form of a results folder, read-only: records as text, what is long in parquet, everything stored once.

    <results_dir>/archive/  archive.json     the sha256 of every other file
                            records.jsonl.gz a line per record, without its spec, item scores and weights; by id
                            specs.jsonl.gz   a line per different spec; records and plans name it by its hash
                            parts.jsonl.gz   a line per part that several specs or records have in common
                            plans.jsonl.gz   a line per plan
                            items.parquet    item scores and weights: a row per run and split
                            steps.parquet    metrics.jsonl: a row per run, key and line
                            graphs.parquet   graph.json
                            derived/         per plan: cells, item intervals, curves, as the records gave them; gzip
                            exports/         as they were; timings/, too

Nothing is lost: a record comes back with the bytes that its content hash was taken of, and is checked against it when
it is read; so are logs and graphs. `store/pack.py` writes the folder. It is replaced by renames (`archive` goes to
`archive.old`, the new one comes), so where `archive` is missing, `archive.old` is what there is.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from experiments.store import seal
from experiments.store.shared_parts import whole

if TYPE_CHECKING:
    import pyarrow as pa

NAME, OLD, INDEX = "archive", "archive.old", "archive.json"
# All are read: 4 has logs line by line, 3 plain records, 2 nothing gzipped, 1 no parts, and validation in the records.
SCHEMA = 5
COUNTS = ("counted_forward", "counted_train")  # of a spec's cost: counted by the run, so they differ from the plan's
LONG = ("items", "item_weights", "validation")  # fields of a record whose lists of numbers lie in items.parquet
LINES = ("records.jsonl", "specs.jsonl", "parts.jsonl", "plans.jsonl")
ZIPPED = (*LINES, "derived/")  # starts of the names of files that are gzipped
Line = dict[str, Any]


class Archive:
    """An archive as it lies on the disk. Files are read when they are asked for.

    Attributes:
        folder: where it lies.
        files: the sha256 of each of its files, by name.
    """

    def __init__(self, folder: Path) -> None:
        """Read the list of files.

        Raises:
            UserError: it cannot be read, or is of another schema.
        """
        self.folder = folder
        try:
            index = json.loads((folder / INDEX).read_bytes())
            self.files: dict[str, str] = {str(name): str(total) for name, total in index["files"].items()}
            if outside := [name for name in self.files if not _inside(name)]:
                raise ValueError(f"it names {outside[0]!r}")
            if index["schema_version"] not in range(1, SCHEMA + 1):
                raise UserError(f"{folder} has schema {index['schema_version']}, this is {SCHEMA}: take newer sources")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / INDEX} cannot be read ({error}); take the archive anew") from None

    @classmethod
    def at(cls, root: Path) -> Archive | None:
        """The archive of a results folder; None if it has none."""
        sure = (INDEX, "records.jsonl", "records.jsonl.gz")  # any folder may be called archive
        folder = next((p for p in (root / NAME, root / OLD) if any((p / file).exists() for file in sure)), None)
        return None if folder is None else cls(folder)

    def faults(self) -> Iterator[str]:
        """Which files are not what was packed, and which lines cannot be read."""
        for name, total in self.files.items():
            try:
                same = hashlib.sha256((self.folder / name).read_bytes()).hexdigest() == total
            except OSError as error:
                yield f"{self.folder.name}/{name} cannot be read ({error.strerror})"
                continue
            if not same:
                yield f"{self.folder.name}/{name} is not what was packed"
        for name in LINES:
            for number, line in enumerate(self.data(name).splitlines(), start=1):
                if _parsed(line, any_value=name == "parts.jsonl") is None:
                    yield f"line {number} of {self.folder.name}/{name} cannot be read"

    @functools.cached_property
    def damage(self) -> list[str]:
        """The faults as they were when it was first asked for."""
        return list(self.faults())

    # records

    @property
    def ids(self) -> list[str]:
        """The runs it has."""
        return list(self._lines)

    def __contains__(self, run: str) -> bool:
        return run in self._lines

    def record(self, run: str) -> bytes:
        """The line of a run's record, as it was sealed.

        Raises:
            ValueError: parts of it are missing, or cannot be read.
        """
        line = self._lines[run]
        with damaged(f"the record of run {run}"):
            values = {**whole(line["record"], self._parts), "spec": self._spec(line["spec"])}
            for row in self._rows("items.parquet", run):
                values[row["field"]] = {**(values[row["field"]] or {}), row["split"]: row["values"]}
            return seal.line_of(values, line["seal"])

    def log(self, run: str) -> bytes:
        """metrics.jsonl of a run; empty if it has none.

        Raises:
            ValueError: it is not what was packed.
        """
        with damaged(f"the log of run {run}"):
            return self._checked(run, "log", log_of(self._rows("steps.parquet", run)))

    def graph(self, run: str) -> bytes:
        """graph.json of a run; empty if it has none.

        Raises:
            ValueError: it is not what was packed.
        """
        with damaged(f"the graph of run {run}"):
            return self._checked(run, "graph", b"".join(row["data"] for row in self._rows("graphs.parquet", run)))

    def _checked(self, run: str, part: str, data: bytes) -> bytes:
        if (seal.short_hash(data) if data else None) != self._lines[run].get(part):
            raise ValueError(f"the {part} of run {run} is not what was packed")
        return data

    # plans and exports

    @property
    def plans(self) -> dict[str, float]:
        """The plans' file names, and when each was made."""
        return {name: float(line["made"]) for name, line in self._plans.items()}

    def plan(self, name: str) -> bytes | None:
        """The line of a plan; None if there is none of that name.

        Raises:
            ValueError: a spec of it is missing.
        """
        if (line := self._plans.get(name)) is None:
            return None
        with damaged(f"the plan {name}"):
            runs = [self._spec(each) for each in line["plan"]["runs"]]
            return seal.line_of({**line["plan"], "runs": runs}, line["seal"])

    def export(self, name: str) -> str | None:
        """A text of exports/; None if it is not there."""
        return self.text(f"exports/{name}")

    def text(self, name: str) -> str | None:
        """A text by its place in the archive; None if it is not there."""
        return self.data(name).decode() if name in self.files else None

    def derived(self, stem: str) -> dict[str, str]:
        """What the records gave for a plan, by name: cells, intervals, curves."""
        start = f"derived/{stem}-"
        names = [name.removesuffix(".gz") for name in self.files if name.startswith(start)]
        return {name.removeprefix(start).removesuffix(".csv"): self.data(name).decode() for name in names}

    # files

    def data(self, name: str) -> bytes:
        """What a file holds, by its name without .gz; nothing where it cannot be read, which `faults` says."""
        zipped = f"{name}.gz" in self.files
        try:
            found = (self.folder / (f"{name}.gz" if zipped else name)).read_bytes()
            return gzip.decompress(found) if zipped else found
        except (OSError, EOFError, zlib.error):
            return b""

    @functools.cached_property
    def _lines(self) -> dict[str, Line]:
        lines = (line for text in self.data("records.jsonl").splitlines() if (line := _parsed(text)) is not None)
        found = {str(line["record"]["id"]): line for line in lines if "id" in line.get("record", {})}
        return {run: line for run, line in found.items() if _inside(run)}

    @functools.cached_property
    def _plans(self) -> dict[str, Line]:
        lines = (line for text in self.data("plans.jsonl").splitlines() if (line := _parsed(text)) is not None)
        found = {str(line["name"]): line for line in lines if {"name", "made", "plan"} <= line.keys()}
        return {name: line for name, line in found.items() if _inside(name)}

    @functools.cached_property
    def _parts(self) -> dict[str, bytes]:
        return {seal.short_hash(line): line for line in self.data("parts.jsonl").splitlines()}

    @functools.cached_property
    def _specs(self) -> dict[str, bytes]:
        found = {}
        for line in self.data("specs.jsonl").splitlines():
            with contextlib.suppress(ValueError):  # a damaged one is missed where it is wanted
                text = seal.compact(whole(json.loads(line), self._parts)) if self._parts else line
                found[seal.short_hash(text)] = text
        return found

    def _spec(self, named: Any) -> Line:
        key, *counts = [named] if isinstance(named, str) else named
        if key not in self._specs:
            raise ValueError(f"its spec {key} is not in the archive")
        spec: Line = json.loads(self._specs[key])
        if counts:
            spec["cost"] |= dict(zip(COUNTS, counts, strict=True))
        return spec

    @functools.cache  # noqa: B019  as long as the archive lives
    def _table(self, name: str) -> tuple[pa.Table | None, dict[str, tuple[int, int]]]:
        """A parquet file, and where the rows of each run lie in it: (first, number). They are sorted by run."""
        if name not in self.files:
            return None, {}
        import pyarrow as pa  # 0.2 s, and only where there is an archive
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(self.folder / name)
            runs = pc.run_end_encode(table["id"].cast(pa.string()).combine_chunks())
        except (OSError, KeyError, pa.ArrowException) as error:
            raise ValueError(f"{name} cannot be read ({type(error).__name__})") from None
        places, first = {}, 0
        for run, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            places[run] = (first, end - first)
            first = end
        return table, places

    def _rows(self, name: str, run: str) -> list[Line]:
        table, places = self._table(name)
        if table is None or run not in places:
            return []
        rows: list[Line] = table.slice(*places[run]).to_pylist()
        return rows


@contextlib.contextmanager
def damaged(what: str) -> Iterator[None]:
    """Turn what a damaged file can raise into a ValueError that names `what`: its types and names are not ours."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{what} cannot be read ({type(error).__name__})") from None


def _inside(name: str) -> bool:
    """Whether a file of that name lies inside of the folder that it is put into."""
    return name.isprintable() and not name.startswith("/") and ".." not in name.split("/") and name not in ("", ".")


def log_of(rows: list[Line]) -> bytes:
    """metrics.jsonl from the rows of a run: those of a line in the order of its keys."""
    text, now = b"", None
    values: Line = {}
    for row in [*sorted(rows, key=lambda row: row["line"]), {"line": -1, "raw": b""}]:
        if row["line"] != now and values:
            text, values = text + log_line(values), {}
        now = row["line"]
        if row["raw"] is not None:
            text += row["raw"]
        else:
            values = values or {"step": row["step"]}
            values |= {row["key"]: row["value"]} if row["key"] is not None else {}
    return text


def _parsed(line: bytes, *, any_value: bool = False) -> Line | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if any_value:
        return {"value": found}
    return found if isinstance(found, dict) and isinstance(found.get("record", {}), dict) else None


def log_line(values: Line) -> bytes:
    """A line of metrics.jsonl."""
    return json.dumps(values).encode() + b"\n"

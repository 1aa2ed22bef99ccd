"""What can be read of the runs under a results folder, whether they lie in folders of their own or in the archive.

A run's folder wins over the archive. Every record is checked against its hash whenever it is read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store import graph_file, seal
from experiments.store.archive import Archive
from experiments.store.records import Record, RunSpec
from experiments.store.storage_errors import patiently

FAULTS_SAID = 5  # of a damaged archive


def read_spec(folder: Path) -> RunSpec:
    """The spec in the folder of a run, as it was written there.

    Raises:
        OSError: there is none.
        ValueError: it was changed, or is that of another run.
    """
    body = seal.opened((folder / "spec.json").read_bytes(), folder.name)
    if body is None:
        raise ValueError(f"spec.json of run {folder.name} is not as it was written; the same command again writes it")
    return RunSpec.model_validate_json(body)


class Reader:
    """The finished runs under one results folder.

    Attributes:
        root: the results folder.
        corrupt: a line per corrupt record that was met.
        archive: the packed runs, if there are any.
    """

    def __init__(self, results_dir: str | Path, *, write: bool) -> None:
        """`write` False: what is corrupt is named, but not set aside."""
        self.root = Path(results_dir).expanduser().absolute()
        self.corrupt: list[str] = []
        self.archive = Archive.at(self.root)
        self._write = write

    def folder(self, run: str) -> Path:
        """The folder of a run."""
        return self.root / "runs" / run

    def ids(self) -> list[str]:
        """All runs that have a folder or are in the archive."""
        folder = self.root / "runs"
        found = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
        return sorted(found | set(self.archive.ids if self.archive else ()))

    # records

    def raw(self, run: str) -> bytes | None:
        """The bytes of a run's record as they lie in its folder, else as the archive gives them; None = no record.

        Raises:
            ValueError: the archive has the run, but not whole.
        """
        try:
            return patiently((self.folder(run) / "record.json").read_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return self.archive.record(run) if self.archive is not None and self._archived(run) else None

    def _archived(self, run: str) -> bool:
        """Whether the archive speaks for the run: nobody has retired what it has."""
        return self.archive is not None and run in self.archive and not any(self.folder(run).glob("record.retired-*"))

    def record(self, run: str) -> Record | None:
        """The record of a run or None; a corrupt one is set aside and named in `self.corrupt`."""
        try:
            data = self.raw(run)
            if data is None:
                return None
            found = Record.model_validate_json(seal.record_in(data))
            if found.id != run:
                raise ValueError(f"it is the record of {found.id}")
        except (ValidationError, ValueError) as error:
            if atomic.in_the_making(self.folder(run) / "record.json"):  # on a drive without links, for a moment
                time.sleep(0.05)
                return self.record(run)
            self._set_aside(run, reason(error))
            return None
        return found

    def _set_aside(self, run: str, why: str) -> None:
        path, line = self.folder(run) / "record.json", f"corrupt record of run {run} ({why})"
        if self._write:
            try:
                line += f"; set aside as {atomic.set_aside(path).name}, nothing is lost: "
            except FileNotFoundError:
                line += "; it is in the archive, which stays as it is: "
            line += "the same command again redoes the run"
        self.corrupt.append(line)

    def records(self, runs: Iterable[str]) -> dict[str, Record]:
        """The records there are, by run."""
        found = ((run, self.record(run)) for run in runs)
        return {run: record for run, record in found if record is not None}

    def require_sound(self) -> None:
        """Raise UserError if a corrupt record was met, or the archive is damaged."""
        if self.archive is not None and self.archive.damage:
            raise UserError("; ".join([*self.archive.damage, *self.corrupt][:FAULTS_SAID]) + "; take the archive anew")
        if self.corrupt:
            raise UserError("; ".join(self.corrupt))

    def status(self, run: str) -> str | None:
        """What the record says the run ended as; None = there is no record, or none that fits its hash.

        Raises:
            OSError: there is a record, and this user may not read it, or the storage does not hand it out.
        """
        try:
            if (data := self.raw(run)) is None:
                return None
            return seal.status_in(seal.record_in(data))
        except (ValueError, KeyError, TypeError):
            return None

    # what lies beside the record

    def log(self, run: str) -> bytes:
        """metrics.jsonl of a run; empty if there is none.

        One that is not what the record sealed is set aside, with a line, and no longer there.
        """
        path, record = self.folder(run) / "metrics.jsonl", self.folder(run) / "record.json"
        if self.archive is not None and not record.exists() and self._archived(run):
            return self._of_archive(run, self.archive.log)
        try:
            data = path.read_bytes()
            sealed = seal.log_hash_in(record.read_bytes()) if record.exists() else ""
        except OSError:
            return b""
        if sealed and seal.short_hash(data) != sealed:
            aside = f"; set aside as {atomic.set_aside(path).name}" if self._write else ""
            print(f"metrics.jsonl of run {run} is not what its record sealed{aside}: no curve of it", file=sys.stderr)
            return b""
        return data

    def log_faults(self, run: str, record: bytes) -> Iterator[str]:
        """What is wrong with the log of a run that has this record: gone it may be, but not another one."""
        path, sealed = self.folder(run) / "metrics.jsonl", seal.log_hash_in(record)
        try:
            if (self.folder(run) / "record.json").exists():
                data = path.read_bytes() if path.exists() else b""
            else:
                data = self.archive.log(run) if self.archive is not None else b""
        except (OSError, ValueError) as error:
            yield str(error)
            return
        if data and sealed and seal.short_hash(data) != sealed:
            yield "metrics.jsonl is not what the record sealed"

    def graph(self, run: str) -> graph_file.Sample | None:
        """The graph over a sample that the run kept; None if it kept none that can be read."""
        if self.archive is not None and not (self.folder(run) / "record.json").exists() and self._archived(run):
            return graph_file.parse(self._of_archive(run, self.archive.graph))
        return graph_file.read_graph(self.folder(run))

    def _of_archive(self, run: str, read: Callable[[str], bytes]) -> bytes:
        try:
            return read(run)
        except ValueError as error:
            print(f"archive: {error}: it is left out", file=sys.stderr)
            return b""

    def export(self, name: str) -> str | None:
        """An exported text, from exports/ or else from the archive; None = not written yet."""
        try:
            return (self.root / "exports" / name).read_text()
        except FileNotFoundError:
            return self.archive.export(name) if self.archive is not None else None

    def timings(self, name: str) -> str | None:
        """The step times of a table, from timings/ or else from the archive; None = not measured."""
        file = f"timings/{name}.json"
        try:
            return (self.root / file).read_text()
        except FileNotFoundError:
            return self.archive.text(file) if self.archive is not None else None


def reason(error: Exception) -> str:
    """An error in a word or two: of a schema, the first field that is wrong."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    return str(error)

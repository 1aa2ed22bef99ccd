"""Identity of a run, and the store on disk.

    <results_dir>/runs/<id>/  spec.json  progress.json  metrics.jsonl  checkpoint.ckpt  deaths.jsonl  log
                              lease.N  record.json
    <results_dir>/archive/    the same runs packed (store/archive.py), read-only

`record.json` is written last, at once and once: where it is, the run is over. `lease.N` is there while a process
works on the run. A run's folder wins over the archive. Every record is checked against its hash whenever it is read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store import graph_file, lease, seal
from experiments.store.archive import Archive
from experiments.store.records import Record, RunSpec

State = Literal["planned", "running", "done", "failed", "stale"]

# Keys that change where or how often something is written, never a number.
COSMETIC = frozenset({"results_dir", "logger", "launcher", "name", "table", "hydra", "allow_targets"})
COSMETIC_TRAINER = frozenset(
    {"threads", "checkpoint_every_s", "checkpoint_every_steps", "log_every", "keep_checkpoint"}
)

# The folder cannot take more: nobody's fault but the disk's, so no run fails for it.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
PROBE_BYTES = 1 << 16
FAULTS_SAID = 5  # of a damaged archive


class Lost(Exception):
    """Another process took the run over, because this one seemed dead; this one writes no more."""


def identity(config: dict[str, Any], sizes: dict[str, Any], steps: int, data: str, seed: int) -> str:
    """Sixteen hex digits that name a run: config less cosmetic keys, solved sizes and steps, data, seed.

    The model is named by its sizes, every dial of them; the task by its class, its batch and `data`, the fingerprint
    of its whole specification and items. So a dial spelled out at its default names the same run.
    """
    kept = {key: value for key, value in config.items() if key not in COSMETIC and key != "model"}
    kept["task"] = {key: config["task"].get(key) for key in ("_target_", "batch_size")}
    trainer = kept.get("trainer", {})
    kept["trainer"] = {key: value for key, value in trainer.items() if key not in COSMETIC_TRAINER}
    return atomic.digest({"config": kept, "sizes": sizes, "steps": steps, "data": data, "seed": seed})


class Progress(BaseModel):
    """The heartbeat of a run."""

    model_config = ConfigDict(extra="forbid")

    phase: str
    step: int
    total: int
    loss: float | None
    time: float


class Store:
    """The runs under one results folder.

    Raises:
        UserError: the folder cannot be made or written.
    """

    def __init__(self, results_dir: str | Path, *, write: bool = True) -> None:
        """`write` False is for looking only: the folder may then be one that cannot be written."""
        self.root = Path(results_dir).expanduser().absolute()
        self.corrupt: list[str] = []
        self.archive = Archive.at(self.root)
        self._write = write
        self._leases: dict[str, lease.Lease] = {}
        if write:
            self.require_space()

    def require_space(self) -> None:
        """Raise UserError unless the folder can be written."""
        probe = self.root / f".probe-{os.getpid()}"
        try:
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
            try:
                probe.write_bytes(bytes(PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"results folder {self.root} cannot be written ({error.strerror}); free it and give the same command "
                "again, which goes on from there, or choose another with results_dir=FOLDER"
            ) from None

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
            return (self.folder(run) / "record.json").read_bytes()
        except FileNotFoundError:
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
            self._set_aside(run, _reason(error))
            return None
        return found

    def _set_aside(self, run: str, reason: str) -> None:
        path, line = self.folder(run) / "record.json", f"corrupt record of run {run} ({reason})"
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
        if self.archive is not None and (faults := list(self.archive.faults())):
            raise UserError("; ".join([*faults, *self.corrupt][:FAULTS_SAID]) + "; take the archive anew")
        if self.corrupt:
            raise UserError("; ".join(self.corrupt))

    def write_record(self, record: Record) -> bool:
        """Write the record and drop what only an unfinished run needs; False if the run has a record already.

        Raises:
            Lost: the lease of the run went to another process.
        """
        self._require_lease(record.id)
        folder = self.folder(record.id)
        if not atomic.create_bytes(folder / "record.json", seal.record_line(record)):
            return False
        keep = bool(record.spec.config.get("trainer", {}).get("keep_checkpoint"))
        for path in [] if keep else folder.glob("checkpoint.ckpt*"):
            if ".corrupt-" not in path.name:
                path.unlink(missing_ok=True)
        return True

    def retire(self, run: str) -> None:
        """Set the record of a failed run aside, and the count of its deaths, so that it may run again.

        Of a run that only the archive has, the record is copied: what is retired beside a run wins over the archive.
        """
        if not (self.folder(run) / "record.json").exists() and (data := self.raw(run)) is not None:
            atomic.write_bytes(self.folder(run) / "record.json", data)
        for name in ("record.json", "deaths.jsonl"):
            path = self.folder(run) / name
            if path.exists():
                os.replace(path, path.with_name(f"{path.stem}.retired-{time.time_ns()}{path.suffix}"))

    # specs and progress

    def write_spec(self, spec: RunSpec) -> None:
        """Put the spec beside what the run will write."""
        atomic.write_text(self.folder(spec.id) / "spec.json", spec.model_dump_json(indent=1) + "\n")

    def beat(self, run: str, progress: Progress) -> None:
        """Write the progress. It may be lost in a power cut, so it is not synced.

        Raises:
            Lost: the lease of the run went to another process.
        """
        self._require_lease(run)
        path = self.folder(run) / "progress.json"
        tmp = path.with_name(f".progress.{os.getpid()}.tmp")
        tmp.write_text(progress.model_dump_json())
        os.replace(tmp, path)

    def progress(self, run: str) -> Progress | None:
        """The last heartbeat."""
        try:
            return Progress.model_validate_json((self.folder(run) / "progress.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def state(self, run: str) -> State:
        """planned | running | done | failed | stale, cheaply: a record is checked, not parsed."""
        status = self.status(run)
        if status is not None:
            return "done" if status == "done" else "failed"
        held = lease.held(self.folder(run))
        if held is None:
            return "planned"
        return "running" if held.alive() else "stale"

    def status(self, run: str) -> str | None:
        """What the record says the run ended as; None = there is no record, or none that fits its hash."""
        try:
            if (data := self.raw(run)) is None:
                return None
            return seal.status_in(seal.record_in(data))
        except (OSError, ValueError, KeyError, TypeError):
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

    # leases and deaths

    def leased(self, run: str) -> bool:
        """True if a live process works on the run."""
        held = lease.held(self.folder(run))
        return held is not None and held.alive()

    @contextlib.contextmanager
    def claim(self, run: str, cause: str = "") -> Iterator[bool]:
        """Yield True if this process may work on the run; the lease ends with the block.

        Taking over from a dead process is noted in deaths.jsonl, with the `cause` if it is known.
        """
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        taken = lease.take(folder)
        if taken is None:
            yield False
            return
        self._leases[run] = taken
        try:
            if taken.took_over:
                self.note_death(run, cause)
            with taken.beating():
                yield True
        finally:
            del self._leases[run]
            taken.release()

    def _require_lease(self, run: str) -> None:
        mine = self._leases.get(run)
        if mine is not None and not mine.mine():
            raise Lost(f"run {run} was taken over by another process")

    def note_death(self, run: str, cause: str) -> None:
        """Add a line to deaths.jsonl: a process died while it worked on the run."""
        progress = self.progress(run)
        line = json.dumps({"step": progress.step if progress else 0, "cause": cause, "time": time.time()})
        with open(self.folder(run) / "deaths.jsonl", "a") as file:
            file.write(line + "\n")

    def deaths(self, run: str) -> tuple[int, str]:
        """How often a process died with the run since it last got further than before, and the last known cause."""
        try:
            lines = (self.folder(run) / "deaths.jsonl").read_text().splitlines()
        except OSError:
            return 0, ""
        count, furthest, cause = 0, -1, ""
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found = json.loads(line)
                count = 1 if int(found["step"]) > furthest else count + 1
                furthest, cause = max(furthest, int(found["step"])), str(found["cause"]) or cause
        return count, cause


def no_space(error: BaseException | None) -> OSError | None:
    """The full or read-only disk behind an error, if that is what it is."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    return str(error)

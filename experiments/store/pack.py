"""Packs a results folder into its archive (store/archive.py), and unpacks one.

An archive is written beside the old one, read back and compared, and then takes its place by renames: whenever a pack
is killed, the old archive or the new one is there, whole.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store import graph_file, lease, plan_file, seal
from experiments.store.archive import COUNTS, INDEX, LONG, NAME, OLD, SCHEMA, ZIPPED, Archive, Line
from experiments.store.portable import portable_plan, portable_record
from experiments.store.shared_parts import share
from experiments.store.store import Store

KEPT = ("exports/", "timings/")  # of a results folder, packed as they are and unpacked as they were


@dataclass
class Contents:
    """What an archive holds: by run the lines of records, logs and graphs; by name plans (made, line), texts."""

    records: dict[str, bytes] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    graphs: dict[str, bytes] = field(default_factory=dict)
    plans: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)

    def add(self, other: Contents) -> None:
        """Take in what `other` has; of what both have, its runs with all that belongs to them."""
        for run in other.records:
            self.logs.pop(run, None), self.graphs.pop(run, None)
        self.records |= other.records
        self.logs |= other.logs
        self.graphs |= other.graphs
        self.plans = {**other.plans, **self.plans}
        self.texts |= other.texts

    def portable(self) -> Contents:
        """The same without the places where data lay."""
        records = {run: portable(line, portable_record) for run, line in self.records.items()}
        plans = {name: (made, portable(line, portable_plan, name)) for name, (made, line) in self.plans.items()}
        return replace(self, records=records, plans=plans)


def portable(line: bytes, change: Callable[[Line], Line], name: str = "") -> bytes:
    """A sealed line changed and sealed again; the same bytes where nothing changes."""
    values = json.loads(line)
    del values["seal"]
    changed = change(values)
    return line if changed == values else seal.line_of(changed, seal.seal_of(changed, name))


def of_archive(archive: Archive | None) -> Contents:
    """The contents of an archive.

    Raises:
        UserError: it is damaged.
    """
    found = Contents()
    if archive is None:
        return found
    if faults := list(archive.faults()):
        raise UserError(f"{'; '.join(faults)}; take the archive anew")
    try:
        return _read(archive, found)
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:  # the sums fit, the content not
        raise UserError(f"{archive.folder}: {error}; take the archive anew") from None


def _read(archive: Archive, found: Contents) -> Contents:
    found.records = {run: archive.record(run) for run in archive.ids}
    found.logs = {run: data for run in archive.ids if (data := archive.log(run))}
    found.graphs = {run: data for run in archive.ids if (data := archive.graph(run))}
    for name, made in archive.plans.items():
        found.plans[name] = (made, archive.plan(name) or b"")
    found.texts = {name: (archive.folder / name).read_bytes() for name in archive.files if name.startswith(KEPT)}
    derived = [name.removesuffix(".gz") for name in archive.files if name.startswith("derived/")]
    found.texts |= {name: archive.data(name) for name in derived}
    return found


def of_folder(store: Store) -> Contents:
    """What the run folders, plans, exports and timings of a store hold; unfinished runs are left out.

    Raises:
        UserError: a record or a plan is not what was written.
    """
    found = Contents()
    for run in store.ids():
        folder = store.folder(run)
        if not (folder / "record.json").exists() or store.record(run) is None:
            continue
        values = json.loads(seal.record_in((folder / "record.json").read_bytes()))
        found.records[run] = seal.line_of(values, seal.seal_of(values))
        if log := store.log(run):
            found.logs[run] = log
        if (folder / graph_file.FILE).exists():
            found.graphs[run] = (folder / graph_file.FILE).read_bytes()
    store.require_sound()
    for path in sorted((store.root / "plans").glob("*-*.json")):
        try:
            values = json.loads(plan_file.read(path))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(f"the plan {path.name}: {error}; make it anew, or remove it") from None
        found.plans[path.name] = (path.stat().st_mtime, seal.line_of(values, seal.seal_of(values, path.name)))
    exports = store.root / "exports"
    for path in sorted(path for path in exports.rglob("*") if path.is_file()):
        name = path.relative_to(exports)
        if "wandb" not in name.parts and not any(part.startswith(".") for part in name.parts):
            found.texts[f"exports/{name.as_posix()}"] = path.read_bytes()
    found.texts |= {f"timings/{path.name}": path.read_bytes() for path in (store.root / "timings").glob("*.json")}
    return found


def write_archive(contents: Contents, root: Path) -> Archive:
    """Make `contents` the archive of the results folder `root`, in one step. Where data lay is left out.

    Raises:
        UserError: another process packs there.
        OSError: the folder cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    mine = lease.take(root)
    if mine is None:
        raise UserError(f"another process packs {root}; wait for it")
    new, contents = root / f".{NAME}.{os.getpid()}.tmp", contents.portable()
    try:
        _write(contents, new)
        _compare(contents, Archive(new))
        _swap(new, root)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        mine.release()
    return Archive(root / NAME)


def _swap(new: Path, root: Path) -> None:
    """Put `new` in the place of the archive. A kill between the renames leaves `archive.old`, which is read then."""
    now, old = root / NAME, root / OLD
    if now.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(now, old)
    os.replace(new, now)
    atomic.fsync_folder(root)
    shutil.rmtree(old, ignore_errors=True)


def _compare(contents: Contents, archive: Archive) -> None:
    """Read a new archive back.

    Raises:
        AssertionError: something was lost; the old archive stays.
    """
    back = of_archive(archive)
    for name in ("records", "logs", "graphs", "plans", "texts"):
        assert getattr(back, name) == getattr(contents, name), f"{name} do not come back as they were packed"


def _write(contents: Contents, folder: Path) -> None:
    specs: dict[str, bytes] = {}
    lines: list[Line] = []
    items: list[Line] = []
    for run, data in sorted(contents.records.items()):
        values = json.loads(data)
        line = {"seal": values.pop("seal")}
        for name in (name for name in LONG if isinstance(values.get(name), dict)):
            found = {split: each for split, each in values[name].items() if _is_column(each)}
            items += [{"id": run, "field": name, "split": split, "values": each} for split, each in found.items()]
            values[name] |= dict.fromkeys(found)  # null where a list stood
        spec, values["spec"] = values["spec"], None
        line |= {"record": values, "spec": _spec_named(spec, specs)}
        parts = {"log": contents.logs.get(run), "graph": contents.graphs.get(run)}
        lines.append({**line, **{name: seal.short_hash(part) for name, part in parts.items() if part}})
    plans = []
    for name, (made, data) in sorted(contents.plans.items()):
        plan = json.loads(data)
        line = {"name": name, "made": made, "seal": plan.pop("seal")}
        plan["runs"] = [_spec_named(spec, specs) for spec in plan["runs"]]
        plans.append({**line, "plan": plan})
    texts = dict(contents.texts)
    short, common = share([*lines, *map(json.loads, sorted(specs.values(), key=_place))])
    texts |= {"records.jsonl": _lines(short[: len(lines)]), "specs.jsonl": _lines(short[len(lines) :])}
    texts |= {"parts.jsonl": b"".join(common[name] + b"\n" for name in sorted(common)), "plans.jsonl": _lines(plans)}
    folder.mkdir()
    for name, data in texts.items():
        path = folder / (f"{name}.gz" if name.startswith(ZIPPED) else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data, mtime=0) if name.startswith(ZIPPED) else data)
    from experiments.store.columns import write_columns  # 0.2 s for pyarrow, and only where something is packed

    write_columns(folder, items, contents.logs, contents.graphs)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    atomic.write_json(folder / INDEX, {"schema_version": SCHEMA, "files": files})
    for path in [*(folder / name for name in names), folder]:
        atomic.fsync_folder(path)


def _lines(values: Iterable[Line]) -> bytes:
    return b"".join(seal.compact(each) + b"\n" for each in values)


def _spec_named(spec: Line, specs: dict[str, bytes]) -> Any:
    """The name of a spec, which goes into `specs` without what a run counts: the name alone, or with the counts."""
    cost = spec.get("cost")
    counts = [cost[key] for key in COUNTS] if isinstance(cost, dict) and all(key in cost for key in COUNTS) else []
    counted = any(count is not None for count in counts)
    if counted:
        spec = {**spec, "cost": {**spec["cost"], **dict.fromkeys(COUNTS)}}
    line = seal.compact(spec)
    key = seal.short_hash(line)
    specs[key] = line
    return [key, *counts] if counted else key


def _place(line: bytes) -> tuple[str, bytes]:
    return str(json.loads(line).get("id")), line


def _is_column(values: Any) -> bool:
    """Whether it is what a row of items.parquet holds: a list of floats and nulls."""
    return isinstance(values, list) and all(type(one) is float or one is None for one in values)


def unpack(archive: Archive, root: Path) -> int:
    """Write runs, plans, exports and timings of an archive into a results folder; how many runs. What is there stays.

    Raises:
        UserError: the archive is damaged.
    """
    contents = of_archive(archive)
    for run, data in contents.records.items():
        if atomic.create_bytes(root / "runs" / run / "record.json", data):
            _write_new(root / "runs" / run / "metrics.jsonl", contents.logs.get(run))
            _write_new(root / "runs" / run / graph_file.FILE, contents.graphs.get(run))
    for name, (made, data) in contents.plans.items():
        if atomic.create_bytes(root / "plans" / name, data):
            os.utime(root / "plans" / name, (made, made))
    for name, data in contents.texts.items():
        if name.startswith(KEPT):
            _write_new(root / name, data)
    return len(contents.records)


def _write_new(path: Path, data: bytes | None) -> None:
    if data is not None:
        atomic.create_bytes(path, data)


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of files."""
    return sum(path.stat().st_size for path in paths if path.is_file())

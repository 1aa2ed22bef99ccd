"""Plan files as bytes: in plans/ or in the archive, sealed under their name, which ends in the hash of the content."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from experiments.store import atomic_files as atomic
from experiments.store import seal
from experiments.store.archive import Archive

NAMED = re.compile(r"(.+)-([0-9a-f]{12})\.json")  # table, hash


def frozen(table: str, values: dict[str, Any]) -> tuple[str, bytes]:
    """The name and the line of a plan's values."""
    name = f"{table}-{atomic.digest(values, 12)}.json"
    return name, seal.line_of(values, seal.seal_of(values, name))


def write(folder: Path, name: str, line: bytes) -> Path:
    """Put a plan into its folder; its path."""
    atomic.write_bytes(folder / name, line)
    return folder / name


def times(folder: Path) -> dict[Path, float]:
    """The plan files in a folder or in the archive beside it, and when each was made; the newest last."""
    made = {path: path.stat().st_mtime for path in folder.glob("*-*.json")}
    if (archive := Archive.at(folder.parent)) is not None:
        made = {**{folder / name: when for name, when in archive.plans.items()}, **made}
    return dict(sorted(made.items(), key=lambda pair: pair[1]))


def read(path: Path) -> bytes:
    """The JSON of a plan, checked: by its seal, else by the hash in its name, if it is named by one.

    Raises:
        OSError: there is no such file.
        ValueError: it is no plan, not as it was frozen, or the archive has it but not whole.
    """
    data = _bytes(path)
    if (body := seal.opened(data, path.name)) is not None:
        return body
    body = seal.SEAL.sub(b"{", data, count=1)
    if NAMED.fullmatch(path.name):
        try:
            values = json.loads(body)
            name = frozen(str(values["table"]["name"]), values)[0]
        except (KeyError, TypeError):
            raise ValueError("it names no table") from None
        if name != path.name:
            raise ValueError("it is not as it was frozen")
    return body


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        archive = Archive.at(path.parent.parent) if path.parent.name == "plans" else None
        if archive is None or (data := archive.plan(path.name)) is None:
            raise
        return data

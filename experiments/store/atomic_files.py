"""Files that are either whole or absent: tmp beside the target, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from experiments.store.storage_errors import NO_LINKS

TORN_SECONDS = 10.0  # how long a file that is half-written may still be in the making


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut; file systems that cannot are left alone."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_with(target: Path, fill: Callable[[BinaryIO], None]) -> None:
    """Call `fill` on a temporary file beside `target`, then put it in the target's place in one step.

    Raises:
        OSError: the disk is full or the folder cannot be written; `target` is then what it was before.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(tmp, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp, target)
    finally:
        tmp.unlink(missing_ok=True)
    fsync_folder(target.parent)


def create_bytes(target: Path, data: bytes) -> bool:
    """Write `data` atomically unless `target` exists; False, and nothing is changed, if it does.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(tmp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _place_once(tmp, target, data)
    except FileExistsError:
        return False
    finally:
        tmp.unlink(missing_ok=True)
    fsync_folder(target.parent)
    return True


def _place_once(tmp: Path, target: Path, data: bytes) -> None:
    """Give the finished file `tmp` the name `target` as well, or, on a drive without links, write it there.

    Only one process can make a file that must not exist, on any drive; `in_the_making` tells when it is whole.

    Raises:
        FileExistsError: there is a `target`.
        OSError: the drive takes no more.
    """
    try:
        os.link(tmp, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(target, "xb") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                target.unlink(missing_ok=True)
                raise


def in_the_making(target: Path) -> bool:
    """True while another process may still be writing a `target` that was found half-written."""
    for tmp in target.parent.glob(f".{target.name}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - tmp.stat().st_mtime < TORN_SECONDS:
                return True
    return False


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` atomically."""

    def fill(file: BinaryIO) -> None:
        file.write(data)

    write_with(target, fill)


def write_text(target: Path, text: str) -> None:
    """Write `text` atomically as UTF-8."""
    write_bytes(target, text.encode())


def write_json(target: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON. NaN is refused: it is not JSON."""
    write_text(target, json.dumps(value, indent=1, allow_nan=False) + "\n")


def set_aside(path: Path) -> Path:
    """Rename a corrupt file to `<name>.corrupt-N` (N the first free number); nothing is ever deleted."""
    for number in numbers():
        aside = path.with_name(f"{path.name}.corrupt-{number}")
        if not aside.exists():
            os.replace(path, aside)
            return aside
    raise AssertionError("unreachable")


def numbers() -> Iterator[int]:
    """1, 2, 3, ..."""
    number = 0
    while True:
        number += 1
        yield number


def canonical(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, shortest round-trip floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any, length: int = 16) -> str:
    """The first `length` hex digits of the sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]

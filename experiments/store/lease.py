"""Leases: at most one live process works on a run, whichever launcher started it.

A claim is the creation of a file, which only one process can do on any file system: `lease.1` in the run's
folder, whole from the start (a link to a finished file). A dead claim is taken over by creating the next number;
nobody deletes a lease that may be somebody else's, so no lock is needed, on one machine or on many.

A lease is dead when its process is gone (same machine) or when its heartbeat, the time of the file, stopped
`STALE_SECONDS` ago (another machine, whose processes cannot be seen from here).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
TORN_SECONDS = 10.0  # how long a lease that cannot be read may still be in the making


@functools.cache
def machine() -> str:
    """A name for the processes that can be seen from here: hash of host name, boot and process namespace."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    text = platform.node() + (boot.read_text() if boot.exists() else "")
    with contextlib.suppress(OSError):
        text += os.readlink(space)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def birth(pid: int) -> str | None:
    """Start time of a live process of this machine (a reused pid differs); None = no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        return "unknown" if _signalable(pid) else None
    except OSError:
        return "unknown"
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] in "ZX" else fields[19]


def _signalable(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class Held:
    """The lease of a run as it is found."""

    path: Path
    number: int
    says: dict[str, str]

    @property
    def host(self) -> str:
        """Name of the machine that holds it."""
        return self.says.get("host", "?")

    def alive(self) -> bool:
        """True if a live process holds it."""
        if not self.says.get("pid", "").isdigit():
            return _age(self.path) < TORN_SECONDS
        if self.says.get("machine") == machine():
            return birth(int(self.says["pid"])) == self.says.get("birth")
        return _age(self.path) < STALE_SECONDS


def held(folder: Path) -> Held | None:
    """The lease in a run's folder, the newest if there are several; None = there is none."""
    numbers = _numbers(folder)
    if not numbers:
        return None
    path = folder / f"lease.{max(numbers)}"
    return Held(path, max(numbers), _read(path))


def _numbers(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [int(found[1]) for name in names if (found := re.fullmatch(r"lease\.(\d+)", name))]


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _age(path: Path) -> float:
    """Seconds since the last heartbeat, by the clock of the file system; of a vanished file: for ever."""
    probe = path.with_name(f".clock.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        try:
            probe.touch()
            now = probe.stat().st_mtime
        except OSError:  # a folder that can only be read
            now = time.time()
        return now - path.stat().st_mtime
    except OSError:
        return float("inf")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


@dataclass(frozen=True)
class Lease:
    """A lease of this process. `took_over`: another process had died with it."""

    path: Path
    token: str
    took_over: bool

    def mine(self) -> bool:
        """False if another process has taken over, because this one seemed dead."""
        newest = held(self.path.parent)
        return newest is not None and newest.says.get("token") == self.token

    def release(self) -> None:
        """Give it back."""
        if _read(self.path).get("token") == self.token:
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the heartbeat going, whatever the block is busy with."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                with contextlib.suppress(OSError):
                    os.utime(self.path)

        thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def take(folder: Path) -> Lease | None:
    """Take the lease of a run's folder for this process; None if a live process has it."""
    before = held(folder)
    if before is not None and before.alive():
        return None
    number, pid, token = (before.number if before else 0) + 1, os.getpid(), uuid.uuid4().hex
    path = folder / f"lease.{number}"
    says = {"pid": str(pid), "birth": birth(pid), "machine": machine(), "host": platform.node(), "token": token}
    if not _create(path, json.dumps(says)):
        return None
    if max(_numbers(folder), default=0) > number:  # what was read above is long over
        path.unlink(missing_ok=True)
        return None
    for lower in _numbers(folder):
        if lower < number:
            (folder / f"lease.{lower}").unlink(missing_ok=True)
    return Lease(path, token, before is not None)


def _create(path: Path, text: str) -> bool:
    """Make a file that is whole from the start; False if there is one already."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        tmp.write_text(text)
        os.link(tmp, path)
    except FileExistsError:
        return False
    except PermissionError:  # a file system without links: whole soon after the start
        try:
            with open(path, "x") as file:
                file.write(text)
        except FileExistsError:
            return False
    finally:
        tmp.unlink(missing_ok=True)
    return True

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

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store.atomic_files import TORN_SECONDS
from experiments.store.storage_errors import patiently

BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0


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
    except OSError:  # there is none, or another user's are hidden
        return "unknown" if _signalable(pid) else None
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
            return birth(int(self.says["pid"])) in (self.says.get("birth"), "unknown")
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
        names = patiently(lambda: os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(found[1]) for name in names if (found := re.fullmatch(r"lease\.(\d+)", name))]


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(patiently(path.read_text))
    except (FileNotFoundError, ValueError):
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
    if not atomic.create_bytes(path, json.dumps(says).encode()):
        return None
    if max(_numbers(folder), default=0) > number:  # what was read above is long over
        path.unlink(missing_ok=True)
        return None
    for lower in _numbers(folder):
        if lower < number:
            (folder / f"lease.{lower}").unlink(missing_ok=True)
    return Lease(path, token, before is not None)


@contextlib.contextmanager
def exclusive(folder: Path, seconds: float = 600.0) -> Iterator[None]:
    """Only one process at a time is inside the block for a `folder`, on any number of machines.

    Raises:
        UserError: the others were not through after so many seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    while (mine := take(folder)) is None:
        if time.monotonic() > end:
            raise UserError(f"another process has been at work in {folder} for {seconds:.0f} s; wait for it or stop it")
        time.sleep(0.1)
    try:
        with mine.beating():
            yield
    finally:
        mine.release()

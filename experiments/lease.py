"""Leases: at most one live process works on a run, whichever launcher started it.

A lease is a file that only one process can create (O_EXCL). A lease is dead when its process is gone (same
machine) or when its heartbeat is older than `STALE_SECONDS` (another machine, whose processes cannot be seen
from here); a dead one is taken over. Taking over happens under a lock on the store, so that two takers cannot
both succeed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

STALE_SECONDS = 300.0


def machine() -> str:
    """A name for this machine that does not tell its name: hash of host name and boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    text = platform.node() + (boot.read_text() if boot.exists() else "")
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


@contextlib.contextmanager
def guard(lock: Path) -> Iterator[None]:
    """Hold the lock file `lock` for a moment."""
    with open(lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def holder(lease: Path) -> dict[str, str] | None:
    """What the lease says of its holder; None = no lease. A half-written one has no pid."""
    try:
        found = json.loads(lease.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def alive(lease: Path, heartbeat: Path) -> bool:
    """True if a live process holds the lease."""
    held = holder(lease)
    if not held or not held.get("pid", "").isdigit():
        return False
    if held.get("machine") == machine():
        return birth(int(held["pid"])) == held.get("birth")
    times = [path.stat().st_mtime for path in (lease, heartbeat) if path.exists()]
    return bool(times) and time.time() - max(times) < STALE_SECONDS


def take(lease: Path, heartbeat: Path, lock: Path) -> bool:
    """Take the lease for this process; False if a live process has it."""
    pid = os.getpid()
    text = json.dumps({"pid": str(pid), "birth": birth(pid), "machine": machine()})
    with guard(lock):
        if alive(lease, heartbeat):
            return False
        lease.unlink(missing_ok=True)
        try:
            fd = os.open(lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(fd, "w") as file:
            file.write(text)
    return True


def release(lease: Path) -> None:
    """Give the lease back if this process holds it."""
    held = holder(lease)
    if held and held.get("pid") == str(os.getpid()) and held.get("machine") == machine():
        lease.unlink(missing_ok=True)

"""One process per run: its memory is its own, its death harms nobody, its peak starts clean.

The process is forked, so that the imports (seconds) are paid once per worker; where forking is unsafe it is
spawned.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, cast

from experiments.store.lease import birth
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training.run import DEATHS, End, blocked, execute, fail_if_dead
from experiments.training.signals import die_with_parent, stop_flag

ENDS: tuple[End, ...] = ("done", "failed", "diverged", "busy", "interrupted", "blocked", "unsteady", "refused")
PAUSES = (1.0, 4.0, 16.0)  # seconds, before a run whose storage failed for a moment is tried again


def run_isolated(spec: RunSpec, store: Store, deaths: int = DEATHS) -> End:
    """Execute the run in a process of its own; one that dies is started again.

    The run fails when it died `deaths` times without having got any further. One that the storage stopped for a
    moment goes on from its checkpoint after a pause, some times.
    """
    for pause in PAUSES:
        end = _run_once(spec, store, deaths)
        if end != "unsteady":
            return end
        time.sleep(pause)
    return _run_once(spec, store, deaths)


def _run_once(spec: RunSpec, store: Store, deaths: int) -> End:
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    while True:
        process = context.Process(target=_child, args=(spec, str(store.root), deaths))
        process.start()
        ACTIVE.add(process.pid)
        process.join()
        ACTIVE.discard(process.pid)
        code: int | None = process.exitcode
        if code is not None and 0 <= code - 10 < len(ENDS):
            return ENDS[code - 10]
        if code in (-signal.SIGTERM, -signal.SIGINT):
            return "interrupted"
        try:
            end = record_death(spec, store, how(code), deaths)
        except OSError as error:
            end = blocked(spec, store, error)
        if end is not None:
            return end


# Processes of runs that this process waits for.
ACTIVE: set[int] = set()


def tell_runs(number: int) -> None:
    """Send a signal to the runs of this process."""
    for pid in tuple(ACTIVE):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_for_runs(seconds: float) -> None:
    """Wait until the runs of this process have ended, at most so long."""
    end = time.monotonic() + seconds
    while any(birth(pid) for pid in tuple(ACTIVE)) and time.monotonic() < end:
        time.sleep(0.05)


def how(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {code}"


def record_death(spec: RunSpec, store: Store, cause: str, deaths: int) -> End | None:
    """Note a death; the run's end if it died as often as it may, None if it may be tried again."""
    before = store.deaths(spec.id)[0]
    with store.claim(spec.id, cause) as mine:
        if not mine:
            return "busy"
        status = store.status(spec.id)
        if status is not None:
            return cast("End", status)
        if store.deaths(spec.id)[0] == before and before < deaths:  # it died before it had the lease
            store.note_death(spec.id, cause)
        return fail_if_dead(spec, store, deaths)


def _child(spec: RunSpec, root: str, deaths: int) -> None:
    die_with_parent()
    with stop_flag() as stop:
        store = Store(root, write=False)
        _log_to(store.folder(spec.id) / "log")
        end = execute(spec, store, stop, deaths)
    sys.stdout.flush()
    # Past the interpreter's own exit: a forked process must not run its parent's cleanup.
    os._exit(10 + ENDS.index(end))


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(fd, stream)
    os.close(fd)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)

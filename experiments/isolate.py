"""One process per run: its memory is its own, its death harms nobody, its peak starts clean.

The process is forked, so that the imports (seconds) are paid once per worker; where forking is unsafe it is
spawned.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.records import ErrorInfo, RunSpec
from experiments.runs import Store
from experiments.signals import die_with_parent

if TYPE_CHECKING:
    from experiments.train import End

DEATHS = 2
ENDS: tuple[End, ...] = ("done", "failed", "diverged", "busy", "interrupted")


def run_isolated(spec: RunSpec, store: Store) -> End:
    """Execute the run in a process of its own; one that dies is tried again once, then recorded as failed."""
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    code: int | None = None
    for _ in range(DEATHS):
        process = context.Process(target=_child, args=(spec, str(store.root)))
        process.start()
        process.join()
        code = process.exitcode
        if code is not None and 0 <= code - 10 < len(ENDS):
            return ENDS[code - 10]
        if code in (-signal.SIGTERM, -signal.SIGINT):
            return "interrupted"
    return record_death(spec, store, how(code))


def how(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {code}"


def record_death(spec: RunSpec, store: Store, message: str) -> End:
    """Record a run whose process died as often as it is allowed to."""
    from experiments.signals import StopFlag
    from experiments.train import Run

    with store.claim(spec.id) as mine:
        if not mine:
            return "busy"
        known = store.record(spec.id)
        if known is not None:
            return known.status
        store.write_spec(spec)
        run = Run(spec, store, StopFlag())
        text = f"the process of the run died {DEATHS} times: {message}"
        store.write_record(run.ended("failed", ErrorInfo(type="ProcessDied", message=text, traceback="")))
    return "failed"


def _child(spec: RunSpec, root: str) -> None:
    die_with_parent()
    store = Store(root)
    _log_to(store.folder(spec.id) / "log")
    from experiments.train import execute

    end = execute(spec, store)
    sys.stdout.flush()
    # Past the interpreter's own exit: a forked process must not run its parent's cleanup.
    os._exit(10 + ENDS.index(end))


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(fd, stream)
    os.close(fd)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)

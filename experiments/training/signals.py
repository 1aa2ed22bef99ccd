"""Stopping well: SIGTERM and SIGINT let the step end and the checkpoint be written; orphans stop as well."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """The run was told to stop and has a checkpoint at `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


class StopFlag:
    """Set by the first signal; a second SIGINT stops at once."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = True


@contextlib.contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Catch what asks to stop inside the block (in the main thread; elsewhere the flag stays down).

    SIGUSR2 is what a scheduler sends ahead of the end of a job's time.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before: dict[int, Any] = {number: signal.signal(number, flag) for number in numbers}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does (in the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send `number` to this process when its parent dies (Linux; nothing elsewhere)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(number), 0, 0, 0)

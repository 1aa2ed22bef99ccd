"""The live line of a single run: step, loss, learning rate, last validation, time left.

It is made of what the run has written (heartbeat and metrics.jsonl), by a thread that only looks: nothing that is shown
can be unwritten, and no fault of a terminal reaches the run. Without a terminal it is a plain line now and then.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from experiments.launching.progress import (
    LATER_SECONDS,
    PLAIN_SECONDS,
    POLL_SECONDS,
    live_on,
    plain_seconds,
    tests,
)
from experiments.launching.time_left import TimeLeft, in_words
from experiments.store.records import RunSpec
from experiments.store.store import Store

SHORTEST = 3.0  # seconds: a run that is over before has no plain line


class RunLine:
    """Shows a run while the block lasts."""

    def __init__(
        self,
        spec: RunSpec,
        store: Store,
        console: Console | None = None,
        *,
        known: float | None = None,
        plain: bool = False,
    ) -> None:
        """
        Args:
            spec, store: the run, and where it writes.
            console: where it is shown; None = standard error.
            known: seconds that the run is expected to take; None = nobody knows.
            plain: plain lines that name the run, though there is a terminal: others write there, too.
        """
        self._spec, self._store, self._named = spec, store, plain
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        if live_on(self._console) and not plain:
            # What the run prints goes above the line, unless it goes to a file.
            above = sys.stdout.isatty()
            self._live = Live(console=self._console, transient=True, auto_refresh=False, redirect_stdout=above)
        self._left = TimeLeft([spec], {} if known is None else {spec.id: known})
        self._read = 0
        self._last: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._live is not None:
            self._live.stop()

    def _show(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            try:
                self.update(time.monotonic())
            except (OSError, ValueError):  # no terminal any more, or a storage that fails for a moment
                continue

    def update(self, now: float) -> None:
        """Show the line as it is at `now`."""
        line = self.line(now)
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        elif now - self._said >= self._pause(now):
            self._said = now
            name = f"{self._spec.task} {self._spec.model} seed {self._spec.seed}: " if self._named else ""
            self._console.print(Text(name + line), soft_wrap=True)

    def _pause(self, now: float) -> float:
        """Seconds between two plain lines; longer where other runs write lines, too."""
        if self._said == self._begun:
            return PLAIN_SECONDS if self._named else SHORTEST
        return LATER_SECONDS if self._named else plain_seconds(now - self._begun)

    def line(self, now: float) -> str:
        """`step 120/800, loss 1.234, lr 0.002, val accuracy 0.512, 1 min 20 s left`"""
        progress = self._store.progress(self._spec.id)
        self._left.look(now, (), {self._spec.id: progress})
        if progress is None:
            return "data and weights are being made"
        for values in self._fresh_lines(self._store.folder(self._spec.id) / "metrics.jsonl"):
            self._last |= values
        parts = ["tests" if tests(progress) else f"step {progress.step}/{progress.total}"]
        if progress.loss is not None:
            parts.append(f"loss {progress.loss:.3f}")
        if (rate := self._last.get("train/lr")) is not None:
            parts.append(f"lr {rate:.2g}")
        metric = self._spec.task_info.metric
        if (value := self._last.get(f"val/{metric}")) is not None:
            parts.append(f"val {metric} {value:.3f}")
        return ", ".join([*parts, in_words(self._left.seconds())])

    def _fresh_lines(self, path: Path) -> list[dict[str, float]]:
        """The whole lines that were written since the last call; all of them if the log was rewound."""
        if not path.exists():
            return []
        if path.stat().st_size < self._read:
            self._read = 0
        with open(path, "rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines() if line]

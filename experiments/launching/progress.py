"""The live display of a launch: runs done / total, runs at work, time left; plain lines without a terminal.

Time left comes from throughput measured in this launch (planned FLOPs really done per second), not from a
guess.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.planning.plan import Plan
from experiments.store.store import Progress, Store

PLAIN_SECONDS = 10.0
POLL_SECONDS = 0.5
IDLE_SECONDS = 30.0  # without a run at work, until the console says what the launcher's log says
LAST_BYTES = 4096  # of the log


class Display:
    """Shows the state of the plan's runs; `update` is to be called often."""

    def __init__(self, plan: Plan, store: Store, console: Console | None = None) -> None:
        self._plan, self._store = plan, store
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._over: dict[str, str] = {}
        self._said = 0.0
        self._log: Path | None = None
        self._idle_since = self._told = time.monotonic()
        self._begun = time.monotonic()
        self._first = self._flops_done(self._look())

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def follow(self, log: Path) -> None:
        """The log of what carries the runs from now on; its last words are shown while nothing starts."""
        self._log = log
        self._idle_since = self._told = time.monotonic()

    def update(self) -> None:
        """Look at the store and show what is there."""
        over = len(self._over)
        working = self._look()
        if working or len(self._over) > over:
            self._idle_since = self._told = time.monotonic()
        self._say_why()
        if self._console.is_terminal:
            self._live.update(self._picture(working), refresh=True)
        elif time.monotonic() - self._said >= PLAIN_SECONDS or not self._said:
            self._said = time.monotonic()
            self._console.print(self.headline(working), highlight=False, soft_wrap=True)

    def _say_why(self) -> None:
        """Where nothing has started for IDLE_SECONDS, say so, with the log's last words, and again as often."""
        now = time.monotonic()
        if self._log is None or now - self._told < IDLE_SECONDS:
            return
        self._told = now
        words = last_words(self._log)
        says = f"ends with: {words}" if words else "is empty so far"
        line = f"nothing has been at work for {now - self._idle_since:.0f} s; {self._log} {says}"
        self._console.print(Text(line), soft_wrap=True)

    def headline(self, working: dict[str, Progress]) -> str:
        """`table quick: 7/18 runs done, 1 failed, 2 at work, 3 min 20 s left`"""
        total, done = len(self._plan.unique()), sum(state == "done" for state in self._over.values())
        failed = len(self._over) - done
        parts = [f"table {self._plan.table.name}: {done}/{total} runs done"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{len(working)} at work", self._left(working)]
        return ", ".join(parts)

    def _look(self) -> dict[str, Progress]:
        """The heartbeats of the runs at work; runs that are over are noted."""
        working: dict[str, Progress] = {}
        for spec in self._plan.unique():
            if spec.id in self._over:
                continue
            state = self._store.state(spec.id)
            if state in ("done", "failed"):
                self._over[spec.id] = state
            elif state == "running" and (progress := self._store.progress(spec.id)):
                working[spec.id] = progress
        return working

    def _flops_done(self, working: dict[str, Progress]) -> float:
        total = 0.0
        for spec in self._plan.unique():
            if spec.id in self._over:
                total += spec.cost.flops_train
            elif spec.id in working:
                total += spec.cost.flops_train * working[spec.id].step / working[spec.id].total
        return total

    def _left(self, working: dict[str, Progress]) -> str:
        all_of_it = sum(spec.cost.flops_train for spec in self._plan.unique())
        done, seconds = self._flops_done(working), time.monotonic() - self._begun
        if done <= self._first or seconds < 1:
            return "time left not known yet"
        left = round((all_of_it - done) * seconds / (done - self._first))
        return f"{left // 60} min {left % 60:02d} s left"

    def _picture(self, working: dict[str, Progress]) -> RenderableType:
        total = len(self._plan.unique())
        rows = Table.grid(padding=(0, 2))
        for spec in self._plan.unique():
            if progress := working.get(spec.id):
                loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
                step = f"{progress.step}/{progress.total}"
                bar = ProgressBar(total=progress.total, completed=progress.step, width=20)
                rows.add_row(f"  {spec.task}", spec.model, f"seed {spec.seed}", bar, step, loss, progress.phase)
        return Group(Text(self.headline(working)), ProgressBar(total=total, completed=len(self._over), width=60), rows)


def last_words(log: Path) -> str:
    """The last line of a log that says anything."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

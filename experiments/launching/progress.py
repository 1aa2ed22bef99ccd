"""The live display of a launch: runs, their share of FLOPs, time left, runs at work; plain lines without a terminal.

It fits a terminal of 40 columns, and one that has no other characters than those of ASCII. The time left is that of
experiments.launching.time_left.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.launching.time_left import TimeLeft, in_words
from experiments.planning.plan import Plan
from experiments.store.records import RunSpec
from experiments.store.store import Progress, Store

PLAIN_SECONDS = 10.0  # between lines where there is no terminal, in the first minutes
LATER_SECONDS = 25.0  # and after `EARLY_SECONDS`
EARLY_SECONDS = 120.0
POLL_SECONDS = 0.5
IDLE_SECONDS = 30.0  # without a run at work, until the console says what the launcher's log says
LAST_BYTES = 4096  # of the log
STAMP = re.compile(r"\[[-0-9 :,]+\]\[HYDRA\]\s*")  # before a line of Hydra's
JOB = re.compile(r"#\d+ : ")  # how Hydra's launchers name a job before they start it
WIDTH = 72  # columns: with fewer, a run's seed and bar are left out
BAR = 14
OTHER_LINES = 4  # of the terminal's height, which the runs at work leave free


class Display:
    """Shows the state of the plan's runs; `update` is to be called often."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        console: Console | None = None,
        *,
        known: Mapping[str, float] | None = None,
        at_a_time: int = 1,
    ) -> None:
        """`known` and `at_a_time`: see TimeLeft."""
        self._plan, self._store = plan, store
        self._console = console or Console(stderr=True)
        self._terminal = live_on(self._console)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._over: dict[str, str] = {}
        self._said: float | None = None
        self._log: Path | None = None
        self._idle_since = self._told = self._begun = time.monotonic()
        self._left = TimeLeft(plan.unique(), known, at_a_time)
        self._look()

    def __enter__(self) -> Self:
        if self._terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
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
        now = time.monotonic()
        if self._terminal:
            self._live.update(self._picture(working), refresh=True)
        elif self._said is None or now - self._said >= plain_seconds(now - self._begun):
            self._said = now
            self._console.print(self.headline(working), highlight=False, soft_wrap=True)

    def _say_why(self) -> None:
        """Where nothing has started for IDLE_SECONDS, say so, with the log's last words, and again as often."""
        now = time.monotonic()
        if self._log is None or now - self._told < IDLE_SECONDS:
            return
        self._told = now
        words = last_words(self._log)
        says = f"ends with: {words}" if words else "is empty so far"
        if JOB.match(words):
            says = "names the jobs; their processes are starting"
        log = os.path.relpath(self._log)
        log = str(self._log) if log.startswith(os.pardir) else log
        line = f"nothing has been at work for {now - self._idle_since:.0f} s; {log} {says}"
        self._console.print(Text(line), soft_wrap=True)

    def headline(self, working: Mapping[str, Progress]) -> str:
        """`table quick: 7/18 runs done, 1 failed, 2 at work, 41 % of FLOPs, 3 min 20 s left`"""
        total, done = len(self._plan.unique()), sum(state == "done" for state in self._over.values())
        failed = len(self._over) - done
        parts = [f"table {self._plan.table.name}: {done}/{total} runs done"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{len(working)} at work", f"{100 * self._left.share():.0f} % of FLOPs"]
        return ", ".join([*parts, in_words(self._left.seconds())])

    def _look(self) -> dict[str, Progress]:
        """The heartbeats of the runs at work; runs that are over are noted."""
        working: dict[str, Progress | None] = {}
        for spec in self._plan.unique():
            if spec.id in self._over:
                continue
            state = self._store.state(spec.id)
            if state in ("done", "failed"):
                self._over[spec.id] = state
            elif state == "running":
                working[spec.id] = self._store.progress(spec.id)
        self._left.look(time.monotonic(), self._over, working)
        return {run: progress for run, progress in working.items() if progress is not None}

    def _picture(self, working: Mapping[str, Progress]) -> RenderableType:
        width = self._console.width
        whole = Table.grid()
        whole.add_row(ProgressBar(total=1.0, completed=self._left.share(), width=min(60, width)))
        runs = [(spec, working[spec.id]) for spec in self._plan.unique() if spec.id in working]
        shown = runs[: max(1, self._console.height - OTHER_LINES)]
        more = [Text(f"  and {len(runs) - len(shown)} more")] if len(runs) > len(shown) else []
        return Group(Text(self.headline(working)), whole, at_work(shown, width), *more)


def at_work(runs: Iterable[tuple[RunSpec, Progress]], width: int) -> Table:
    """A line for each run, of at most `width` columns."""
    wide = width >= WIDTH
    rows = Table.grid(padding=(0, 1), expand=True)
    rows.add_column(ratio=1, no_wrap=True, overflow="crop")
    for _ in range(3 if wide else 1):
        rows.add_column(no_wrap=True, justify="right")
    for spec, progress in runs:
        step = f"{progress.step}/{progress.total}"
        cells: list[RenderableType] = [Text(f"  {spec.task} {spec.model}{f' seed {spec.seed}' if wide else ''}")]
        if wide:
            loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
            # A run that has no step yet is at 0; the bar would pulse.
            bar = ProgressBar(total=max(1, progress.total), completed=progress.step, width=BAR)
            cells += [bar, Text("tests" if tests(progress) else step), Text(loss)]
        else:
            cells.append(Text("tests" if tests(progress) else step))
        rows.add_row(*cells)
    return rows


def tests(progress: Progress) -> bool:
    """Whether training is over and the test splits are evaluated."""
    return progress.phase == "evaluate" and progress.step >= progress.total


def live_on(console: Console) -> bool:
    """Whether lines can be drawn anew there."""
    return console.is_terminal and not console.is_dumb_terminal


def plain_seconds(since: float) -> float:
    """Seconds between plain lines, so long after the first one."""
    return PLAIN_SECONDS if since < EARLY_SECONDS else LATER_SECONDS


def last_words(log: Path) -> str:
    """The last line of a log that says anything, without Hydra's stamp."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return STAMP.sub("", last)

"""How the benchmarks measure: CPU time of one thread, interleaved medians, peak memory of a fresh process.

A clock on the wall measures the neighbours, too. CPU time of one thread does not, and what is left of them (shared
caches, memory bandwidth, clock rate) hits all contenders alike when their turns alternate. So ratios within one table
mean something; figures of two tables are not to be compared.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from experiments.launching.launch import ENVIRONMENT
from experiments.training import step_times

Row = Mapping[str, Any]


def enter(module: str, arguments: Sequence[str]) -> None:
    """Start `python -m module` anew under the environment that runs have, unless this process has it.

    How malloc keeps its pages is worth a factor of 2 to some contenders, and is read before Python starts.
    """
    if all(os.environ.get(key) == value for key, value in ENVIRONMENT.items()):
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], {**os.environ, **ENVIRONMENT})


def of_a_table(
    module: str, words: Sequence[str], description: str, *, repeats: int, **switches: str
) -> argparse.Namespace:
    """What a benchmark of a table's cells is asked: `table`, `tasks`, `repeats`, `out`. The process measures from here.

    Args:
        module: its name, e.g. `benchmarks.steps`.
        words: its arguments.
        description: of its help.
        repeats: turns where none are given.
        switches: what else can be switched on, and what the help says of it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    for name, said in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=said)
    parser.add_argument("--table", default="quick", help="preset of conf/table (quick)")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="columns (all of the table)")
    parser.add_argument("--repeats", type=positive, default=repeats, help=f"turns of each ({repeats})")
    parser.add_argument("--out", type=Path, help="folder for the tables as Markdown and CSV")
    asked = parser.parse_args(words)
    enter(module, words)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    return asked


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each call, taken in turns; one turn before warms up."""
    return {name: cpu for name, (cpu, _) in step_times.interleaved(calls, repeats).items()}


def exponent(per_token: Mapping[int, float], first: int = 1024, last: int = 16384) -> float | None:
    """e of time ~ n^e, by least squares on logarithms over lengths `first`..`last`; None with fewer than two."""
    points = [(math.log(n), math.log(n * each)) for n, each in per_token.items() if first <= n <= last]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else None


def peak_kib(call: Callable[[], object]) -> float | None:
    """KiB by which the resident memory of this process rises, at its highest, during `call` (Linux, else None)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    call()
    after = _status("VmHWM")
    return None if before is None or after is None else after - before


def in_fresh_process(module: str, arguments: Sequence[str]) -> Any:
    """What `python -m module arguments` prints last, read as JSON.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    words = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    done = subprocess.run(words, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _status(key: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return float(line.split()[1])
    return None


def machine() -> str:
    """The processor, torch and its threads, in a line."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    return f"{name}, torch {torch.__version__}, {torch.get_num_threads()} thread(s){load}"


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


class Report:
    """Tables for the eye, and, where a folder is given, for Markdown and as CSV.

    `part` names the files of what the benchmark `name` measures beside its usual figures.
    """

    def __init__(self, name: str, title: str, out: Path | None, part: str = "") -> None:
        self._name, self._out = part or name, out
        self._console = Console() if sys.stdout.isatty() else Console(width=200)
        self._parts = [f"# {title}", f"`python -m benchmarks.{name} {' '.join(sys.argv[1:])}`", machine()]
        self._console.print(f"[bold]{title}[/]\n{machine()}", highlight=False)

    def say(self, line: str) -> None:
        """A remark below the tables before it."""
        self._parts.append(line)
        self._console.print(line, highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose first column is text."""
        shown = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            shown.add_column(column, justify="right" if index else "left", no_wrap=True)
        for row in rows:
            shown.add_row(*row)
        self._console.print(shown)
        rule = ["---", *["---:"] * (len(columns) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]
        self._parts.append("\n".join([f"## {title}", "", *lines]))

    def write(self, **tables: Sequence[Row]) -> None:
        """NAME.md with all that was shown, and a CSV for each of `tables`."""
        if self._out is None:
            return
        self._out.mkdir(parents=True, exist_ok=True)
        (self._out / f"{self._name}.md").write_text("\n\n".join(self._parts) + "\n")
        for name, rows in tables.items():
            with (self._out / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
                writer.writeheader()
                writer.writerows(rows)


def shown(value: float | None, form: str = ".1f", unit: str = "") -> str:
    """The number, or a dash where there is none."""
    return "-" if value is None else f"{value:{form}}{unit}"

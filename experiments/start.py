"""How our programs start: our modules before a stranger's, output that nothing can stop, errors in one line."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from experiments.errors import main

ROOT = Path(__file__).resolve().parents[1]
OURS = ("experiments", "ressformer", "tasks")
FOLDER = "RESSFORMER_FOLDER"  # Where the first of a chain of programs was called; its children look there, too.


def start(body: Callable[[], int | None]) -> None:
    """Run `body` as a program and leave with its exit code."""
    ours_first()
    sys.stdout = unstoppable(sys.stdout, "replace")
    sys.stderr = unstoppable(sys.stderr, "backslashreplace")
    main(body)


class Ours(MetaPathFinder):
    """Finds our packages where this file lies, whatever else has their names."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of one of our packages, None for all else."""
        return PathFinder.find_spec(fullname, [str(ROOT)]) if fullname in OURS else None


def ours_first() -> None:
    """Look for our packages here and for all else in the user's folder last.

    `python -m` puts the working folder before everything, where a `tasks.py` would be taken for ours; a console script
    leaves it out, and a model of the user's own, named by `_target_`, could not be found.
    """
    if Ours not in sys.meta_path:
        sys.meta_path.insert(0, Ours)
    here, folder = os.getcwd(), os.environ.setdefault(FOLDER, os.getcwd())
    if Path(here) != ROOT:
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
    if folder not in sys.path and Path(folder) != ROOT:
        sys.path.append(folder)


class Unstoppable(io.FileIO):
    """A file whose reader may leave: what is written after that goes nowhere, and the program goes on."""

    def write(self, data: object) -> int:
        """Write; to the null device from the moment that the pipe is closed."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return super().write(data)  # type: ignore[arg-type]


def unstoppable(stream: io.TextIOBase | object, errors: str) -> io.TextIOWrapper:
    """The stream with `errors` for what its encoding lacks, and a reader who may leave; as it is if it is no file."""
    assert isinstance(stream, io.TextIOWrapper)
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
        lines = stream.line_buffering or stream.write_through
        file = io.BufferedWriter(Unstoppable(stream.fileno(), "w", closefd=False))
        return io.TextIOWrapper(file, encoding=stream.encoding, errors=errors, line_buffering=lines)
    return stream

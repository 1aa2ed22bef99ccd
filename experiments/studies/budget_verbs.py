"""What `budget` does: the file of solved sizes is written, completed or compared; the solver is shown at work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import composer
from experiments.studies.budget_table import show, times
from experiments.studies.solved_sizes import presets, stale, write

VERBS = ("lock", "add", "check", "table", "time")


def do(verb: str, names: Sequence[str], path: Path | None) -> int:
    """One of VERBS; 1 if the file says what is not so any more.

    Raises:
        UserError: an unknown budget, or no file where one is needed.
    """
    with composer():
        for name in names:
            if verb not in ("table", "time") or name not in presets():
                raise UserError(unknown("budget", name, presets()))
        if verb in ("table", "time"):
            (show if verb == "table" else times)(names or presets())
            return 0
        if path is None:
            raise UserError(f"budget {verb} needs a file, e.g. --to=tests/data/solved_sizes.csv")
        if verb != "check":
            print(f"written: {path}, {write(path, keep=verb == 'add')} rows")
            return 0
        lines = list(stale(path))
    print("\n".join(lines) if lines else f"{path} is up to date")
    if lines:
        print(f"python -m experiments budget lock --to={path} writes it anew", file=sys.stderr)
    return 1 if lines else 0

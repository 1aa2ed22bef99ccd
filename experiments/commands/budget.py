"""What the solver makes of every budget, model and task.

python -m experiments budget lock --to=tests/data/solved_sizes.csv     # write the file anew
python -m experiments budget add --to=tests/data/solved_sizes.csv      # add what it lacks, keep the rest
python -m experiments budget check --to=tests/data/solved_sizes.csv    # name what is not so any more; 1 if anything
python -m experiments budget table [BUDGET ...]     # all models x budgets x lengths: target, solved, residual
python -m experiments budget time [BUDGET ...]      # what a solve takes
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.commands.words import split_options
from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import composer
from experiments.studies.budget_table import show, times
from experiments.studies.solved_sizes import presets, stale, write

VERBS = ("lock", "add", "check", "table", "time")


def run(arguments: Sequence[str]) -> int:
    """Write, check or print; 1 if a file says what is not so any more.

    Raises:
        UserError: an unknown word or budget, or a file that is not there.
    """
    words, options = split_options("budget", arguments, ("--to",))
    verb, *names = words or [""]
    if verb not in VERBS:
        raise UserError(unknown("word after budget", verb, list(VERBS)))
    with composer():
        for name in names:
            if verb not in ("table", "time") or name not in presets():
                raise UserError(unknown("budget", name, presets()))
        if verb in ("table", "time"):
            (show if verb == "table" else times)(names or presets())
            return 0
        if not options:
            raise UserError(f"budget {verb} needs a file, e.g. --to=tests/data/solved_sizes.csv")
        path = Path(options[-1].partition("=")[2])
        if verb != "check":
            print(f"written: {path}, {write(path, keep=verb == 'add')} rows")
            return 0
        lines = list(stale(path))
    print("\n".join(lines) if lines else f"{path} is up to date")
    if lines:
        print(f"python -m experiments budget lock --to={path} writes it anew", file=sys.stderr)
    return 1 if lines else 0

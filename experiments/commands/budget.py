"""What the solver makes of every preset, model and task.

python -m experiments budget lock       # write conf/budget/<name>.lock.yaml anew
python -m experiments budget add        # write what they lack, a new model or task, and leave the rest as it is
python -m experiments budget check      # name what is stale; 1 if anything is
python -m experiments budget table      # all models x presets x lengths: target, solved, residual
python -m experiments budget time       # what a solve takes
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import CONF, composer
from experiments.studies.budget_locks import completed, lock_of, presets, stale, write
from experiments.studies.budget_table import show, times


def run(arguments: Sequence[str]) -> int:
    """`lock`, `add`, `check`, `table` or `time` for all presets, or for those that are named.

    Raises:
        UserError: an unknown verb or preset.
    """
    verbs = ("lock", "add", "check", "table", "time")
    verb, *names = arguments or [""]
    if verb not in verbs:
        raise UserError(unknown("verb", verb, list(verbs)))
    for name in names:
        if name not in presets():
            raise UserError(unknown("budget", name, presets()))
    with composer():
        if verb in ("table", "time"):
            (show if verb == "table" else times)(names or presets())
            return 0
        if verb in ("lock", "add"):
            for name in names or presets():
                content = lock_of(name) if verb == "lock" else completed(name)
                print(f"written: {write(name, content).relative_to(CONF.parent)}")
            return 0
        lines = [line for name in names or presets() for line in stale(name)]
    print("\n".join(lines) if lines else "all lock files are up to date")
    if lines:
        print("make budgets writes them anew", file=sys.stderr)
    return 1 if lines else 0

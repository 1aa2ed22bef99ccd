"""Run failed and diverged runs of a plan again.

python -m experiments retry --failed table=quick
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.commands import resume
from experiments.commands.words import split_options
from experiments.errors import UserError


def run(arguments: Sequence[str]) -> int:
    """Set the records of failed runs aside and resume the plan; 1 if a run has no result.

    Raises:
        UserError: `--failed` is missing, or what `resume` raises.
    """
    words, options = split_options("retry", arguments, ("--failed",))
    if not options:
        raise UserError("retry runs again what has a record already: say which, e.g. retry --failed table=quick")
    return resume.run([*words, "launcher.retry_failed=true"])

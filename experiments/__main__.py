"""The one command: `python -m experiments VERB ...`; each verb is a file of experiments/commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from experiments.errors import UserError, main, unknown

VERBS = (
    *("train", "reproduce", "sweep", "compare", "depth-curves", "plan", "status", "resume", "retry", "verify", "prune"),
    *("why", "spent", "export", "pack", "unpack", "report", "check-claims", "cost", "budget", "sync"),
)


def program(words: Sequence[str]) -> int:
    """Hand the words after the verb to its command.

    Raises:
        UserError: no such verb, or what the command raises.
    """
    verb, *rest = words or [""]
    if verb not in VERBS:
        raise UserError(unknown("verb", verb, list(VERBS)) if verb else f"no verb; available: {', '.join(VERBS)}")
    # By name, so that `status` does not load what only `train` needs: lightning alone takes 4 s.
    command = importlib.import_module(f"experiments.commands.{verb.replace('-', '_')}")
    code: int = command.run(rest)
    return code


if __name__ == "__main__":
    main(lambda: program(sys.argv[1:]))

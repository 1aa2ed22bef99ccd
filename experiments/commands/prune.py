"""Drop what no run needs any more: half-written files, leases and checkpoints of runs that are over, old logs.

    python -m experiments prune [--yes] [--orphans] [results_dir=FOLDER]

Without `--yes` it only says what would go; `--orphans` takes runs that no plan has, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.commands.words import split_options
from experiments.store.store import Store
from experiments.studies.named_plan import results_dir
from experiments.studies.prune import prune


def run(arguments: Sequence[str]) -> int:
    """Print what may go, and remove it if asked to.

    Raises:
        UserError: an unknown option, or a plan that cannot be read.
    """
    words, options = split_options("prune", arguments, ("--yes", "--orphans"))
    return prune(Store(results_dir(words)), do="--yes" in options, orphans="--orphans" in options)

"""Unpack the archive of a results folder: run folders, plans and exports, as they were packed.

    python -m experiments unpack results_dir=results/reference/mine [--to=results/again]

What is already there stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.commands.pack import folders
from experiments.studies.archiving import unpack_folder


def run(arguments: Sequence[str]) -> int:
    """Unpack, and print how many runs.

    Raises:
        UserError: an unknown word or option, or an archive that is not sound.
    """
    return unpack_folder(*folders("unpack", arguments))

"""Pack the finished runs of a results folder into its archive: few files, read like the runs themselves.

    python -m experiments pack results_dir=results/mine [--to=results/reference/mine]

The archive goes beside the runs, or into another results folder (`--to`); what an archive there has stays in it. Runs,
plans and exports are left where they are. `unpack` is the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.commands.words import split_options
from experiments.errors import UserError
from experiments.store.store import Store
from experiments.studies.archiving import pack_folder
from experiments.studies.named_plan import results_dir


def run(arguments: Sequence[str]) -> int:
    """Pack, and print what it took and takes.

    Raises:
        UserError: an unknown word or option, or a results folder that is not sound.
    """
    root, to = folders("pack", arguments)
    return pack_folder(Store(root, write=False), to)


def folders(verb: str, arguments: Sequence[str]) -> tuple[Path, Path]:
    """The results folder of the words, and the one that `--to=` names; without it the same.

    Raises:
        UserError: an unknown word or option, or no such folder.
    """
    words, options = split_options(verb, arguments, ("--to",))
    for word in words:
        if not word.startswith("results_dir="):
            raise UserError(f"{verb} takes results_dir=FOLDER and --to=FOLDER, not '{word}'")
    root = results_dir(words)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    named = [option.partition("=")[2] for option in options]
    if "" in named:
        raise UserError("--to takes a folder, e.g. --to=results/reference/mine")
    return root, Path(named[-1]).expanduser().absolute() if named else root

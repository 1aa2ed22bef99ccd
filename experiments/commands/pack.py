"""Pack the finished runs of a results folder into an archive of few files.

    python -m experiments pack
    python -m experiments pack --results-dir results/mine --to results/reference/mine

An archive is read like the runs themselves. It goes beside them, or into another results folder; what an archive there
has stays in it. Runs, plans and exports are left where they are. `unpack` is the way back.
"""

from __future__ import annotations

from pathlib import Path

from experiments.commands.parser import Given, Parser
from experiments.store.store import Store
from experiments.studies.archiving import pack_folder
from experiments.studies.named_plan import results_there


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--to", "Results folder of the archive (default: the one that is packed).", metavar="FOLDER")
    parser.results_dir()


def run(given: Given) -> int:
    """Pack, and print what it took and takes."""

    root, to = folders(given)
    return pack_folder(Store(root, write=False), to)


def folders(given: Given) -> tuple[Path, Path]:
    """The results folder, and the one that `--to` names; without it the same.

    Raises:
        UserError: there is no such folder.
    """

    root = results_there(given.overrides)
    return root, Path(given.to).expanduser().absolute() if given.to else root

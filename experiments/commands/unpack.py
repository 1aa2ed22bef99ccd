"""Unpack the archive of a results folder: run folders, plans and exports, as they were packed.

    python -m experiments unpack --results-dir results/reference/mine
    python -m experiments unpack --results-dir results/reference/mine --to results/again

What is already there stays as it is.
"""

from __future__ import annotations

from experiments.commands.pack import folders
from experiments.commands.parser import Given, Parser
from experiments.studies.archiving import unpack_folder


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--to", "Folder that the runs go into (default: beside the archive).", metavar="FOLDER")
    parser.results_dir()


def run(given: Given) -> int:
    """Unpack, and print how many runs."""

    return unpack_folder(*folders(given))

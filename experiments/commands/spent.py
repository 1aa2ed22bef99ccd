"""Add up the FLOPs and hours of all records below a folder.

python -m experiments spent
python -m experiments spent --results-dir results
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.studies.named_plan import results_dir
from experiments.studies.spent import show_spent


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.results_dir()


def run(given: Given) -> int:
    """Print the sums by results folder."""

    return show_spent(results_dir(given.overrides))

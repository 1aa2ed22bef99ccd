"""Run what is missing of a table, then print and write the table.

    python -m experiments reproduce table=quick
    python -m experiments reproduce table=quick 'table.seeds=[0,1]' trainer.optim.lr=1e-3 launcher.n_jobs=1
    python -m experiments reproduce --dry-run table=quick
    python -m experiments reproduce plan=results/plans/quick-0123456789ab.json

A table with a committed reference ends with what that says, and whether these seeds agree with it: one statement over
all cells, at 95 %. Stop it with Ctrl-C; the same command goes on from there.
"""

from __future__ import annotations

from pathlib import Path

from experiments.commands.parser import Given, Parser, folder
from experiments.studies.plan_estimate import show_plan
from experiments.studies.reproduce import REFERENCES, reproduce


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.dry_run()
    parser.results_dir()
    parser.option(
        "--reference-dir",
        "Folder of committed references, each a results folder (default: results/reference).",
        word="reference_dir",
        metavar="FOLDER",
        type=folder,
    )
    parser.key("plan", "FILE", "Carry out a plan as it was frozen, instead of table=.")
    parser.takes_overrides(
        "table=NAME and table.* choose the runs, launcher=NAME who carries them; the rest applies to each run."
    )


def run(given: Given) -> int:
    """Print and write the table; 1 if a run has no result."""
    if given.dry_run:
        return show_plan(given.overrides)
    references = Path(given.reference_dir).expanduser() if given.reference_dir else REFERENCES
    return reproduce(given.overrides, references=references)

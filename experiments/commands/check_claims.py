"""Judge the registered claims by the records: verdict, effect, runs, when it was registered.

    python -m experiments check-claims
    python -m experiments check-claims --claims C1,R2 --results-dir results --benchmarks results/benchmarks

Writes exports/claims.csv.
"""

from __future__ import annotations

from pathlib import Path

from experiments.commands.parser import Given, Parser, folder, listed
from experiments.store.store import Store
from experiments.studies.check_claims import check_claims
from experiments.studies.named_plan import results_dir


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--claims", "Only these.", word="claims", metavar="NAME,NAME", type=listed)
    parser.option(
        "--benchmarks",
        "Folder with the CSV files of benchmarks/ (default: benchmarks in the results folder).",
        word="benchmarks",
        metavar="FOLDER",
        type=folder,
    )
    parser.results_dir()


def run(given: Given) -> int:
    """Judge, write, print."""

    benchmarks = Path(given.benchmarks) if given.benchmarks else None
    return check_claims(Store(results_dir(given.overrides)), given.claims or [], benchmarks)

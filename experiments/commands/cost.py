"""Print what a model costs on a task, module by module: parameters, FLOPs, bytes.

    python -m experiments cost model=ressformer task=chain
    python -m experiments cost model=ressformer task=chain budget=mini
    python -m experiments cost model=ressformer task=chain --csv

Sizes are those of the model's YAML, or solved where a budget is named. Useful FLOPs count the pairs that may influence
the output, executed ones what the kernels are handed.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.studies.model_cost import cost


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--csv", "Print the tree as CSV, per sequence.", action="store_true")
    parser.takes_overrides("model=NAME, task=NAME, budget=NAME and keys of theirs, e.g. model.n_layers=6.")


def run(given: Given) -> int:
    """Print the tree."""

    return cost(given.overrides, as_csv=given.csv)

"""Check a model: causality, padding, batch, state, weights, cost, gradients.

    python -m experiments check model=ressformer task=chain
    python -m experiments check model=ressformer model.n_experts=8 --lengths 33,64
    python -m experiments check model=mine 'allow_targets=[mine]' 'hydra.searchpath=[file://conf_of_mine]'

What a model must stand before a figure of it is believed. Prints each check with what was found, its figures, and what
the model costs. Without task= the model is checked on 64 tokens of a vocabulary of 32, causal. Exits with 1 if a check
fails.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, listed_numbers, whole_number
from experiments.studies.check_model import check_model


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option(
        "--lengths",
        "Lengths in tokens to run at (default: the task's training length, its longest, and an odd one).",
        metavar="N,N",
        type=listed_numbers,
    )
    parser.option("--seed", "Seed of weights and tokens (default: 0).", metavar="N", type=whole_number(0), default=0)
    parser.takes_overrides(
        "model=NAME, task=NAME, budget=NAME and keys of theirs. A model of your own: "
        "hydra.searchpath=[file://FOLDER] is where model/NAME.yaml lies, allow_targets=[PACKAGE] lets its class "
        "be loaded."
    )


def run(given: Given) -> int:
    """Print every check; 1 if one fails."""

    return check_model(given.overrides, lengths=given.lengths or (), seed=given.seed)

"""Run trained models at other depths and draw their quality against the depth.

    python -m experiments depth-curves table=iterations
    python -m experiments depth-curves table=quick 'trainer.eval_depths=[1,2,4,8]'

A loop turns more or less often than it was trained to, a stack is cut short. Writes exports/TABLE-iterations.csv and
the curves.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser
from experiments.studies.depth_curves import depth_curves
from experiments.studies.plan_estimate import show_plan


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.dry_run()
    parser.results_dir()
    parser.takes_overrides("As for reproduce; trainer.eval_depths=[...] says at which depths.")


def run(given: Given) -> int:
    """Write and print the curves; 1 if a run has no result."""

    return show_plan(given.overrides) if given.dry_run else depth_curves(given.overrides)

"""Print what a table or a sweep would run and cost, and freeze it; start nothing.

    python -m experiments plan table=quick
    python -m experiments plan sweep=lr table=quick --trials 8 --no-measure
    python -m experiments plan table=paper --gpu-flops 4e14 --gpu-step-ms 5

Every run with its parameters, steps and FLOPs, then hours and disk in all.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, number_above_zero
from experiments.studies.plan_estimate import assumed_gpu, show_plan


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--no-measure", "Time nothing; hours come from records alone.", action="store_true")
    parser.option("--gpu-flops", "FLOP/s assumed of a GPU.", metavar="NUMBER", type=number_above_zero("1e14"))
    parser.option(
        "--gpu-step-ms",
        "Least milliseconds that a step takes on a GPU.",
        metavar="NUMBER",
        type=number_above_zero("10"),
    )
    parser.trials()
    parser.results_dir()
    parser.plan_words()


def run(given: Given) -> int:
    """Plan, price, print."""

    gpu = assumed_gpu(given.gpu_flops, given.gpu_step_ms)
    return show_plan(given.overrides, measure=not given.no_measure, gpu=gpu)

"""Evaluate the model of a finished run again, or on another task, length or split.

    python -m experiments evaluate run=r0123456789abcde
    python -m experiments evaluate run=r0123456789abcde length=512
    python -m experiments evaluate run=r0123456789abcde task=chain task.facts_max=8 split=test/id

The run must have kept its checkpoint (trainer.keep_checkpoint=true); where it has not, a line says how to get one.
As the run was, it gives the record's figures again, and ends with 1 where they are not the same. Writes nothing.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, listed, whole_number
from experiments.errors import UserError
from experiments.planning.hydra_config import values_of
from experiments.store.store import Store
from experiments.studies.kept_run import evaluate_run, of_task
from experiments.studies.named_plan import results_there


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.key("run", "ID", "The run, or the first digits of its id.")
    parser.key("task", "NAME", "Another task that speaks the same tokens (default: that of the run).")
    parser.option(
        "--split", "Splits, between commas (default: all of test).", word="split", metavar="NAME,NAME", type=listed
    )
    parser.option("--length", "Tokens of an item: task.length=N.", word="length", metavar="N", type=whole_number(1))
    parser.results_dir()
    parser.takes_overrides("task.KEY=VALUE, other settings of the task, e.g. task.n_test=64.")


def run(given: Given) -> int:
    """Print the metrics; 1 if they are not those of the record although they should be."""
    runs = values_of("run", given.overrides)
    if len(runs) != 1:
        raise UserError("evaluate takes one run: run=ID; python -m experiments runs lists them")
    words = of_task(given.overrides)
    words += [f"task.length={given.length}"] if given.length else []
    return evaluate_run(Store(results_there(given.overrides), write=False), runs[0], words, given.split)

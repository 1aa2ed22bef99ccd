"""Compare two models, paired by seed: who wins where, by how much, how sure, at what cost.

    python -m experiments compare ressformer transformer
    python -m experiments compare a=ressformer b=transformer budget=tiny tasks=chain seeds=0,1,2
    python -m experiments compare --dry-run ressformer transformer
    python -m experiments compare ./my.py:MyMixer transformer_rope tasks=mqar

Tasks and budget are those of table=quick unless others are given, the seeds as many as a verdict needs. More than two
models are printed as a table.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, listed
from experiments.errors import UserError
from experiments.studies.compare import compare, compared_words
from experiments.studies.plan_estimate import show_plan


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.takes(
        "[MODEL MODEL]", "Names in conf/model; FILE.py:CLASS or package.module:CLASS is a mixer of your own.", most=99
    )
    parser.option("--a", "The first model.", word="a", metavar="MODEL")
    parser.option("--b", "The second model.", word="b", metavar="MODEL")
    parser.option("--tasks", "Tasks to compare on.", word="tasks", metavar="TASK,TASK", type=listed)
    parser.option("--budget", "Budget of both.", word="budget", metavar="NAME")
    parser.option("--seeds", "Seeds of both.", word="seeds", metavar="N,N", type=listed)
    parser.dry_run()
    parser.results_dir()
    parser.takes_overrides(
        "table=NAME is the preset; table.* changes it, launcher=NAME carries it, the rest applies to each run."
    )


def run(given: Given) -> int:
    """Print and write the comparison; 1 if a run has no result."""

    models = [model for model in (given.a, given.b) if model] + given.names
    if len(models) < 2:
        raise UserError("compare needs two models, e.g. a=ressformer b=transformer tasks=chain")
    words = compared_words(models, given.overrides, given.tasks, given.seeds, given.budget)
    return show_plan(words) if given.dry_run else compare(words)

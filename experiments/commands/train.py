"""Train and evaluate one run, sized to its budget, and write its record.

    python -m experiments train model=ressformer task=chain budget=tiny seed=0
    python -m experiments train -m model=ressformer,transformer task=chain seed=0,1,2
    python -m experiments train --cfg job model=ressformer task=chain

A run that has a record is not trained again. `python -m experiments.train` is the same in Hydra's own form.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, one_of
from experiments.studies.one_run import train


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.option("--multirun", "A run for each combination of values between commas.", short="-m", action="store_true")
    parser.option(
        "--cfg",
        "Print the composed config and train nothing: that of the job, of Hydra, or all.",
        metavar="job|hydra|all",
        type=one_of("job", "hydra", "all"),
    )
    parser.results_dir()
    parser.takes_overrides(
        "Groups (model=, task=, budget=, trainer=, logger=) and keys of conf/config.yaml, e.g. seed=1."
    )


def run(given: Given) -> int:
    """Hand the words to Hydra's main; 1 if the run ended without a result."""

    flags = [*(["--multirun"] if given.multirun else []), *(["--cfg", given.cfg] if given.cfg else [])]
    return train([*flags, *given.overrides])

"""Hash every record of a plan again, derive every identity and the table again.

    python -m experiments verify table=quick
    python -m experiments verify plan=results/plans/quick-0123456789ab.json

Changes nothing. Exits with 1 if anything is not sound.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.results_dir()
    parser.plan_words()


def run(given: Given) -> int:
    """Print what is wrong and what was checked; 1 if anything is wrong."""
    from experiments.studies.named_plan import named_plan
    from experiments.studies.verify import verify

    return verify(*named_plan(given.overrides))

"""Two models, paired, on the tasks, seeds and budget of a preset: who wins where, by how much, how sure, at what cost.

    python -m experiments compare ressformer transformer
    python -m experiments compare a=ressformer b=transformer budget=tiny tasks=[chain] table.seeds=[0,1,2]

Words without `=` are models, as are `a=` and `b=`; the preset is `quick` unless `table=` names another, then with as
many seeds as a verdict needs.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.analysis.significance import BOLD_SEEDS
from experiments.errors import UserError
from experiments.studies.compare import compare

SEEDS = f"table.seeds={list(range(BOLD_SEEDS))}".replace(" ", "")
SHORT = {"budget": "table.budget", "tasks": "table.tasks", "seeds": "table.seeds"}


def run(arguments: Sequence[str]) -> int:
    """Run what is missing of the comparison and print it; 1 if a run failed.

    Raises:
        UserError: fewer than two models, or what `reproduce` raises.
    """
    return compare(spelled_out(arguments))


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """The arguments as overrides of conf/config.yaml."""
    models: list[str] = []
    rest: list[str] = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or key in ("a", "b"):
            models.append(value if sign else key)
        else:
            rest.append(f"{SHORT.get(key, key)}={value}")
    if len(models) < 2:
        raise UserError("compare needs two models, e.g. a=ressformer b=transformer tasks=[chain]")
    preset = [] if any(argument.startswith("table=") for argument in rest) else ["table=quick", SEEDS]
    return [*preset, f"table.models=[{','.join(models)}]", f"table.name=compare-{'-'.join(models)}", *rest]

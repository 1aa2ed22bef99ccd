"""An ad-hoc table of two models, paired, on the tasks, seeds and budget of a preset.

    python -m experiments.compare ressformer transformer
    python -m experiments.compare a=ressformer b=transformer budget=tiny tasks=[chain] table.seeds=[0,1,2]

Words without `=` are models, as are `a=` and `b=`; the preset is `quick` unless `table=` names another.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.cli import main
from experiments.errors import UserError
from experiments.reproduce import reproduce

SHORT = {"budget": "table.budget", "tasks": "table.tasks", "seeds": "table.seeds"}


def compare(arguments: Sequence[str]) -> int:
    """Run what is missing of the comparison and print it.

    Raises:
        UserError: fewer than two models, or what `reproduce` raises.
    """
    return reproduce(spelled_out(arguments))


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
    preset = [] if any(argument.startswith("table=") for argument in rest) else ["table=quick"]
    return [*preset, f"table.models=[{','.join(models)}]", f"table.name=compare-{'-'.join(models)}", *rest]


if __name__ == "__main__":
    main(lambda: compare(sys.argv[1:]))

"""Go on with a plan as it was frozen, whatever the configs say by now.

python -m experiments resume table=quick
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.studies.named_plan import frozen
from experiments.studies.reproduce import reproduce


def run(arguments: Sequence[str]) -> int:
    """Run what is missing of the newest plan of that name and print its table; 1 if a run has no result.

    Raises:
        UserError: no such plan, or what `reproduce` raises.
    """
    _, path = frozen(arguments)
    return reproduce([f"plan={path}", *(word for word in arguments if word.startswith("launcher"))])

"""Going on with a plan as it was frozen."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.studies.named_plan import frozen
from experiments.studies.reproduce import reproduce


def resume(words: Sequence[str]) -> int:
    """Run what is missing of the newest plan that the words name and print its table; 1 if a run has no result.

    Raises:
        UserError: no such plan, or what `reproduce` raises.
    """
    _, path = frozen(words)
    return reproduce([f"plan={path}", *(word for word in words if word.startswith("launcher"))])

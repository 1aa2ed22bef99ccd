"""FLOPs and hours of all records below a folder.

python -m experiments spent results_dir=results
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.studies.named_plan import results_dir
from experiments.studies.spent import show_spent


def run(arguments: Sequence[str]) -> int:
    """Print the sums by results folder.

    Raises:
        UserError: no records there.
    """
    return show_spent(results_dir(arguments))

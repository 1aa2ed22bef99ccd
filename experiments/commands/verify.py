"""Hash every record of a plan again, derive every identity and the table again.

python -m experiments verify table=quick
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.studies.named_plan import named_plan
from experiments.studies.verify import verify


def run(arguments: Sequence[str]) -> int:
    """Print what is wrong and what was checked; 1 if anything is wrong.

    Raises:
        UserError: no such plan, or a record that cannot be read.
    """
    return verify(*named_plan(arguments))

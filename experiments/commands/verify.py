"""Hash every record again, derive every identity and every figure again.

    python -m experiments verify table=quick
    python -m experiments verify results_dir=results/reference/mine      # all that the folder has

Without a table or plan, every record and every plan of the results folder is verified: run folders and archive.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.errors import UserError
from experiments.store.store import Store
from experiments.studies.named_plan import named_plan, results_dir
from experiments.studies.verify import verify, verify_all


def run(arguments: Sequence[str]) -> int:
    """Print what is wrong and what was checked; 1 if anything is wrong.

    Raises:
        UserError: no such plan or folder.
    """
    if [word for word in arguments if not word.startswith("results_dir=")]:
        plan, _, store = named_plan(arguments)
        return verify(plan, store)
    root = results_dir(arguments)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    return verify_all(Store(root, write=False))

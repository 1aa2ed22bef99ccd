"""Plan a table, run what is missing, print the table.

python -m experiments reproduce table=quick
"""

from __future__ import annotations

from experiments.studies.reproduce import reproduce as run

__all__ = ["run"]

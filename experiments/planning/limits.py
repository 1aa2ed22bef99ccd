"""How much can be asked for."""

from __future__ import annotations

import math

from experiments.errors import UserError

LARGEST_SEED = 2**63 - 1  # of torch's generators
LARGEST_COUNT = 10**12
MOST_RUNS = 100_000  # of a table: to plan 10,000 takes two seconds (benchmarks/ledger.py), and a folder for each


def require_runs(*counts: int) -> None:
    """Raise UserError if the product of the counts is more runs than a table may have."""
    if (runs := math.prod(counts)) > MOST_RUNS:
        of = " x ".join(f"{count:,}" for count in counts if count > 1)
        raise UserError(f"a table has at most {MOST_RUNS:,} runs, and this asks for {of} = {runs:,}; ask for fewer")

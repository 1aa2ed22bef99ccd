"""Run a sweep: a grid of overrides, a tuning, or variants.

python -m experiments sweep sweep=lr table=quick
"""

from __future__ import annotations

from experiments.studies.sweep import sweep as run

__all__ = ["run"]

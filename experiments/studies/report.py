"""The readable report of a table, from records alone."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.reporting.html_page import write_html
from experiments.studies.named_plan import named_plan


def report(words: Sequence[str], *, figures: bool) -> int:
    """Write the page of the table that the words name, and its figures as files.

    Raises:
        UserError: see experiments.studies.named_plan.
    """
    plan, _, store = named_plan(words, make=True)
    print(f"written: {write_html(plan, store, figures=figures)}")
    return 0

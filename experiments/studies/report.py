"""The readable report of a table, from records alone."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.reporting.html_page import write_html
from experiments.studies.reproduce import prepare


def report(words: Sequence[str], *, figures: bool) -> int:
    """Write the page of the table that the words name, and its figures as files.

    Raises:
        UserError: see experiments.studies.reproduce.
    """
    plan, _, store, _ = prepare(words)
    print(f"written: {write_html(plan, store, figures=figures)}")
    return 0

"""Write the readable report of a table. Runs nothing.

    python -m experiments report table=quick [figures=false]

Writes <results_dir>/exports/<table>.html, and each figure as PNG and PDF into exports/figures/<table>/ unless
figures=false.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.errors import UserError
from experiments.planning.hydra_config import values_of
from experiments.reporting.html_page import write_html
from experiments.studies.reproduce import prepare


def run(arguments: Sequence[str]) -> int:
    """Write the page.

    Raises:
        UserError: see experiments.studies.reproduce.
    """
    figures = [value.lower() for value in values_of("figures", arguments)]
    if any(value not in ("true", "false") for value in figures):
        raise UserError(f"figures is true or false, got {figures[-1]}")
    plan, _, store, _ = prepare([a for a in arguments if not a.startswith("figures=")])
    print(f"written: {write_html(plan, store, figures=figures[-1:] != ['false'])}")
    return 0

"""The readable report of a table, or an index over all that lies in a results folder; from records alone."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.analysis.trials import is_sweep_plan
from experiments.errors import UserError
from experiments.planning.hydra_values import override_key
from experiments.planning.plan import Plan, load_plan, plan_files
from experiments.reporting.html_page import write_html
from experiments.reporting.index_page import write_index
from experiments.store.store import Store
from experiments.studies.named_plan import has_results, named_plan, results_there, with_results


def report(words: Sequence[str], *, figures: bool) -> int:
    """Write the page of the table that the words name, and its figures as files; without a table, the index.

    Raises:
        UserError: see experiments.studies.named_plan; or there is nothing to show.
    """
    if all(override_key(word) == "results_dir" for word in words):
        return index(words, figures=figures)
    plan, _, store = named_plan(words, make=True)
    print(f"written: {write_html(plan, store, figures=figures)}")
    return 0


def index(words: Sequence[str], *, figures: bool) -> int:
    """Write the page of every table that has results, and one over all tables, sweeps and scale fits.

    Raises:
        UserError: nothing has been planned in the folder.
    """
    store = Store(results_there(words), write=False)
    plans = shown_plans(store)
    if not plans:
        raise UserError(f"nothing has been planned in {store.root}: make reproduce-table TABLE=quick, or name a table")
    swept = [plan for plan in plans if is_sweep_plan(plan, store.export(f"{plan.table.name}.csv") or "")]
    tables = [plan for plan in plans if plan not in swept]
    for plan in tables:
        if has_results(plan, store):
            print(f"written: {write_html(plan, store, figures=figures)}")
    print(f"written: {write_index(tables, swept, store)}")
    return 0


def shown_plans(store: Store) -> list[Plan]:
    """Of each name the newest plan that has results, else the newest."""
    names = {name: path for path, name in plan_files(store.root / "plans").items()}
    found = []
    for name in sorted(names):
        best = with_results(store, name)
        found.append(best[0] if best else load_plan(names[name]))
    return found

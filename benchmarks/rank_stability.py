"""Does a table order its models the same way when it is run again with other seeds?

    python -m benchmarks.rank_stability results/a results/b results/c --out results/benchmarks

Each folder is a results folder (its runs/ holds the records). In each, models are ordered by the mean of the task's
primary metric over their seeds; two folders are compared by Spearman's and Kendall's (tau-b, ties allowed) rank
correlation over the models that both have. The same run in two folders would agree with itself, so folders that share
a run are refused.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau, spearmanr

from benchmarks.measure import Report, shown
from experiments.errors import UserError
from experiments.store.records import Record
from experiments.store.store import Store

Means = dict[str, dict[str, float]]  # task -> model -> mean of the primary metric, higher is better
FEWEST = 3  # models; two agree or disagree by a coin


def means(records: Sequence[Record], split: str = "test/id") -> Means:
    """The mean over seeds, per task and model; a run without a result leaves its model out of the task."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for record in records:
        info = record.spec.task_info
        value = record.metrics.get(split, {}).get(info.metric) if record.status == "done" else None
        signed = None if value is None else value if info.higher_is_better else -value
        found.setdefault(record.spec.task, {}).setdefault(record.spec.model, []).append(signed)
    return {
        task: {m: statistics.fmean(v for v in vs if v is not None) for m, vs in models.items() if None not in vs}
        for task, models in found.items()
    }


def correlations(tables: Mapping[str, Means]) -> list[dict[str, Any]]:
    """One row per task and pair of tables; None where fewer than `FEWEST` models are shared or all are tied."""
    rows: list[dict[str, Any]] = []
    for one, two in itertools.combinations(tables, 2):
        for task in [task for task in tables[one] if task in tables[two]]:
            a, b = tables[one][task], tables[two][task]
            shared = [model for model in a if model in b]
            x, y = [a[m] for m in shared], [b[m] for m in shared]
            ranked = len(shared) >= FEWEST and len(set(x)) > 1 and len(set(y)) > 1
            rows.append(
                {
                    "task": task,
                    "one": one,
                    "two": two,
                    "models": len(shared),
                    "spearman": float(spearmanr(x, y).statistic) if ranked else None,
                    "kendall": float(kendalltau(x, y).statistic) if ranked else None,
                }
            )
    return rows


def per_task(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and least correlation of each task over the pairs that have one."""
    found = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        rho = [row["spearman"] for row in own if row["spearman"] is not None]
        tau = [row["kendall"] for row in own if row["kendall"] is not None]
        found.append(
            {
                "task": task,
                "pairs": len(own),
                "ranked": len(rho),
                "spearman": statistics.fmean(rho) if rho else None,
                "spearman_min": min(rho, default=None),
                "kendall": statistics.fmean(tau) if tau else None,
                "kendall_min": min(tau, default=None),
            }
        )
    return found


def read(folders: Sequence[Path]) -> dict[str, Means]:
    """The means of each folder.

    Raises:
        UserError: fewer than two folders, a folder without records, or a run that two folders share.
    """
    if len(folders) < 2:
        raise UserError("rank stability needs two results folders or more, each of a run with other seeds")
    seen: dict[str, Path] = {}
    tables: dict[str, Means] = {}
    for folder in folders:
        records = found_in(folder)
        if not records:
            raise UserError(f"{folder} holds no records: name results folders, with runs/ or an archive in them")
        for record in records:
            if record.spec.id in seen:
                raise UserError(f"run {record.spec.id} is in {seen[record.spec.id]} and in {folder}: use other seeds")
            seen[record.spec.id] = folder
        tables[str(folder)] = means(records)
    return tables


def found_in(folder: Path) -> list[Record]:
    """The records of a results folder."""
    store = Store(folder, write=False)
    return list(store.records(store.ids()).values())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rank_stability", description="Rank correlation between re-runs."
    )
    parser.add_argument("folders", type=Path, nargs="+", help="results folders, one per re-run")
    parser.add_argument("--out", type=Path, help="folder for rank_stability.md and CSV files")
    asked = parser.parse_args(arguments)
    try:
        rows = correlations(read(asked.folders))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    report = Report("rank_stability", "Rank correlation of model orderings between re-runs", asked.out)
    sums = per_task(rows)
    keys = ("spearman", "spearman_min", "kendall", "kendall_min")
    cells = [
        [row["task"], str(row["pairs"]), str(row["ranked"]), *(shown(row[k], ".2f") for k in keys)] for row in sums
    ]
    heads = ["task", "pairs", "ranked", "Spearman, mean", "least", "Kendall, mean", "least"]
    report.table("Per task", heads, cells)
    report.write(rank_stability=sums, rank_pairs=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

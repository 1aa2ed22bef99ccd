"""The verdicts of the records on the claims of claims.yaml.

`make check-claims` prints them. The rule is that of experiments.analysis.verdict, in the head of claims.yaml in words.
Nothing is run: a claim whose table has no plan, or one that is not complete, is "not run".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import scipy  # loads its parts when they are first asked for

from experiments.analysis.claim_schema import FILE, Claim, Finding, Outcome, Quantity, Source, load_claims
from experiments.analysis.gates import NoLevel, as_error, gate
from experiments.analysis.pace import seconds_saved
from experiments.analysis.verdict import Comparison, Gate, verdict
from experiments.errors import UserError
from experiments.planning.plan import Plan
from experiments.planning.table_plans import plans_of
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.store.timings import read_timings

__all__ = ["FILE", "Claim", "Finding", "judge", "load_claims"]
Rows = dict[str, dict[int, Record]]  # of one task: per row of the table, its runs by seed
Saving = Callable[[Record, Record], float | None]  # share of the second run's seconds that the first one saves


class NotRun(Exception):
    """Runs or figures that the claim needs are missing; the message says which."""


def plan_with(plans: Iterable[Plan], cells: Collection[tuple[str, str]], over: Callable[[str], bool]) -> Plan | None:
    """Of `plans` that have every (model, task) of `cells`, the one of which the most runs are over; on a tie the first.

    Without one the first of all; None if there are none. A table of days is run in parts, each a plan of its own.
    """
    found = list(plans)
    fits = [p for p in found if {(spec.model, spec.task) for spec in p.runs}.issuperset(cells)] or found[:1]
    count = [sum((s.model, s.task) in cells and over(s.id) for s in plan.runs) for plan in fits]
    return fits[count.index(max(count))] if fits else None


def judge(name: str, claim: Claim, store: Store, benchmarks: Path) -> Finding:
    """The verdict on one claim.

    Args:
        name: its id.
        claim: the claim.
        store: where plans and records are.
        benchmarks: the folder of the CSV files that benchmarks wrote.

    Raises:
        UserError: the claim names a metric that its task does not have.
    """
    base: dict[str, Any] = {"id": name, "statement": claim.statement, "hash": claim.hash}
    if claim.withdrawn:
        return Finding(**base, verdict="withdrawn", why=claim.withdrawn)
    if claim.draft:
        return Finding(**base, verdict="not run", why=f"not registered yet: {claim.draft}")
    if claim.source is not None:
        return _judge_exponent(base, claim, claim.source, benchmarks)
    try:
        plan = _plan(claim, store)
        records = store.records(dict.fromkeys(spec.id for spec in plan.runs if spec.task in claim.tasks))
        tables = _complete(claim, plan, records)
        saving = _saving(claim, plan, store)
        found = verdict(list(_comparisons(claim, tables, saving)), claim.smallest_effect, claim.alpha)
    except NotRun as missing:
        why = f"{missing}; needs {claim.needs}" if claim.needs else str(missing)
        return Finding(**base, verdict="not run", why=why)
    except NoLevel as missing:
        return Finding(**base, verdict="not testable", why=str(missing))
    figures = {key: getattr(found, key) for key in ("verdict", "effect", "low", "high", "p", "hardest")}
    started = min(record.measured.started for record in records.values())
    return Finding(**base, **figures, why=found.reason, runs=sorted(records), started=started)


def _plan(claim: Claim, store: Store) -> Plan:
    """The newest plan of the claim's table that has all of its cells."""
    others = [other for quantity in claim.quantities for other in quantity.against or ()]
    wanted = dict.fromkeys([str(claim.model), *claim.against, *others])
    cells = [(model, task) for task in claim.tasks for model in wanted]
    plan = plan_with(plans_of(store.root / "plans", str(claim.table)), cells, lambda run: store.status(run) is not None)
    if plan is None:
        raise NotRun(f"no plan of table {claim.table}")
    have = {(spec.model, spec.task) for spec in plan.runs}
    if lacking := [f"{model} on {task}" for model, task in cells if (model, task) not in have]:
        raise NotRun(f"table {claim.table} lacks {', '.join(lacking)}")
    return plan


def _complete(claim: Claim, plan: Plan, records: Mapping[str, Record]) -> dict[str, Rows]:
    """Per task of the claim, every row of the table with its runs by seed; all that was planned must be done."""
    wanted = [spec for spec in plan.runs if spec.task in claim.tasks]
    tables: dict[str, Rows] = {}
    done = failed = 0
    for spec in wanted:
        record = records.get(spec.id)
        failed += record is not None and record.status != "done"
        if record is not None and record.status == "done":
            done += 1
            tables.setdefault(spec.task, {}).setdefault(spec.model, {})[spec.seed] = record
    if done < len(wanted):
        ill = f", {failed} failed" if failed else ""
        raise NotRun(f"{done} of {len(wanted)} runs of table {claim.table} are done{ill}")
    return tables


def _saving(claim: Claim, plan: Plan, store: Store) -> Saving:
    """The share of seconds that one run saves over another; a claim about seconds needs the step times of its table."""
    if not any(quantity.equal for quantity in claim.quantities):
        return lambda mine, theirs: None
    timings = read_timings(store, plan.table.name, str(claim.table))
    if timings is None:
        raise NotRun(f"no step times: python -m experiments time table={claim.table}")
    return lambda mine, theirs: seconds_saved(mine, theirs, store, timings)


def _comparisons(claim: Claim, tables: Mapping[str, Rows], saving: Saving) -> Iterator[Comparison]:
    for quantity in claim.quantities:
        for task in claim.tasks:
            for end in quantity.ends:
                yield from _at_place(claim, quantity, task, end, tables[task], saving)


def _at_place(
    claim: Claim, quantity: Quantity, task: str, end: str, rows: Rows, saving: Saving
) -> Iterator[Comparison]:
    """The comparisons of the claim's model with each other one in one quantity of a task."""
    model, others = str(claim.model), quantity.against or claim.against
    spec = next(iter(rows[model].values())).spec
    info = spec.task_info
    metric = claim.metric or info.metric
    if metric != info.metric and not metric.startswith(f"{info.metric}/"):
        raise UserError(f"claims.yaml: {task} has the metric {info.metric} and parts of it, {metric} is neither")
    start = Quantity(split=quantity.gate_split)
    means = {row: _mean(start, runs, metric) for row, runs in rows.items()}
    levels = {row: mean for row, mean in means.items() if mean is not None}
    place = quantity.place(task, end)
    if quantity.measured is None and not levels:
        raise NotRun(f"no run has {metric} on {task} {quantity.gate_split}")
    found = None
    if quantity.measured is None:
        own = {row: next(iter(runs.values())).spec for row, runs in rows.items() if runs}
        found = gate(spec, quantity.gate_split, metric, levels, claim.gate, {model, *others}, own)
    for other in others:
        mine, theirs = _values(quantity, rows[model], rows[other], metric, end, saving)
        if len(shared := set(mine) & set(theirs)) < claim.seeds:
            raise NotRun(f"{len(shared)} of {claim.seeds} seeds: {place} over {other}")
        timed = quantity.equal is not None
        yield Comparison(
            other=other,
            place=f"{place} with {other}" if timed and len(others) > 1 else place,
            mine=mine,
            theirs=theirs,
            higher_is_better=timed or (quantity.measured is None and info.higher_is_better),
            gate=as_error(found) if timed and found else found,
            reach=_reach(quantity, found, info.chance.get(end)),
        )


def _values(
    quantity: Quantity, mine: Mapping[int, Record], theirs: Mapping[int, Record], metric: str, end: str, saving: Saving
) -> tuple[dict[int, float], dict[int, float]]:
    """The values of both rows by seed; of time to an equal validation the share that was saved, and 0."""
    if quantity.equal is not None:
        saved = {seed: saving(mine[seed], theirs[seed]) for seed in sorted(set(mine) & set(theirs))}
        known = {seed: value for seed, value in saved.items() if value is not None}
        return known, dict.fromkeys(known, 0.0)
    sides = [{seed: quantity.of(record, metric, end) for seed, record in side.items()} for side in (mine, theirs)]
    first, second = ({seed: v for seed, v in side.items() if v is not None} for side in sides)
    return first, second


def _mean(quantity: Quantity, runs: Mapping[int, Record], metric: str) -> float | None:
    values = [value for record in runs.values() if (value := quantity.of(record, metric)) is not None]
    return math.fsum(values) / len(values) if values else None


def _reach(quantity: Quantity, found: Gate | None, chance: float | None) -> tuple[float, float] | None:
    """The worst and the best change of an accuracy: from 1 to chance, and from chance to 1. None: as the gate says."""
    if quantity.to is None or found is None or found.chance is None:
        return None
    return (found.chance if chance is None else chance) - 1.0, 1.0 - found.chance


def _judge_exponent(base: Mapping[str, Any], claim: Claim, source: Source, folder: Path) -> Finding:
    """Slope of log y over log x by least squares, with its t-interval, against the bound."""
    assert claim.exponent_below is not None
    path = folder / source.csv
    if not path.is_file():
        return Finding(**base, verdict="not run", why=f"no {source.csv} of benchmarks/")
    rows = pd.read_csv(path)
    for column, value in source.where.items():
        rows = rows[rows[column].astype(str) == value] if column in rows else rows.iloc[:0]
    known = source.x in rows and source.y in rows
    rows = rows[rows[source.x] >= source.start].dropna(subset=[source.x, source.y]) if known else rows.iloc[:0]
    if len(rows) < 4:
        return Finding(**base, verdict="not run", why=f"{len(rows)} points in {source.csv}, at least 4 are needed")
    logs = [[math.log(value) for value in rows[key]] for key in (source.x, source.y)]
    fit = scipy.stats.linregress(*logs)
    half = float(scipy.stats.t.ppf(1 - claim.alpha, len(rows) - 2)) * float(fit.stderr)
    low, high = float(fit.slope) - half, float(fit.slope) + half
    outcome: Outcome = (
        "supported" if high <= claim.exponent_below else "refuted" if low > claim.exponent_below else "underpowered"
    )
    return Finding(**base, verdict=outcome, effect=float(fit.slope), low=low, high=high, hardest="exponent")

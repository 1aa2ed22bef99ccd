"""Claims, written down as inequalities before the runs, and the verdicts of the records on them.

`make check-claims` prints them. The rule of a verdict stands in the head of claims.yaml. Nothing is run: a claim whose
table has no plan or too few records is "not run".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import scipy  # loads its parts when they are first asked for
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from experiments.analysis.pace import seconds_saved
from experiments.analysis.significance import holm, one_sided_p, summary
from experiments.errors import UserError
from experiments.planning.plan import Plan, plans_of
from experiments.store import atomic_files as atomic
from experiments.store.records import Record
from experiments.store.store import Store

FILE = Path(__file__).resolve().parents[1] / "claims.yaml"
Verdict = Literal["supported", "refuted", "underpowered", "not run", "withdrawn"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Quantity(Strict):
    """What is compared: a split's primary metric, its change to other splits, a measured figure, or time to a loss."""

    split: str | None = None
    start: str | None = Field(default=None, alias="from")
    to: str | list[str] | None = None
    measured: str | None = None
    equal: Literal["seconds"] | None = None

    @model_validator(mode="after")
    def _one(self) -> Quantity:
        given = [self.split is not None, self.start is not None and bool(self.to), self.measured is not None]
        given += [self.equal is not None]
        if sum(given) != 1 or (self.start is None) != (self.to is None):
            raise ValueError("a quantity is one of: split, from with to, measured, equal")
        return self

    @property
    def ends(self) -> list[str]:
        """The splits that a change leads to; one empty name where the quantity is no change."""
        return [""] if self.to is None else [self.to] if isinstance(self.to, str) else self.to

    def of(self, record: Record, end: str = "") -> float | None:
        """The run's value, in a direction in which higher is better; None where the record lacks it."""
        if self.measured is not None:
            cost = getattr(record.measured, self.measured, None)
            return None if cost is None else -float(cost)
        info = record.spec.task_info
        sign = 1.0 if info.higher_is_better else -1.0
        splits = [self.split] if self.split is not None else [self.start, end]
        found = [record.metrics.get(str(split), {}).get(info.metric) for split in splits]
        known = [sign * value for value in found if value is not None]
        if len(known) < len(found):
            return None
        return known[0] if len(known) == 1 else known[1] - known[0]


class Source(Strict):
    """Rows of a CSV that a benchmark wrote."""

    csv: str
    where: dict[str, str]
    x: str
    y: str
    start: float = Field(alias="from")


class Claim(Strict):
    """One claim; see claims.yaml."""

    statement: str
    alpha: float = Field(gt=0, lt=0.5)
    table: str | None = None
    model: str | None = None
    against: list[str] = []
    tasks: list[str] = []
    quantity: Quantity | None = None
    smallest_effect: float = Field(default=0.0, ge=0)
    seeds: int = Field(default=5, ge=3)
    source: Source | None = None
    exponent_below: float | None = None
    needs: str = ""
    withdrawn: str | None = Field(default=None, min_length=1)  # why it gets no verdict, whatever its records say

    @model_validator(mode="after")
    def _whole(self) -> Claim:
        compared = all((self.table, self.model, self.against, self.tasks, self.quantity))
        fitted = self.source is not None and self.exponent_below is not None
        if compared == fitted:
            raise ValueError(
                "a claim has either table, model, against, tasks and quantity, or source and exponent_below"
            )
        return self

    @property
    def hash(self) -> str:
        """Twelve hex digits of all that the claim says."""
        said = self.model_dump(mode="json", by_alias=True, exclude={"needs", "withdrawn"})
        if self.quantity is not None and self.quantity.equal is None:
            del said["quantity"]["equal"]  # without it a claim is named as it always was
        return atomic.digest(said, 12)


class Finding(Strict):
    """What the records say of one claim. Effects are improvements: positive speaks for the claim."""

    id: str
    statement: str
    verdict: Verdict
    hash: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    hardest: str = ""
    why: str = ""
    runs: list[str] = []
    started: str | None = None


def load_claims(path: Path = FILE, text: str | None = None) -> dict[str, Claim]:
    """The registered claims.

    Raises:
        UserError: the file cannot be read, or a claim is not well formed.
    """
    try:
        raw = yaml.safe_load(path.read_text() if text is None else text)["claims"]
        return {str(key): Claim.model_validate(value) for key, value in raw.items()}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path.name}: {error.title}: {where}: {first['msg']}") from None
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path.name} holds no claims: {error}") from None


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
    """
    base: dict[str, Any] = {"id": name, "statement": claim.statement, "hash": claim.hash}
    if claim.withdrawn:
        return Finding(**base, verdict="withdrawn", why=claim.withdrawn)
    if claim.source is not None:
        return _judge_exponent(base, claim, claim.source, benchmarks)
    cells = {(model, task) for model in (str(claim.model), *claim.against) for task in claim.tasks}
    plan = plan_with(plans_of(store.root / "plans", str(claim.table)), cells, lambda run: store.status(run) is not None)
    if plan is None:
        return Finding(**base, verdict="not run", why=_missing(claim, f"no plan of table {claim.table}"))
    wanted = {claim.model, *claim.against}
    specs = [spec for spec in plan.runs if spec.model in wanted and spec.task in claim.tasks]
    records = store.records(dict.fromkeys(spec.id for spec in specs))
    done: Cells = {}
    for spec in specs:
        if (record := records.get(spec.id)) is not None and record.status == "done":
            done.setdefault((spec.model, spec.task), {})[spec.seed] = record
    found: list[tuple[str, list[float]]] = []
    for what, pairs in _comparisons(claim, done, store):
        if len(pairs) < claim.seeds:
            why = f"{len(pairs)} of {claim.seeds} seeds: {what}"
            return Finding(**base, verdict="not run", why=_missing(claim, why))
        found.append((what, pairs))
    started = min(record.measured.started for record in records.values())
    return Finding(**base, **_verdict(claim, found), runs=sorted(records), started=started)


Cells = dict[tuple[str, str], dict[int, Record]]


def _missing(claim: Claim, why: str) -> str:
    return f"{why}; needs {claim.needs}" if claim.needs else why


def _comparisons(claim: Claim, done: Cells, store: Store) -> Iterator[tuple[str, list[float]]]:
    """Each comparison of a claim, and the improvement of the model over the other by seed."""
    quantity = claim.quantity
    assert quantity is not None
    for task in claim.tasks:
        for end in quantity.ends:
            for other in claim.against:
                mine, theirs = done.get((str(claim.model), task), {}), done.get((other, task), {})
                pairs = [(mine[seed], theirs[seed]) for seed in sorted(set(mine) & set(theirs))]
                if quantity.equal is not None:
                    gains = [seconds_saved(a, b, store) for a, b in pairs]
                else:
                    values = [(quantity.of(a, end), quantity.of(b, end)) for a, b in pairs]
                    gains = [None if a is None or b is None else a - b for a, b in values]
                place = f"{task} {end}" if len(quantity.ends) > 1 else task
                yield f"{place}, over {other}", [gain for gain in gains if gain is not None]


def _verdict(claim: Claim, found: Sequence[tuple[str, list[float]]]) -> dict[str, Any]:
    """The rule of claims.yaml on paired differences; the figures are those of the hardest comparison."""
    adjusted = holm([one_sided_p(differences) for _, differences in found])
    sums = [summary(differences, 1 - 2 * claim.alpha) for _, differences in found]
    least = claim.smallest_effect
    won = [p <= claim.alpha and s.mean is not None and s.mean >= least for p, s in zip(adjusted, sums, strict=True)]
    lost = [s.high is not None and (s.high < least or (least == 0 and s.high <= 0)) for s in sums]
    verdict: Verdict = "refuted" if any(lost) else "supported" if all(won) else "underpowered"
    worst = min(range(len(sums)), key=lambda i: sums[i].mean or 0.0)
    hard = sums[worst]
    figures = {"effect": hard.mean, "low": hard.low, "high": hard.high, "p": adjusted[worst]}
    return {"verdict": verdict, "hardest": found[worst][0], **figures}


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
    verdict: Verdict = (
        "supported" if high <= claim.exponent_below else "refuted" if low > claim.exponent_below else "underpowered"
    )
    return Finding(**base, verdict=verdict, effect=float(fit.slope), low=low, high=high, hardest="exponent")
